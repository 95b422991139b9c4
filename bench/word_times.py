"""When the words of known utterances came, and which words they were: events in, times out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from abhinaya.bench.clips import distance, words_of
from abhinaya.bench.monitored import Watcher
from abhinaya.bench.report import percentiles
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.wire.messages import Activity, Event, StreamStarted, Transcript, Verdict

_EARLY: Final = to_samples(0.5)
"""A segment begins this much before its utterance at most, padding included."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an utterance lies in its stream, in samples."""

    start: int
    end: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class _Message:
    """A transcript as it reached the sink."""

    at_unix_s: float
    start: int
    end: int
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class Words:
    """What became of the utterances of some streams."""

    utterances: int
    spoken_s: float
    audio_s: float
    """To the end of each stream's last utterance."""
    final_s: Mapping[str, float]
    """Percentile -> seconds from the end of an utterance to the message that settles its words."""
    first_s: Mapping[str, float]
    """Percentile -> seconds from the start of one to the first message with a word of it."""
    missing: int
    """Utterances of which no final word came."""
    words: int
    errors: int
    whole_errors: int
    """Of the same weights, each utterance heard whole and alone."""

    @property
    def spoken(self) -> float:
        """Share of the time that is speech."""
        return self.spoken_s / max(1e-9, self.audio_s)

    @property
    def error_rate(self) -> float:
        """Errors a word."""
        return self.errors / max(1, self.words)

    @property
    def whole_error_rate(self) -> float:
        """The same of utterances heard whole."""
        return self.whole_errors / max(1, self.words)


@dataclass(slots=True)
class WordTimes(Watcher):
    """Watches a run. `streams` has the utterances of each stream, by its name."""

    streams: Mapping[str, Sequence[Placed]]
    _zero: dict[str, float] = field(default_factory=dict)
    _messages: dict[str, list[_Message]] = field(default_factory=dict)

    def event(self, event: Event, now_unix_s: float) -> None:
        """Take a start or a verdict."""
        if isinstance(event, StreamStarted):
            self._zero[event.info.stream] = event.info.start_unix_s
        elif isinstance(event, Verdict) and event.revision == 0:
            self.provisional(event, now_unix_s)

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Take words, also those of a segment that goes on."""
        if isinstance(event, Verdict) and event.transcript is not None and event.transcript.text:
            message = _Message(now_unix_s, event.start, event.end, event.transcript)
            self._messages.setdefault(event.stream, []).append(message)

    def result(self, whole_errors: Mapping[str, int]) -> Words:
        """Compare what came with what was said."""
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
            heard = words_of(" ".join(message.transcript.text for message in settled))
            words, errors = words + len(reference), errors + distance(reference, heard)
        everything = [one for placed in self.streams.values() for one in placed]
        return Words(
            utterances=len(everything),
            spoken_s=sum(to_seconds(one.end - one.start) for one in everything),
            audio_s=sum(to_seconds(placed[-1].end) for placed in self.streams.values() if placed),
            final_s=percentiles(finals),
            first_s=percentiles(firsts),
            missing=missing,
            words=words,
            errors=errors,
            whole_errors=sum(whole_errors.get(one.name, 0) for one in everything),
        )


def final_of(one: Placed, messages: Sequence[_Message]) -> float | None:
    """Return when the last segment of an utterance was settled; None if none was."""
    within = [m for m in messages if m.transcript.final and m.start < one.end and m.end > one.start]
    return max(within, key=lambda m: m.end).at_unix_s if within else None


def first_of(one: Placed, messages: Sequence[_Message]) -> float | None:
    """Return when the first word of an utterance came, provisional or not."""
    times = [m.at_unix_s for m in messages if m.start < one.end and _has_word(one, m)]
    return min(times, default=None)


def _has_word(one: Placed, message: _Message) -> bool:
    """Whether a message holds a word of the utterance, not only of the one before it."""
    if message.end <= one.start:
        return False
    if words := message.transcript.words:
        return any(word.end > one.start and word.start < one.end for word in words)
    return message.start >= one.start - _EARLY
