"""What nodes are given to work on: segments, what was said in them and before, and states.

Pure. A segment is kept until its verdict is written down; of a stream's transcripts the latest few,
as context for those who ask for it; of what models know of its voice, the states (`states.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from abhinaya.stream.hub.dispatch_state import Key
from abhinaya.stream.hub.states import States
from abhinaya.stream.wire.messages import Provisional, Segment, Service, Task, Transcript

MOST_TURNS: Final = 16
"""Transcripts of a stream that are kept as context."""


@dataclass(frozen=True, slots=True)
class Said:
    """What was said in a segment."""

    text: str
    english: str
    """The translation where there is one."""
    language: str
    """Of `english`."""

    @classmethod
    def of(cls, text: str, translation: str, language: str) -> Said:
        """Take it from what a transcriber gives."""
        return cls(text, translation or text, "en" if translation else language)


class Material:
    """The segments of all streams that are not written down, and their transcripts."""

    def __init__(self) -> None:
        self._segments: dict[Key, Segment] = {}
        self._transcripts: dict[Key, Said] = {}
        self._said: dict[str, dict[int, Said]] = {}
        """The latest transcripts of each stream, by sequence number."""
        self.states = States()
        self._over: dict[str, None] = {}
        """Streams whose end is written down, but of which a late vote may still come."""

    def keep(self, segment: Segment) -> None:
        """Take in a segment."""
        self._segments[segment.stream, segment.sequence] = segment

    def transcribed(self, transcript: Transcript) -> None:
        """Take in what was said in a segment."""
        stream, sequence = transcript.stream, transcript.sequence
        self._transcripts[stream, sequence] = _said(transcript)
        if transcript.text:
            said = self._said.setdefault(stream, {})
            said[sequence] = _said(transcript)
            if len(said) > MOST_TURNS:
                del said[min(said)]

    def forget(self, key: Key) -> None:
        """Drop a segment; what was said in it may still be context."""
        self._segments.pop(key, None)
        self._transcripts.pop(key, None)
        self._clear()

    def knows(self, key: Key, service: str, state: bytes) -> None:
        """Take in what a service knows after a segment, if that is still worked on."""
        if key in self._segments:
            self.states.keep(key, service, state)

    def ended(self, stream: str) -> None:
        """Drop what is known of a stream that is over, once nobody works on it any more."""
        self._over[stream] = None
        self._clear()

    def _clear(self) -> None:
        if not self._over:
            return
        at_work = {stream for stream, _ in self._segments}
        for stream in [stream for stream in self._over if stream not in at_work]:
            del self._over[stream]
            self._said.pop(stream, None)
            self.states.ended(stream)

    def task(
        self,
        key: Key,
        services: Collection[Service],
        choices: tuple[str, ...] = (),
    ) -> Task:
        """Return a segment as a task; `choices` are the labels to choose among, if not all."""
        said = self._transcripts.get(key)
        return self._task(self._segments[key], 0, said, services, choices)

    def part(
        self,
        item: Provisional,
        transcript: Transcript | None,
        services: Collection[Service],
    ) -> Task:
        """Return a part of a segment as a task."""
        said = _said(transcript) if transcript else None
        return self._task(item, item.part, said, services, ())

    def _task(
        self,
        item: Segment | Provisional,
        part: int,
        said: Said | None,
        services: Collection[Service],
        choices: tuple[str, ...],
    ) -> Task:
        needs = {need for service in services for need in service.needs}
        transcribes = [s.context_turns for s in services if s.kind == "transcript"]
        turns = max((s.context_turns for s in services if s.kind == "vote"), default=0)
        stateful = [service.name for service in services if service.stateful]
        handed = said if said and "transcript" in needs and not transcribes else None
        return Task(
            stream=item.stream,
            sequence=item.sequence,
            part=part,
            services=tuple(service.name for service in services),
            start=item.start,
            end=item.end,
            samples=item.samples if "audio" in needs else None,
            transcript=handed.english if handed else None,
            language=handed.language if handed else "",
            previous=self._previous(item, max(transcribes, default=0)),
            context=self._context(item, turns),
            choices=choices,
            states=self.states.before((item.stream, item.sequence), stateful),
        )

    def _context(self, item: Segment | Provisional, turns: int) -> tuple[str, ...]:
        """Return what was said before, in English."""
        said = self._said.get(item.stream, {})
        before = sorted(sequence for sequence in said if sequence < item.sequence)
        return tuple(said[sequence].english for sequence in before[-turns:]) if turns else ()

    def _previous(self, item: Segment | Provisional, turns: int) -> tuple[str, ...]:
        """Return what was said just before: a transcriber goes on from the very text before.

        What a guard dropped must not be passed over: there it ends.
        """
        said = self._said.get(item.stream, {})
        texts: list[str] = []
        sequence = item.sequence - 1
        while len(texts) < turns and sequence in said:
            texts.append(said[sequence].text)
            sequence -= 1
        return tuple(reversed(texts))


def _said(transcript: Transcript) -> Said:
    return Said.of(transcript.text, transcript.translation, transcript.language)
