"""Turn the audio of sources into numbered items: segments, gaps, and the end of each stream.

For a live source there are also activity messages and partials of the segment in progress.

A front that replaces one that died continues its numbering. It reads a file from the beginning and
finds the same segments again; of a live source the audio missed meanwhile becomes a gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import INT16_FULL_SCALE, SAMPLE_RATE, to_samples, unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.assignment import INTERRUPTED
from abhinaya.stream.front.level import Level
from abhinaya.stream.front.listener import Found, Listener, feed_together
from abhinaya.stream.front.segmenter import Piece
from abhinaya.stream.front.vad import Vad
from abhinaya.stream.settings.compliance import NOT_HEARD
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

BEHIND_S: Final = 0.5
"""A live source may always be this late; what is more counts as lateness only if it passes."""

BEHIND_WINDOW_S: Final = 60.0
"""Time after which a delay that has never been shorter belongs to the source itself."""

SpeechItem = Segment | Gap | End | Activity


class Lag:
    """Tells a delay that passes from one that stays; for one live source. Pure.

    A sound card's clock drifts and a station may send later than it did: then all audio is later
    than the stream's clock says, and no deadline could be kept. Such a delay is the shortest one of
    the last minute, if that is above BEHIND_S.
    """

    def __init__(self) -> None:
        self._since = 0.0
        self._least = self._before = math.inf

    def seen(self, now: float, delay_s: float) -> None:
        """Note how much later than by the stream's clock the latest audio arrived."""
        if now - self._since > BEHIND_WINDOW_S:
            self._since, self._before, self._least = now, self._least, math.inf
        self._least = min(self._least, delay_s)

    @property
    def lasting_s(self) -> float:
        """The delay that stays."""
        least = min(self._least, self._before)
        return max(0.0, least - BEHIND_S) if self._before < math.inf else 0.0


@dataclass(slots=True)
class _Channel:
    """Numbering of one stream."""

    stream: str
    sequence: int = 0
    """Number of the next segment or gap."""
    position: int = 0
    """End of the last segment or gap, in samples."""
    partials: int = 0
    """Number of partials of the next segment so far."""
    segments: int = 0


