"""Decode the audio of a container with PyAV: any codec, rate and channel count."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import numpy as np

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import MOST_CHANNELS, RATES, Block, Warn
from abhinaya.stream.sources.media import mpeg
from abhinaya.stream.sources.media.container import (
    DAMAGED,
    ESTIMATED,
    NO_PROTOCOLS,
    PIPED,
    declared_s,
    open_container,
    reason_of,
)
from abhinaya.stream.sources.media.frames import to_float, weights
from abhinaya.stream.sources.media.length import Contents, Ending, Structure, structure
from abhinaya.stream.sources.media.timeline import HOLE_S, LONGEST_HOLE_S, Timeline
from abhinaya.stream.sources.media.tracks import Tracks

_RAW: Final = {"aac", "ac3", "eac3", "dts", "mp3"}
"""Formats without time stamps: damage in them is measured in bytes."""
_LAX: Final = {"mp3", "mov"}
"""Formats whose declared length often stays when the audio is edited."""

_FAILURES: Final = 100
"""Damaged places in a row after which reading ends."""
_INTERLEAVED_S: Final = 5.0
"""How far apart in time the packets of two tracks may be that are beside each other."""
_LOOK_S: Final = 300.0
"""Length of the beginning in which a track must have sound, of a file with several tracks."""
_LOOK_LIVE_S: Final = 5.0


class Carrier(Protocol):
    """A reader that keeps its own failure, because FFmpeg takes a failed read for the end."""

    @property
    def failure(self) -> SourceError | None:
        """The error that ended the data, if any."""
        ...


class Decoder:
    """One audio track of an open container.

    Args:
        target: an open file object, or an address for `how`.
        subject: name of the input in messages.
        warn: receives messages about packets that cannot be decoded, and about other tracks.
        contents: the bytes of a file. They show whether it is complete.
        clock: wall-clock time in Unix seconds.
        how: other arguments of `av.open` than those for a file object.
        carrier: the reader of the audio; its failure replaces the decoder's error.
        track: number of the audio track, from 1; 0: the default, or the first with sound.
        endless: whether the end may come anywhere, as that of a broadcast.
        horizon_s: returns the position behind which a hole cannot reach.

    Raises:
        SourceError: there is no audio, or it cannot be decoded.

    """

    def __init__(
        self,
        target: Any,
        subject: str,
        warn: Warn,
        *,
        contents: Contents | None = None,
        clock: Callable[[], float] = unix_time,
        how: Mapping[str, Any] | None = None,
        carrier: Carrier | None = None,
        track: int = 0,
        endless: bool = False,
        horizon_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self._subject = subject
        self._warn = warn
        self._contents = contents
        self._piped = contents is None or contents.piped
        self._clock = clock
        self._endless = endless
        self._horizon_s = horizon_s
        self._carrier = carrier
        self._given_s = 0.0
        self._lost_s = 0.0  # lost before the next frame, if the format has no time stamps
        self._damaged = 0
        self._last_is_cut = False
        self._ends: dict[int, int] = {}  # end of the latest packet of each track, in its units
        self._latest: deque[bool] = deque(maxlen=3)  # whether the latest packets are incomplete
        self._container: Any = None
        try:
            self._container = open_container(
                target, subject, how or {"options": NO_PROTOCOLS}, contents
            )
            self._formats = set(self._container.format.name.split(","))
            self._raw = self._raw_bytes()
            self._packets = self._demux()
            self._track = self._choose(track)
            self._frames = self._decode()
            self._first = self._first_frame()
        except SourceError as error:
            self.close()
            if carrier is not None and carrier.failure is not None:
                raise carrier.failure from error
            raise

    @property
    def channels(self) -> int:
        """Channels of the first decoded frame; the header may be wrong."""
        return int(self._first.layout.nb_channels)

    @property
    def description(self) -> str:
        """Codec, rate and channels, for the user."""
        many = "channel" if self.channels == 1 else "channels"
        codec = self._track.codec_context.name
        return f"{codec}, {self._first.sample_rate} Hz, {self.channels} {many}"

    def _reached_s(self, but: int = -1) -> float:
        """Return the end of the latest packet of any track, or of any `but` one."""
        zero_s, tracks = (self._container.start_time or 0) / 1e6, self._container.streams
        ends = [float(end * tracks[i].time_base) for i, end in self._ends.items() if i != but]
        return max(0.0, max(ends, default=0.0) - zero_s)

    @property
    def begin_s(self) -> float | None:
        """Time stamp of the first frame; None if it has none."""
        return None if self._first.time is None else float(self._first.time)

    @property
    def duration_s(self) -> float:
        """Seconds that the container declares; 0 if it declares none."""
        return max(0.0, (self._container.duration or 0) / 1e6)

    @property
    def length_s(self) -> float:
        """Seconds of audio that the file declares, or that FFmpeg estimates; 0 if unknown."""
        seconds, own = self._declared_s()
        estimated_s = self.duration_s if self._formats & ESTIMATED else 0.0
        return (seconds if own else 0.0) or estimated_s

    def close(self) -> None:
        """Release the container."""
        if self._container is not None:
            self._container.close()

    def blocks(self) -> Iterator[Block]:
        """Yield the audio once; jumps of the time stamps are marked as lost audio.

        Position 0 is the beginning of the container: a track that begins later is silent before.

        Raises:
            SourceError: the audio breaks off; the message names the second.

        """
        try:
            yield from self._blocks()
            if not self._endless and (self._carrier is None or self._carrier.failure is None):
                self._check_end()
        except SourceError:
            if self._carrier is None or self._carrier.failure is None:
                raise
        if self._carrier is not None and self._carrier.failure is not None:
            raise self._carrier.failure

    def _blocks(self) -> Iterator[Block]:
        yield from self._late()
        timeline, damaged = Timeline(self.begin_s, self._given_s), 0
        for frame in itertools.chain((self._first,), self._frames):
            lost_s, self._lost_s = self._lost_s if self._given_s else 0.0, 0.0
            time_s = None if frame.time is None or self._raw else float(frame.time)
            trusted = not timeline.wrong
            hole_s = timeline.hole_s(time_s, self._given_s, lost_s, self._longest_hole_s())
            if trusted and timeline.wrong:
                self._warn(f"{self._subject}: its time stamps are wrong, and no longer used")
            samples = to_float(self._checked(frame))
            self._given_s += hole_s + len(samples) / frame.sample_rate
            lost = round(hole_s * frame.sample_rate)
            why = "it is damaged there" if damaged < self._damaged else "its time stamps jump"
            damaged = self._damaged if lost else damaged
            yield Block(
                samples, frame.sample_rate, self._clock(), lost, why if lost else "", weights(frame)
            )

    def _late(self) -> Iterator[Block]:
        """Yield silence from the beginning of the container to that of the track."""
        zero = self._container.start_time
        if self._endless or zero is None or self._first.time is None:
            return
        late_s = float(self._first.time) - zero / 1e6
        # the programs of a transport stream have clocks of their own: others must be there too
        others_s = self._reached_s(but=self._track.index)
        if "mpegts" in self._formats and others_s < late_s - _INTERLEAVED_S:
            return
        if not HOLE_S <= late_s <= min(LONGEST_HOLE_S, self.duration_s):
            return
        rate = self._first.sample_rate
        for begin in range(0, left := round(late_s * rate), rate):
            silence = np.zeros((min(rate, left - begin), self.channels), np.float32)
            yield Block(silence, rate, self._clock())
        self._given_s = late_s

    def _longest_hole_s(self) -> float:
        """Return the longest hole that may follow: it does not reach past the declared end."""
        if self._endless or not self.duration_s or self._formats & ESTIMATED:
            return self._horizon_s() - self._given_s
        return self.duration_s + 1.0 - self._given_s

    def _checked(self, frame: Any) -> Any:
        """Return the frame, if what it declares can be sound.

        Raises:
            SourceError: it cannot.

        """
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        remedy = "correct its header, or convert it with ffmpeg"
        if rate not in RATES:
            reason = f"declares {rate} samples a second, not {RATES[0]} to {RATES[-1]}"
            raise SourceError(self._subject, reason, remedy)
        if channels > MOST_CHANNELS:
            reason = f"declares {channels} channels, and {MOST_CHANNELS} are the most"
            raise SourceError(self._subject, reason, remedy)
        return frame

    def _choose(self, number: int) -> Any:
        """Return the track to hear; the packets that were looked at are read again."""
        streams = [s for s in self._container.streams.audio if s.codec_context is not None]
        if not streams:
            others = sorted({track.type for track in self._container.streams})
            reason = f"has no audio track (it has: {', '.join(others) or 'nothing'})"
            if self._container.streams.audio:
                reason = "has audio in a codec that FFmpeg does not know"
            raise SourceError(self._subject, reason, "name a file with sound, or convert it")
        self._tracks = Tracks(streams, self._subject, self._warn)
        look_s = _LOOK_LIVE_S if self._piped else _LOOK_S
        chosen, held = self._tracks.choose(
            number, self._packets, lambda: self._reached_s() > look_s
        )
        self._packets = itertools.chain(held, self._packets)
        return chosen

    # --- packets and frames ---

    def _raw_bytes(self) -> mpeg.RawBytes | None:
        if not self._formats & _RAW:
            return None
        found = self._contents and self._formats & {"aac", "mp3"}
        return mpeg.RawBytes(self._contents.peek if self._contents and found else None)

    def _first_frame(self) -> Any:
        frame = next(self._frames, None)
        if frame is not None:
            return self._checked(frame)
        if self._damaged:
            raise SourceError(self._subject, "none of its audio can be decoded", DAMAGED)
        raise SourceError(self._subject, "holds no audio samples", "record or fetch it again")

    def _demux(self) -> Iterator[Any]:
        """Yield the packets of all tracks; go on after damage.

        Raises:
            SourceError: reading fails, or the damage does not end.

        """
        import av

        failures = 0
        while True:
            try:
                for packet in self._container.demux():
                    failures = 0
                    at = packet.dts if packet.pts is None else packet.pts
                    if at is not None:
                        index, end = packet.stream_index, at + (packet.duration or 0)
                        self._ends[index] = max(self._ends.get(index, end), end)
                    yield packet
                return
            except IndexError:  # PyAV has no end for a track that appeared after the beginning
                self._warn(f"{self._subject}: a further track appeared later and was not heard")
                return
            except (av.FFmpegError, OSError) as error:
                failures += 1
                passing = (av.error.InvalidDataError, av.error.BlockingIOError)
                if isinstance(error, passing) and failures < _FAILURES:
                    self._note_damage()
                    continue
                reason, remedy = f"breaks off at {self._given_s:.2f} s: {reason_of(error)}", DAMAGED
                if not self._given_s and "mov" in self._formats and self._piped:
                    reason = "has its index at its end, and can be read only from the beginning"
                    remedy = "store it first, and name the file"
                raise SourceError(self._subject, reason, remedy) from error

    def _decode(self) -> Iterator[Any]:
        """Yield the frames of the track."""
        for packet in self._packets:
            if packet.stream.index == self._track.index:
                for frame in self._decoded(packet):
                    if frame.samples:
                        yield frame
            elif self._tracks.is_overheard(packet):
                silent = f"the chosen audio track is silent up to {self._given_s:.0f} s"
                self._warn(f"{self._subject}: {silent}, but another has sound. --track N chooses")

    def _decoded(self, packet: Any) -> list[Any]:
        """Return the frames of a packet; count damage."""
        import av

        data = bytes(packet) if self._raw is not None and packet.size else b""
        raw = self._raw if data else None
        if raw is not None and (raw.is_tag(data) or raw.is_length_tag(data, self._given_s)):
            return []
        try:
            frames: list[Any] = packet.decode()
        except av.error.EOFError:
            return []
        except av.FFmpegError:
            frames = []
            if packet.size:
                self._note_damage()
                self._last_is_cut = raw is None or raw.begins_frame(data)
        else:
            if packet.size:
                self._latest.append(packet.is_corrupt and not self._formats & PIPED)
                self._last_is_cut = any(self._latest)
                if raw is not None:
                    self._last_is_cut |= raw.is_cut(data)
        if raw is not None:
            self._lost_s += raw.lost_s(data, frames)
        self._tracks.note(self._track.index, frames)
        return frames

    def _note_damage(self) -> None:
        if not self._damaged:
            self._warn(f"{self._subject}: damaged at {self._given_s:.2f} s")
        self._damaged += 1

    def _check_end(self) -> None:
        """Report damage.

        Raises:
            SourceError: the file is cut off.

        """
        if self._damaged > 1:
            self._warn(f"{self._subject}: {self._damaged} packets could not be decoded")
        contents = self._contents
        if contents and contents.size() > contents.opened_size:
            self._warn(
                f"{self._subject}: grew while it was read; heard up to {self._given_s:.2f} s"
            )
            return
        rest = contents.size() - self._raw.known_bytes if contents and self._raw else 0
        if rest > 0 and self._raw and self._raw.bytes > self._raw.known_bytes:
            self._warn(f"{self._subject}: its last {rest} bytes are not audio")
        found = structure(contents.peek, contents.size()) if contents else Structure()
        declared_s, own = self._declared_s(found.end)
        ending = Ending(
            given_s=self._given_s,
            declared_s=declared_s,
            own=own,
            others=len(self._container.streams) > 1,
            reached_s=self._reached_s(),
            missing=found.missing,
            cut=(self._last_is_cut or rest > 1 << 16) and not (self._raw and self._raw.is_whole),
            damaged=self._damaged > 0,
            lax=bool(self._formats & _LAX),
        )
        reason, fatal = ending.fault()
        if fatal:
            raise SourceError(self._subject, reason, "it is truncated or damaged: " + DAMAGED)
        if reason:
            self._warn(f"{self._subject}: {reason}")

    def _declared_s(self, end: int = 0) -> tuple[float, bool]:
        tag_s = self._raw.declared_s if self._raw is not None else 0.0
        seconds, own = declared_s(self._container, self._track, tag_s)
        if "ogg" in self._formats:  # it declares its end, and a recording may begin at any time
            codec = self._track.codec_context
            rate = 48_000 if codec.name == "opus" else codec.sample_rate
            seconds = seconds or end / rate
            seconds = max(0.0, seconds - max(0.0, self.begin_s or 0.0))
        return seconds, own
