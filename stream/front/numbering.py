"""From a source to numbered items: segments, gaps, and the end.

Of a live source also what can be said while somebody speaks: that he does, and the segment so far.

What a front that takes over from one that died must not send again, it finds again: a file is read
from its beginning and gives the same segments; a live source goes on, and what was missed is a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import INT16_FULL_SCALE, SAMPLE_RATE
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.front.segmenter import Piece
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources.base import Source
from abhinaya.stream.wire.messages import (
    Activity,
    End,
    Gap,
    Payload,
    Segment,
    Standing,
)

INTERRUPTED: Final = "interrupted"
"""Why a stream ended that was asked to."""

SpeechItem = Segment | Gap | End | Activity


@dataclass(slots=True)
class _Channel:
    """One stream's numbering, and how far it has come."""

    stream: str
    sequence: int = 0
    position: int = 0
    parts: int = 0
    """Of the segment that is to come, told so far."""


class Speech:
    """The items of all streams of one source.

    Args:
        vad: when speech begins and ends.
        source: opened.
        streams: name of each channel's stream.
        standings: of each stream, if this source goes on where a predecessor left off; none if it
            begins at the beginning.
        clock: wall clock, in Unix seconds.

    """

    def __init__(
        self,
        vad: VadConfig,
        source: Source,
        streams: Sequence[str],
        standings: Sequence[Standing],
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if len(streams) != source.channels:
            raise SourceError(
                source.description,
                f"has {source.channels} channels, and {len(streams)} names were given",
                "give one name for each channel with --channel-names",
            )
        self._source = source
        self._stopped = stopped
        self._clock = clock
        self._listener = Listener(vad, source.channels)
        self._channels = [_Channel(name) for name in streams]
        self._offset = 0
        """Samples of the stream before the first that this source gives."""
        if standings:
            self._go_on(standings)

    def items(self) -> Iterator[SpeechItem]:
        """Yield what is found, each stream's in order, its end last.

        Raises:
            SourceError: the source broke off; everything before has been yielded, and an end that
                says so.

        """
        yield from self._missed()
        fault: SourceError | None = None
        reason = ""
        captured = self._clock()
        try:
            for chunk in self._source.chunks():
                if self._stopped():
                    reason = INTERRUPTED
                    break
                captured = chunk.captured_unix_s
                if chunk.lost_samples:
                    yield from self._lose(chunk.lost_samples, captured, chunk.lost_reason)
                yield from self._segments(self._listener.feed(chunk.samples), captured)
                if self._source.live:
                    yield from self._going_on(captured)
            else:
                # what runs by itself has no end of its own when it is asked to stop
                reason = INTERRUPTED if self._source.live and self._stopped() else ""
        except SourceError as error:
            fault, reason = error, str(error)
        yield from self._segments(self._listener.finish(), captured)
        if self._source.live:
            yield from self._activity()
        for channel in self._channels:
            yield End(
                stream=channel.stream,
                sequence=channel.sequence,
                position=self._offset + self._listener.position,
                reason=reason,
            )
        if fault:
            raise fault

    def _go_on(self, standings: Sequence[Standing]) -> None:
        """Take the numbers and the clock of a live stream where a predecessor left them."""
        for channel, standing in zip(self._channels, standings, strict=True):
            channel.sequence, channel.position = standing.next_sequence, standing.position
        elapsed = self._clock() - standings[0].start_unix_s
        reached = max(standing.position for standing in standings)
        self._offset = max(reached, round(elapsed * SAMPLE_RATE))

    def _missed(self) -> Iterator[Gap]:
        for channel in self._channels:
            if self._offset > channel.position:
                yield self._gap(
                    channel, channel.position, self._offset, "the input's process was restarted"
                )

    def _lose(self, samples: int, captured: float, reason: str) -> Iterator[SpeechItem]:
        start = self._offset + self._listener.position
        yield from self._segments(self._listener.skip(samples), captured)
        for channel in self._channels:
            yield self._gap(channel, start, start + samples, reason)

    def _gap(self, channel: _Channel, start: int, end: int, reason: str) -> Gap:
        gap = Gap(
            stream=channel.stream,
            sequence=channel.sequence,
            start=max(start, channel.position),
            end=end,
            reason=reason,
        )
        channel.sequence += 1
        channel.position, channel.parts = end, 0
        return gap

    def _going_on(self, captured: float) -> Iterator[SpeechItem]:
        yield from self._activity()
        for index, piece in self._listener.parts():
            channel = self._channels[index]
            channel.parts += 1
            yield self._segment(channel, piece, captured, channel.parts)

    def _activity(self) -> Iterator[Activity]:
        for index, change in self._listener.changes():
            yield Activity(
                stream=self._channels[index].stream,
                position=self._offset + change.position,
                speaking=change.speaking,
            )

    def _segments(self, found: Sequence[tuple[int, Piece]], captured: float) -> Iterator[Segment]:
        for index, piece in found:
            channel = self._channels[index]
            yield self._segment(channel, piece, captured)
            channel.sequence += 1
            channel.position, channel.parts = self._offset + piece.end, 0

    def _segment(self, channel: _Channel, piece: Piece, captured: float, part: int = 0) -> Segment:
        spoken, capture_ms = self._when(piece, captured)
        return Segment(
            stream=channel.stream,
            sequence=channel.sequence,
            part=part,
            start=self._offset + piece.start,
            end=self._offset + piece.end,
            samples=Payload.of(to_int16(piece.samples)),
            cut="" if part else piece.cut,
            captured_unix_s=spoken,
            capture_ms=capture_ms,
            sent_unix_s=self._clock(),
        )

    def _when(self, piece: Piece, captured: float) -> tuple[float, float]:
        """When the last speech of a piece was spoken, and how many milliseconds it took to us."""
        if not self._source.live:
            return captured, 0.0
        # how far the source is behind the stream's clock: buffers of the device and the system
        behind_s = captured - self._wall_clock(self._listener.position)
        return min(self._wall_clock(piece.speech_end), captured), max(0.0, 1000 * behind_s)

    def _wall_clock(self, position: int) -> float:
        """When the sample at `position` of the source was spoken, by the stream's clock."""
        return self._source.start_unix_s + (self._offset + position) / SAMPLE_RATE


def to_int16(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Give samples [n] in [-1, 1] as they travel: 16 bits are what nearly every source has."""
    scaled = np.round(samples * INT16_FULL_SCALE)
    return np.clip(scaled, -INT16_FULL_SCALE, INT16_FULL_SCALE - 1).astype(np.int16)
