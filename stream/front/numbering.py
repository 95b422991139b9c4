"""From sources to numbered items: segments, gaps, and the end.

Of a live source also what can be said while somebody speaks: that they do, and the segment so far.

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
from abhinaya.stream.front.listener import Found, Listener, feed_together
from abhinaya.stream.front.segmenter import Piece
from abhinaya.stream.front.vad import Vad
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources.base import AudioChunk, Opened
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
    partials: int = 0
    """Of the segment that is to come, so far."""


class Speech:
    """The items of all streams of one source: `items` reads it alone, `read_round` with others.

    Args:
        config: when speech begins and ends.
        source: opened.
        streams: name of each channel's stream.
        standings: of each stream, if this source goes on where a predecessor left off; none if it
            begins at the beginning.
        stopped: whether the source is to end here.
        clock: wall clock, in Unix seconds.
        vad: to be shared with others; by default one of its own.

    """

    def __init__(
        self,
        config: VadConfig,
        source: Opened,
        streams: Sequence[str],
        standings: Sequence[Standing],
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
        vad: Vad | None = None,
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
        self._listener = Listener(config, source.channels, vad)
        self._chunks = source.chunks()
        self._channels = [_Channel(name) for name in streams]
        self._captured = clock()
        """When the latest chunk reached us."""
        self._reason = ""
        """Why the streams end, if not by themselves."""
        self.fault: SourceError | None = None
        """What broke the source off."""
        self.over = False
        """Whether the ends of all streams were given."""
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
        while not self.over:
            yield from (item for _, item in read_round([self]))
        if self.fault:
            raise self.fault

    def next_chunk(self) -> AudioChunk | None:
        """Return the next chunk of the source, or None at its end; `fault` says if it broke off."""
        try:
            chunk = next(self._chunks, None)
        except SourceError as error:
            self.fault, self._reason, chunk = error, str(error), None
        # what runs by itself has no end of its own when it is asked to stop
        if self._stopped() and not self.fault and (chunk or self._source.live):
            self._reason, chunk = INTERRUPTED, None
        if chunk:
            self._captured = chunk.captured_unix_s
        return chunk

    def before(self, chunk: AudioChunk | None) -> Iterator[SpeechItem]:
        """Yield what comes before a chunk: what was missed, or lost on the way."""
        yield from self._missed()
        if chunk and chunk.lost_samples:
            start = self._offset + self._listener.position
            yield from self._segments(self._listener.skip(chunk.lost_samples))
            for channel in self._channels:
                yield self._gap(channel, start, start + chunk.lost_samples, chunk.lost_reason)

    def after(self, found: Found) -> Iterator[SpeechItem]:
        """Yield what the chunk has completed, and what goes on in a live source."""
        yield from self._segments(found)
        if self._source.live:
            yield from self._activity()
            for index, piece in self._listener.partials():
                channel = self._channels[index]
                channel.partials += 1
                yield self._segment(channel, piece, channel.partials)

    def ending(self) -> Iterator[SpeechItem]:
        """Yield what was still open, and the end of each stream."""
        self.over = True
        yield from self._segments(self._listener.finish())
        if self._source.live:
            yield from self._activity()
        for channel in self._channels:
            yield End(
                stream=channel.stream,
                sequence=channel.sequence,
                position=self._offset + self._listener.position,
                reason=self._reason,
            )

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

    def _gap(self, channel: _Channel, start: int, end: int, reason: str) -> Gap:
        gap = Gap(
            stream=channel.stream,
            sequence=channel.sequence,
            start=max(start, channel.position),
            end=end,
            reason=reason,
        )
        channel.sequence += 1
        channel.position, channel.partials = end, 0
        return gap

    def _activity(self) -> Iterator[Activity]:
        for index, change in self._listener.changes():
            yield Activity(
                stream=self._channels[index].stream,
                position=self._offset + change.position,
                speaking=change.speaking,
            )

    def _segments(self, found: Found) -> Iterator[Segment]:
        for index, piece in found:
            channel = self._channels[index]
            yield self._segment(channel, piece)
            channel.sequence += 1
            channel.position, channel.partials = self._offset + piece.end, 0

    def _segment(self, channel: _Channel, piece: Piece, part: int = 0) -> Segment:
        spoken, capture_ms = self._when(piece, self._captured)
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


def read_round(speeches: Sequence[Speech]) -> Iterator[tuple[Speech, SpeechItem]]:
    """Read a chunk of each source, find its speech in one batch, and yield the items."""
    chunks: list[tuple[Speech, AudioChunk]] = []
    for speech in speeches:
        chunk = speech.next_chunk()
        yield from ((speech, item) for item in speech.before(chunk))
        if chunk is None:
            yield from ((speech, item) for item in speech.ending())
        else:
            chunks.append((speech, chunk))
    fed = [(speech._listener, chunk.samples) for speech, chunk in chunks]
    for (speech, _), found in zip(chunks, feed_together(fed), strict=True):
        yield from ((speech, item) for item in speech.after(found))


def to_int16(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return samples [n] in [-1, 1] as they travel: 16 bits are what nearly every source has."""
    scaled = np.round(samples * INT16_FULL_SCALE)
    return np.clip(scaled, -INT16_FULL_SCALE, INT16_FULL_SCALE - 1).astype(np.int16)
