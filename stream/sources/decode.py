"""Decode the audio of a container with PyAV: any codec, rate and channel count."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import numpy as np

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Block, FloatArray, Warn

_HOLE_S: Final = 0.1
"""A larger jump of the time stamps means lost audio; a smaller one is rounding."""
_LONGEST_HOLE_S: Final = 3600.0
"""A larger jump means wrong time stamps."""
_SHORT_S: Final = 0.5
"""A file that ends this much before its declared end is truncated."""
_LENGTH_ESTIMATED: Final = {"aac", "ac3", "eac3", "amr", "dts", "mp3", "mpeg", "mpegts"}
"""Formats without a declared duration; FFmpeg estimates it from size and bit rate."""
_MP3_LENGTH_TAGS: Final = (b"Xing", b"Info", b"VBRI")
_TYPES: Final = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}

NO_PROTOCOLS: Final = {"protocol_whitelist": "none"}
"""FFmpeg options: an input that is really a playlist cannot make FFmpeg open other files."""

HEAD_BYTES: Final = 1 << 18
"""Length of the part of a file that is searched for length tags."""
_DAMAGED: Final = "convert it, for example with ffmpeg, or fetch it again"


class Carrier(Protocol):
    """A reader that keeps its own failure, because FFmpeg takes a failed read for the end."""

    @property
    def failure(self) -> SourceError | None:
        """The error that ended the data, if any."""
        ...


class Decoder:
    """The first audio track of an open container.

    Args:
        target: an open file object, or an address for `how`.
        subject: name of the input in messages.
        warn: receives messages about packets that cannot be decoded.
        head: the beginning of a file. It shows whether the declared duration is exact; only then
            a truncated file can be detected.
        clock: wall-clock time in Unix seconds.
        how: other arguments of `av.open` than those for a file object.
        holes: whether jumps of the time stamps mean lost audio.
        carrier: the reader of the audio; its failure replaces the decoder's error.

    Raises:
        SourceError: there is no audio, or it cannot be decoded.

    """

    def __init__(
        self,
        target: Any,
        subject: str,
        warn: Warn,
        *,
        head: bytes = b"",
        clock: Callable[[], float] = unix_time,
        how: Mapping[str, Any] | None = None,
        holes: bool = True,
        carrier: Carrier | None = None,
    ) -> None:
        self._subject = subject
        self._warn = warn
        self._head = head
        self._clock = clock
        self._given_s = 0.0
        self._damaged = 0
        self._holes = holes
        self._carrier = carrier
        self._container: Any = None
        try:
            self._container = _open(target, subject, how or {"options": NO_PROTOCOLS})
            self._track = self._find_track()
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

    @property
    def duration_s(self) -> float:
        """Seconds that the container declares; 0 if it declares none."""
        return max(0.0, (self._container.duration or 0) / 1e6)

    def close(self) -> None:
        """Release the container."""
        if self._container is not None:
            self._container.close()

    def blocks(self) -> Iterator[Block]:
        """Yield the audio once; jumps of the time stamps are marked as lost audio.

        Raises:
            SourceError: the audio breaks off; the message names the second.

        """
        try:
            yield from self._blocks()
            self._check_end()
        except SourceError:
            if self._carrier is None or self._carrier.failure is None:
                raise
        if self._carrier is not None and self._carrier.failure is not None:
            raise self._carrier.failure

    def _blocks(self) -> Iterator[Block]:
        origin: float | None = self._first.time
        for frame in itertools.chain((self._first,), self._frames):
            samples = to_float(frame)
            hole_s = 0.0
            if self._holes and origin is not None and frame.time is not None:
                hole_s = float(frame.time) - origin - self._given_s
                hole_s = hole_s if _HOLE_S <= hole_s <= _LONGEST_HOLE_S else 0.0
            self._given_s += hole_s + len(samples) / frame.sample_rate
            lost = round(hole_s * frame.sample_rate)
            why = "its time stamps leave a hole" if lost else ""
            yield Block(samples, frame.sample_rate, self._clock(), lost, why)

    def _find_track(self) -> Any:
        tracks = self._container.streams
        if tracks.audio:
            return tracks.audio[0]
        others = ", ".join(sorted({track.type for track in tracks})) or "nothing"
        raise SourceError(
            self._subject, f"has no audio track (it has: {others})", "name a file with sound"
        )

    def _first_frame(self) -> Any:
        frame = next(self._frames, None)
        if frame is not None:
            return frame
        if self._damaged:
            raise SourceError(self._subject, "none of its audio can be decoded", _DAMAGED)
        raise SourceError(self._subject, "holds no audio samples", "record or fetch it again")

    def _decode(self) -> Iterator[Any]:
        """Yield the frames; count and skip packets that cannot be decoded."""
        import av

        try:
            for packet in self._container.demux(self._track):
                try:
                    frames = packet.decode()
                except av.error.EOFError:
                    return
                except av.FFmpegError:
                    if not self._damaged:
                        self._warn(f"{self._subject}: damaged at {self._given_s:.2f} s")
                    self._damaged += 1
                    continue
                yield from (frame for frame in frames if frame.samples)
        except (av.FFmpegError, OSError) as error:
            reason = f"breaks off at {self._given_s:.2f} s: {reason_of(error)}"
            raise SourceError(self._subject, reason, _DAMAGED) from error

    def _check_end(self) -> None:
        """Raise if the file ended before its declared duration."""
        if self._damaged > 1:
            self._warn(f"{self._subject}: {self._damaged} packets could not be decoded")
        declared_s = self._declared_s()
        if declared_s - self._given_s > max(_SHORT_S, 0.01 * declared_s):
            reason = f"breaks off at {self._given_s:.2f} s of {declared_s:.2f} s"
            raise SourceError(self._subject, reason, "it is truncated or damaged: " + _DAMAGED)

    def _declared_s(self) -> float:
        """Return the duration that the file declares; 0 if FFmpeg only estimates it."""
        formats = set(self._container.format.name.split(","))
        tagged = "mp3" in formats and any(tag in self._head for tag in _MP3_LENGTH_TAGS)
        if not self._head or (formats & _LENGTH_ESTIMATED and not tagged):
            return 0.0
        if self._track.duration is not None:
            return float(self._track.duration * self._track.time_base)
        return (self._container.duration or 0) / 1e6


def to_float(frame: Any) -> FloatArray:
    """Return a decoded frame of any sample format as [n, channels] in [-1, 1]."""
    from av.audio.plane import AudioPlane

    channels = frame.layout.nb_channels
    kind = frame.format.name.removesuffix("p")
    planar = frame.format.is_planar
    count = frame.samples * (1 if planar else channels)
    # PyAV's `frame.to_ndarray()` and `frame.planes` read past the pointer array of planar audio
    # with eight channels or more, and crash; a single AudioPlane is safe.
    planes = [AudioPlane(frame, number) for number in range(channels if planar else 1)]
    parts = [np.frombuffer(memoryview(plane), dtype=_TYPES[kind], count=count) for plane in planes]
    values = np.stack(parts, axis=1) if planar else parts[0].reshape(-1, channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    scale = 2.0 ** (8 * values.dtype.itemsize - 1)
    offset = scale if kind == "u8" else 0.0
    return ((values - offset) / scale).astype(np.float32)


def reason_of(error: BaseException) -> str:
    """Return the message of an error of FFmpeg or the system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _open(target: Any, subject: str, how: Mapping[str, Any]) -> Any:
    import av

    try:
        return av.open(
            target,
            mode="r",
            metadata_errors="replace",  # a title that is not UTF-8 is harmless
            **how,
        )
    except av.error.ExitError as error:  # FFmpeg's time-out, set in `how`
        reason = "sent nothing that can be decoded for too long"
        raise SourceError(subject, reason, "is it on the air?") from error
    except av.error.PermissionError as error:
        raise SourceError(subject, "may not be read", "change its permissions") from error
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        raise SourceError(
            subject, "cannot be decoded as audio, or is cut off or damaged", _DAMAGED
        ) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(subject, f"cannot be opened: {reason_of(error)}", _DAMAGED) from error
