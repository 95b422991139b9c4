"""Which events of a run are published, so that none is published twice. Pure.

After a hub has died, or another one has taken over, events may come again; the ledger recognises
them by the progress of each stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from abhinaya.models.labels import Attributes
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    Gap,
    NodeDown,
    NodeUp,
    Standing,
    StreamEnded,
    StreamStarted,
    Verdict,
)

MAX_UP: Final = 1000
"""Number of services of nodes that are remembered as ready."""

MAX_REVISABLE: Final = 100
"""Number of ended streams whose verdicts may still be revised."""

MAX_OVER: Final = 1000
"""Number of inputs that are over and remembered: a hub may repeat the ends of the latest ones."""


@dataclass(frozen=True, slots=True)
class _Published:
    """The last published verdict of a segment, for comparison with the next one."""

    revision: int
    said: tuple[str, Attributes | None]
    """Label and attributes."""
    evidence: int


def evidence(verdict: Verdict) -> int:
    """Return the number of answers in a verdict: votes, and that of the refiner."""
    return len(verdict.votes) + (verdict.refinement is not None)


@dataclass(slots=True)
class _Track:
    """Progress of one stream."""

    input: str = ""
    start_unix_s: float = 0.0
    next_sequence: int = 0
    position: int = 0
    ended: bool = False
    published: dict[int, _Published] = field(default_factory=dict)
    """The latest segments by sequence number."""
    provisional: tuple[int, int] = (-1, 0)
    """Sequence number and part of the latest provisional verdict."""

    def is_next(self, sequence: int, part: int) -> bool:
        """Whether a provisional verdict is newer than the last one; it is then the last one."""
        new = sequence >= self.next_sequence and (sequence, part) > self.provisional
        if new:
            self.provisional = (sequence, part)
        return new


class Ledger:
    """Record of all published events, so that no event is published twice.

    Args:
        remembered: number of segments of each stream that a verdict may still revise.

    """

    def __init__(self, remembered: int = 256) -> None:
        self._remembered = remembered
        self._tracks: dict[str, _Track] = {}
        self._inputs: dict[str, dict[str, _Track]] = {}
        """The same by input: with a thousand files, a search through all would be slow."""
        self._ended: deque[_Track] = deque()
        """The streams that ended last: one of their verdicts may still be revised."""
        self._over: deque[str] = deque()
        """The inputs that were over last."""
        self._up: dict[tuple[str, str], None] = {}
        """(node, service), the latest last."""

    def admit(self, event: Event | Activity) -> Event | Activity | None:
        """Return the event to publish, and mark it as published; None for a duplicate."""
        if isinstance(event, Verdict):
            return self._admit_verdict(event)
        return event if self._is_new(event) else None

    def _is_new(self, event: Event | Activity) -> bool:
        match event:
            case StreamStarted(info=info):
                new = info.stream not in self._tracks
                track = self._track(info.stream)
                track.input, track.start_unix_s = info.input, info.start_unix_s
                self._inputs.setdefault(info.input, {})[info.stream] = track
                return new
            case NodeUp(node=node, service=service):
                new = (node, service) not in self._up
                self._up[node, service] = None
                # a restarted hub does not say which nodes have gone meanwhile
                if len(self._up) > MAX_UP:
                    del self._up[next(iter(self._up))]
                return new
            case NodeDown(node=name):
                self._up = {up: None for up in self._up if up[0] != name}
                return True
            case Gap():
                return self._advance(event.stream, event.sequence, event.end)
            case StreamEnded():
                new = self._advance(event.stream, event.sequence, event.position)
                if new:
                    track = self._track(event.stream)
                    self._end(track)
                    self._forget_oldest(track.input)
                return new
            case _:
                return True

    def standings(self, name: str) -> tuple[Standing, ...]:
        """Return how far each stream of an input is written, for the front that continues it."""
        return tuple(
            Standing(
                stream=stream,
                next_sequence=track.next_sequence,
                acknowledged=track.next_sequence,
                position=track.position,
                start_unix_s=track.start_unix_s,
                window=1,
                ended=track.ended,
            )
            for stream, track in self._inputs.get(name, {}).items()
        )

    def endings(
        self, name: str, reached: Mapping[str, int], reason: str
    ) -> Iterator[Gap | StreamEnded]:
        """Yield a gap and the end for each stream of an input that has begun but not ended.

        Args:
            name: the input.
            reached: how far each stream was read, or its whole length if that is known.
            reason: why nothing more comes.

        """
        for stream, track in self._inputs.get(name, {}).items():
            if track.ended:
                continue
            number, start = track.next_sequence, track.position
            end = max(start, reached.get(stream, 0))
            if end > start:
                yield Gap(stream=stream, sequence=number, start=start, end=end, reason=reason)
                number += 1
            yield StreamEnded(stream=stream, sequence=number, position=end, reason=reason)

    def input_of(self, stream: str) -> str:
        """Return the input of a stream; empty if the stream is unknown."""
        track = self._tracks.get(stream)
        return track.input if track is not None else ""

    def begun(self, name: str) -> bool:
        """Whether an input has started a stream."""
        return name in self._inputs

    def over(self, name: str) -> bool:
        """Whether the end of each started stream of an input is written."""
        return all(track.ended for track in self._inputs.get(name, {}).values())

    def _track(self, stream: str) -> _Track:
        return self._tracks.setdefault(stream, _Track())

    def _end(self, track: _Track) -> None:
        track.ended = True
        self._ended.append(track)
        if len(self._ended) > MAX_REVISABLE:
            self._ended.popleft().published.clear()

    def _forget_oldest(self, name: str) -> None:
        """Note that a stream of an input has ended; forget the input that was over first."""
        if name and self.over(name):
            self._over.append(name)
        if len(self._over) > MAX_OVER and self.over(oldest := self._over.popleft()):
            for stream in self._inputs.pop(oldest, ()):
                del self._tracks[stream]

    def _admit_verdict(self, verdict: Verdict) -> Verdict | None:
        track, said = self._track(verdict.stream), (verdict.label, verdict.attributes)
        if not verdict.final:
            return verdict if track.is_next(verdict.sequence, verdict.part) else None
        if self._advance(verdict.stream, verdict.sequence, verdict.end):
            revision, changed = 0, True
        else:
            known = track.published.get(verdict.sequence)
            # a repeated or revised verdict counts only if it has more answers than the last one
            if known is None or evidence(verdict) <= known.evidence:
                return None
            changed = said != known.said
            revision = known.revision + changed
        track.published[verdict.sequence] = _Published(revision, said, evidence(verdict))
        if len(track.published) > self._remembered:
            del track.published[min(track.published)]
        return msgspec.structs.replace(verdict, revision=revision) if changed else None

    def _advance(self, stream: str, sequence: int, position: int) -> bool:
        track = self._track(stream)
        if sequence < track.next_sequence:
            return False
        track.next_sequence, track.position = sequence + 1, max(track.position, position)
        return True