class Speech:
    """The items of all streams of one source: `items` reads it alone, `read_round` with others.

    Args:
        config: settings of voice activity detection and segmentation.
        source: the opened source.
        streams: names of the streams, one for each channel.
        standings: progress of each stream, if this source continues after a predecessor; empty if
            it starts at its beginning.
        stopped: returns whether the source must stop now.
        clock: wall clock, in Unix seconds.
        vad: a shared voice activity detector; by default a new one.
        heard: whether each channel is heard; the others are silence from here on.
        begin: position in the stream of the source's first sample; by default that of now if there
            are `standings`, else 0.

    """

    def __init__(
        self,
        config: VadConfig,
        source: Opened,
        streams: Sequence[str],
        standings: Sequence[Standing],
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = unix_time,
        vad: Vad | None = None,
        heard: Sequence[bool] = (),
        begin: int | None = None,
    ) -> None:
        if len(streams) != source.channels:
            raise SourceError(
                source.description,
                f"has {source.channels} channels, and {len(streams)} names were given",
                "give one name for each channel with --channel-names",
            )
        self._source = source
        self._heard = np.array(heard or [True] * source.channels)
        self._stopped = stopped
        self._clock = clock
        self._listener = Listener(config, source.channels, vad)
        self._level = Level(source.channels)
        self._chunks = source.chunks()
        self._channels = [_Channel(name) for name in streams]
        self._captured = clock()
        """Wall-clock time at which the latest chunk arrived."""
        self._lag = Lag()
        self._reason = ""
        """Reason of the streams' end; empty for a natural end."""
        self.fault: SourceError | None = None
        """The error that ended the source, if any."""
        self.over = False
        """Whether the `End` of every stream was yielded."""
        self._offset = 0
        """Position in the stream of the first sample of this source."""
        self._whole = to_samples(source.length_s)
        if standings:
            self._continue_from(standings, begin)

    def items(self) -> Iterator[SpeechItem]:
        """Yield the items, those of each stream in order, its `End` last.

        Raises:
            SourceError: the source failed; all earlier items and the `End` were yielded before.

        """
        while not self.over:
            yield from (item for _, item in read_round([self]))
        if self.fault:
            raise self.fault

    def next_chunk(self) -> AudioChunk | None:
        """Return the next chunk of the source; None at its end, with `fault` set if it failed."""
        try:
            chunk = next(self._chunks, None)
        except SourceError as error:
            self.fault, self._reason, chunk = error, str(error), None
        # an interrupted live source has no more chunks, but this is not its natural end
        if self._stopped() and not self.fault and (chunk or self._source.live):
            self._reason, chunk = INTERRUPTED, None
        elif chunk is None and not self.fault:
            self._reason = self._source.reason()
        if chunk and not self._heard.all():
            chunk = replace(chunk, samples=np.where(self._heard, chunk.samples, np.float32(0)))
        if chunk:
            self._captured = chunk.captured_unix_s
            self._level.add(chunk.samples)
        return chunk

    def before(self, chunk: AudioChunk | None) -> Iterator[SpeechItem]:
        """Yield the items before a chunk: gaps for missed or lost audio."""
        yield from self._missed()
        if chunk and chunk.lost_samples:
            start = self._offset + self._listener.position
            yield from self._segments(self._listener.skip(chunk.lost_samples))
            for channel in self._channels:
                yield self._gap(channel, start, start + chunk.lost_samples, chunk.lost_reason)

    def after(self, found: Found, stalled: bool = False) -> Iterator[SpeechItem]:
        """Yield the finished segments; of a live source also activity and partials.

        With `stalled`, also the segment that is being spoken.
        """
        if self._source.live:
            due = self._wall_clock(self._listener.position)
            self._lag.seen(self._captured, self._captured - due)
        yield from self._segments(found)
        if stalled:
            yield from self._segments(self._listener.skip(0))
        if self._source.live:
            yield from self._activity()
            for index, piece in self._listener.partials():
                channel = self._channels[index]
                channel.partials += 1
                yield self._segment(channel, piece, channel.partials)

    def ending(self) -> Iterator[SpeechItem]:
        """Yield the unfinished segments, and the `End` of each stream.

        The rest of an interrupted recording becomes a gap.
        """
        self.over = True
        yield from self._segments(self._listener.finish())
        if self._source.live:
            yield from self._activity()
        end, interrupted = self._offset + self._listener.position, self._reason == INTERRUPTED
        if interrupted:
            end = self.reached
        for number, channel in enumerate(self._channels):
            unheard = self._whole or not self._source.live  # a live source has no rest
            if interrupted and unheard and end > channel.position:
                yield self._gap(channel, channel.position, end, INTERRUPTED)
            yield End(
                stream=channel.stream,
                sequence=channel.sequence,
                position=end,
                reason=self._reason,
                sound=self._level.sound(number, speech=channel.segments > 0)
                if self._heard[number]
                else NOT_HEARD,
            )

    @property
    def reached(self) -> int:
        """Position up to which the source was read, or its end if its length is known."""
        return max(self._offset + self._listener.position, self._whole)

    def _continue_from(self, standings: Sequence[Standing], begin: int | None) -> None:
        """Continue the numbers and the clock of a predecessor's live streams."""
        for channel, standing in zip(self._channels, standings, strict=True):
            channel.sequence, channel.position = standing.next_sequence, standing.position
        if begin is None:
            begin = round((self._clock() - standings[0].start_unix_s) * SAMPLE_RATE)
        self._offset = max(begin, *(standing.position for standing in standings))

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
            channel.segments += 1
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
        """Return when the last speech of a piece was spoken, and the capture delay in ms."""
        if not self._source.live:
            return captured, 0.0
        # buffers of the device and the system delay the source against the stream's clock
        behind_s = captured - self._wall_clock(self._listener.position)
        lasting_s = self._lag.lasting_s
        spoken = min(self._wall_clock(piece.speech_end) + lasting_s, captured)
        return spoken, max(0.0, 1000 * (behind_s - lasting_s))

    def _wall_clock(self, position: int) -> float:
        """Return when the sample at `position` of the source was spoken, by the stream's clock."""
        return self._source.start_unix_s + (self._offset + position) / SAMPLE_RATE


def read_round(speeches: Sequence[Speech]) -> Iterator[tuple[Speech, SpeechItem]]:
    """Read a chunk of each source, find the speech of all in one batch, and yield the items."""
    chunks: list[tuple[Speech, AudioChunk]] = []
    for speech in speeches:
        chunk = speech.next_chunk()
        yield from ((speech, item) for item in speech.before(chunk))
        if chunk is None:
            yield from ((speech, item) for item in speech.ending())
        else:
            chunks.append((speech, chunk))
    fed = [(speech._listener, chunk.samples) for speech, chunk in chunks]
    for (speech, chunk), found in zip(chunks, feed_together(fed), strict=True):
        yield from ((speech, item) for item in speech.after(found, chunk.stalled))


def to_int16(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return samples [n] in [-1, 1] as 16-bit integers, the precision of most sources."""
    scaled = np.round(samples * INT16_FULL_SCALE)
    return np.clip(scaled, -INT16_FULL_SCALE, INT16_FULL_SCALE - 1).astype(np.int16)
