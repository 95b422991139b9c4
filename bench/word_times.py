"""Computes delay and errors of the words of known utterances from the events of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from abhinaya.bench.clips import distance, words_of
from abhinaya.bench.monitored import Watcher
from abhinaya.bench.report import percentiles
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.wire.messages import Activity, Event, StreamStarted, Transcript, Verdict

_EARLY: Final = to_samples(0.5)
"""Maximum time from the start of a segment to the start of its utterance, in samples."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An utterance or turn and its place in a stream, in samples."""

    start: int
    end: int
    name: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Message:
    """A transcript and the time when it reached the sink."""

    at_unix_s: float
    start: int
    end: int
    transcript: Transcript


@dataclass(slots=True)
class WordTimes(Watcher):
    """Collects the words of a run. `streams`: stream name -> its utterances."""

    streams: Mapping[str, Sequence[Placed]]
    _zero: dict[str, float] = field(default_factory=dict)
    _messages: dict[str, list[_Message]] = field(default_factory=dict)

    def event(self, event: Event, now_unix_s: float) -> None:
        """Record the start of a stream, or a final transcript."""
        if isinstance(event, StreamStarted):
            self._zero[event.info.stream] = event.info.start_unix_s
        elif isinstance(event, Verdict) and event.revision == 0:
            self.provisional(event, now_unix_s)

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Record a transcript, final or provisional."""
        if isinstance(event, Verdict) and event.transcript is not None and event.transcript.text:
            message = _Message(now_unix_s, event.start, event.end, event.transcript)
            self._messages.setdefault(event.stream, []).append(message)

    def result(self, whole_errors: Mapping[str, int]) -> dict[str, Any]:
        """Return the figures of all utterances.

        `final_s`: percentiles of the seconds from the end of an utterance to the message with its
        last word; `first_s`: from its start to the first message with its words; `missing`:
        utterances without a final word; `spoken`: share of speech in the audio; `whole_errors`:
        errors when the same model transcribes each utterance alone and uncut.
        """
        finals: list[float] = []
        firsts: list[float] = []
        words = errors = missing = 0
        for stream, placed in self.streams.items():
            messages, zero = self._messages.get(stream, []), self._zero.get(stream, 0.0)
            for one in placed:
                final, first = final_of(one, messages), first_of(one, messages)
                if final is None:
                    missing += 1
                else:
                    finals.append(final - zero - to_seconds(one.end))
                if first is not None:
                    firsts.append(first - zero - to_seconds(one.start))
            reference = [word for one in placed for word in words_of(one.text)]
            settled = sorted((m for m in messages if m.transcript.final), key=lambda m: m.start)
            found = words_of(" ".join(message.transcript.text for message in settled))
            words, errors = words + len(reference), errors + distance(reference, found)
        everything = [one for placed in self.streams.values() for one in placed]
        spoken_s = sum(to_seconds(one.end - one.start) for one in everything)
        audio_s = sum(to_seconds(placed[-1].end) for placed in self.streams.values() if placed)
        whole = sum(whole_errors.get(one.name, 0) for one in everything)
        return {
            "utterances": len(everything),
            "spoken": spoken_s / max(1e-9, audio_s),
            "final_s": percentiles(finals),
            "first_s": percentiles(firsts),
            "missing": missing,
            "words": words,
            "errors": errors,
            "error_rate": errors / max(1, words),
            "whole_errors": whole,
            "whole_error_rate": whole / max(1, words),
        }


def final_of(one: Placed, messages: Sequence[_Message]) -> float | None:
    """Return the time of the final transcript of an utterance's last segment; None without one."""
    within = [m for m in messages if m.transcript.final and m.start < one.end and m.end > one.start]
    return max(within, key=lambda m: m.end).at_unix_s if within else None


def first_of(one: Placed, messages: Sequence[_Message]) -> float | None:
    """Return the time of the first word of an utterance, final or provisional."""
    times = [m.at_unix_s for m in messages if m.start < one.end and _has_word(one, m)]
    return min(times, default=None)


def _has_word(one: Placed, message: _Message) -> bool:
    """Whether a message contains a word of the utterance, not only of the previous one."""
    if message.end <= one.start:
        return False
    if words := message.transcript.words:
        return any(word.end > one.start and word.start < one.end for word in words)
    return message.start >= one.start - _EARLY
