"""What nodes are given to work on: segments, what was said in them, and what was said before.

Pure. A segment is kept until its verdict is written down; of a stream's transcripts the latest few,
as context for those who ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from abhinaya.stream.dispatch import Key
from abhinaya.stream.messages import Provisional, Ready, Segment, Task

MOST_TURNS: Final = 16
"""Transcripts of a stream that are kept as context."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What a node asks its tasks to carry."""

    audio: bool
    transcript: bool
    turns: int
    """Of context."""
    unbroken: bool = False
    """Whether context ends where nothing was said: a transcriber goes on from the very text before,
    and what a guard dropped must not be passed over."""

    @classmethod
    def of(cls, ready: Ready) -> Wants:
        """Read it from a node's introduction."""
        return cls(
            "audio" in ready.needs,
            "transcript" in ready.needs,
            ready.context_turns,
            ready.gives == "transcript",
        )


class Material:
    """The segments of all streams that are not written down, and their transcripts."""

    def __init__(self) -> None:
        self._segments: dict[Key, Segment] = {}
        self._transcripts: dict[Key, str] = {}
        self._said: dict[str, dict[int, str]] = {}
        """The latest transcripts of each stream, by sequence number."""

    def keep(self, segment: Segment) -> None:
        """Take in a segment."""
        self._segments[segment.stream, segment.sequence] = segment

    def transcribed(self, key: Key, text: str) -> None:
        """Take in what was said in a segment."""
        stream, sequence = key
        self._transcripts[key] = text
        if text:
            said = self._said.setdefault(stream, {})
            said[sequence] = text
            if len(said) > MOST_TURNS:
                del said[min(said)]

    def forget(self, key: Key) -> None:
        """Drop a segment; what was said in it may still be context."""
        self._segments.pop(key, None)
        self._transcripts.pop(key, None)

    def ended(self, stream: str) -> None:
        """Drop the context of a stream that is over."""
        self._said.pop(stream, None)

    def task(self, key: Key, wants: Wants, choices: tuple[str, ...] = ()) -> Task:
        """Give a segment as a task; `choices` are the labels to choose among, if not all."""
        segment = self._segments[key]
        return self._task(segment, 0, self._transcripts.get(key), wants, choices)

    def part(self, item: Provisional, transcript: str | None, wants: Wants) -> Task:
        """Give a part of a segment as a task."""
        return self._task(item, item.part, transcript, wants)

    def _task(
        self,
        item: Segment | Provisional,
        part: int,
        transcript: str | None,
        wants: Wants,
        choices: tuple[str, ...] = (),
    ) -> Task:
        return Task(
            stream=item.stream,
            sequence=item.sequence,
            part=part,
            start=item.start,
            end=item.end,
            samples=item.samples if wants.audio else None,
            heard=item.heard if wants.audio else None,
            transcript=transcript if wants.transcript else None,
            context=self._context(item, wants) if wants.turns else (),
            choices=choices,
        )

    def _context(self, item: Segment | Provisional, wants: Wants) -> tuple[str, ...]:
        said = self._said.get(item.stream, {})
        before = sorted(sequence for sequence in said if sequence < item.sequence)
        if wants.unbroken:
            steps = enumerate(reversed(before), 1)
            before = [s for back, s in steps if s == item.sequence - back][::-1]
        return tuple(said[sequence] for sequence in before[-wants.turns :])
