"""Decode a container by PyAV: any codec, any rate, any channel count."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import numpy as np

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Block, FloatArray, Warn

_HOLE_S: Final = 0.1
"""Time stamps that jump further mean a hole; less is rounding by the container."""
_LONGEST_HOLE_S: Final = 3600.0
"""Time stamps that jump further are wrong."""
_SHORT_S: Final = 0.5
"""A file that ends this much before its declared end is truncated."""
_LENGTH_ESTIMATED: Final = {"aac", "ac3", "eac3", "amr", "dts", "mp3", "mpeg", "mpegts"}
"""Formats that do not declare a duration: FFmpeg estimates it from size and bit rate."""
_MP3_LENGTH_TAGS: Final = (b"Xing", b"Info", b"VBRI")
_TYPES: Final = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}

NOTHING_ELSE: Final = {"protocol_whitelist": "none"}
"""A playlist or script named as audio must not make the decoder fetch other things."""

HEAD_BYTES: Final = 1 << 18
"""Of a file: what length tags are looked for in."""
_DAMAGED: Final = "convert it, for example with ffmpeg, or fetch it again"


class Carrier(Protocol):
    """What a decoder reads from: a failure looks like the end to FFmpeg, and is kept here."""

    @property
    def failure(self) -> SourceError | None:
        """Why nothing more comes."""
        ...


class Decoder:
    """The first audio track of an open container.

    Args:
        target: something to read from where it stands, or what `how` knows to open.
        subject: how people name it.
        warn: receives remarks about packets that cannot be decoded.
        head: the beginning of the file, where it has one: it shows whether the duration that the
            container declares is a fact, so that a truncated file is known as such.
        clock: wall-clock time in Unix seconds.
        how: opens the target, if not as something to read.
        holes: whether time stamps that jump mean lost audio.
        carrier: brings the audio; its failure takes the place of what the decoder makes of it.

    Raises:
        SourceError: no audio in it, or none that can be decoded.

    """

    def __init__(
        self,
        target: Any,
        subject: str,
        warn: Warn,
        *,
        head: bytes = b"",
        clock: Callable[[], float] = time.time,
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
            self._container = _open(target, subject, how or {"options": NOTHING_ELSE})
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
        """Channels of the first decoded frame; what the header says may be wrong."""
        return int(self._first.layout.nb_channels)

    @property
    def description(self) -> str:
        """Codec, rate and channels, for people."""
        many = "channel" if self.channels == 1 else "channels"
        codec = self._track.codec_context.name
        return f"{codec}, {self._first.sample_rate} Hz, {self.channels} {many}"

    @property
    def duration_s(self) -> float:
        """Seconds that the container declares; 0 if it does not: it may have no end."""
        return max(0.0, (self._container.duration or 0) / 1e6)

    def close(self) -> None:
        """Release the container."""
        if self._container is not None:
            self._container.close()

    def blocks(self) -> Iterator[Block]:
        """Yield the audio, once, with the holes that its time stamps show.

        Raises:
            SourceError: it broke off, with the second at which.

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
        """Yield the frames; a packet that cannot be decoded is counted and passed over."""
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
        """Refuse to call the end of a truncated file an end."""
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
    """Return a decoded frame as [n, channels] in [-1, 1], whatever its sample format."""
    from av.audio.plane import AudioPlane

    channels = frame.layout.nb_channels
    kind = frame.format.name.removesuffix("p")
    planar = frame.format.is_planar
    count = frame.samples * (1 if planar else channels)
    # `frame.to_ndarray()` and `frame.planes` of PyAV run past the end of the pointers of planar
    # audio with eight channels or more, and crash; each plane by itself is safe.
    planes = [AudioPlane(frame, number) for number in range(channels if planar else 1)]
    parts = [np.frombuffer(memoryview(plane), dtype=_TYPES[kind], count=count) for plane in planes]
    values = np.stack(parts, axis=1) if planar else parts[0].reshape(-1, channels)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    scale = 2.0 ** (8 * values.dtype.itemsize - 1)
    offset = scale if kind == "u8" else 0.0
    return ((values - offset) / scale).astype(np.float32)


def reason_of(error: BaseException) -> str:
    """Return the plain words of an error of FFmpeg or the system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _open(target: Any, subject: str, how: Mapping[str, Any]) -> Any:
    import av

    try:
        return av.open(
            target,
            mode="r",
            metadata_errors="replace",  # a title in Latin-1 is no reason to refuse the sound
            **how,
        )
    except av.error.ExitError as error:  # the time-out of `how`
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
