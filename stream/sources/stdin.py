"""Standard input: raw PCM, or a container, through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Block, InputConfig, Opened, Warn
from abhinaya.stream.sources.condition import condition
from abhinaya.stream.sources.media.decode import Decoder
from abhinaya.stream.sources.media.length import Passing
from abhinaya.stream.sources.pcm import sample_bytes, to_float

SUBJECT: Final = "standard input"
_READ_BYTES: Final = 1 << 15
_PIPE: Final = "pipe audio into it, for example: ffmpeg -i INPUT -f wav - | abhinaya-stream -"

_HEADERS: Final = {b"RIFF": "WAV", b"RF64": "WAV", b"OggS": "ogg", b"fLaC": "FLAC", b"FORM": "AIFF"}


class Pipe:
    """A pipe as a file object for the decoder: not seekable, with short reads.

    A broken pipe looks like the end; `failure` then has the error.
    """

    def __init__(self, stream: Any, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._broken: BaseException | None = None
        self.passing = Passing()
        self.start_unix_s = clock()  # later the time of the first byte

    def read(self, size: int = _READ_BYTES) -> bytes:
        """Wait for data and return it, at most `size` bytes; empty at the end."""
        try:
            read = getattr(self._stream, "read1", self._stream.read)
            data: bytes = read(size if size > 0 else _READ_BYTES) or b""
        except (OSError, ValueError) as error:
            self._broken = error
            return b""
        if not self.passing.size and data:
            self.start_unix_s = self._clock()
        self.passing.add(data)
        return data

    @property
    def failure(self) -> SourceError | None:
        """The error that ended the data: the pipe broke, or was empty."""
        if self._broken is not None:
            return SourceError(SUBJECT, f"cannot be read: {self._broken}", _PIPE)
        return (
            None
            if self.passing.size
            else SourceError(SUBJECT, "ended before any audio came", _PIPE)
        )


def open_stdin(
    config: InputConfig,
    warn: Warn,
    stream: BinaryIO | None = None,
    clock: Callable[[], float] = unix_time,
) -> Opened:
    """Open standard input, or `stream` instead.

    Raises:
        SourceError: standard input is closed, a terminal, empty, or not audio.

    """
    pipe = Pipe(stream or standard_input(), clock)
    if config.sample_format:
        channels = config.channel_count or 1
        kind = f"{config.sample_format}, {config.raw_rate} Hz, {channels} channels"
        blocks, close = _raw_blocks(pipe, config, channels, warn, clock), lambda: None
    else:
        try:
            decoder = Decoder(
                pipe,
                SUBJECT,
                warn,
                contents=pipe.passing.contents(),
                clock=clock,
                carrier=pipe,
                track=config.track,
            )
        except SourceError as error:
            if pipe.failure is not None:
                raise
            hint = "name the file (not every mp4 can be piped); raw samples need --sample-format"
            raise SourceError(SUBJECT, error.reason, hint) from error
        channels, kind = decoder.channels, decoder.description
        blocks, close = decoder.blocks(), decoder.close
    return Opened(
        channels=1 if config.channels == "mix" else channels,
        live=False,
        description=f"{SUBJECT}: {kind}",
        start_unix_s=pipe.start_unix_s,
        audio=condition(blocks, config.channels, SUBJECT, warn),
        closing=close,
        repeatable=False,
    )


def _raw_blocks(
    pipe: Pipe, config: InputConfig, channels: int, warn: Warn, clock: Callable[[], float]
) -> Iterator[Block]:
    """Yield the samples as soon as they arrive; a read may end within a sample."""
    frame_bytes = channels * sample_bytes(config.sample_format)
    rest = b""
    while data := pipe.read():
        if (kind := _HEADERS.get(data[:4])) and not pipe.passing.size > len(data):
            text = f"begins with the header of a {kind} file, which is heard as samples"
            warn(f"{SUBJECT}: {text}; without --sample-format the header is used")
        rest += data
        whole = len(rest) - len(rest) % frame_bytes
        if whole:
            samples = to_float(rest[:whole], config.sample_format).reshape(-1, channels)
            rest = rest[whole:]
            yield Block(samples, config.raw_rate, clock())
    if rest:
        warn(f"{SUBJECT}: its last {len(rest)} bytes are not a whole sample and were left out")
    if pipe.failure is not None:
        raise pipe.failure


def standard_input() -> BinaryIO:
    """Return standard input.

    Raises:
        SourceError: it is closed or a terminal.

    """
    stream = sys.stdin
    if stream is None or stream.closed:
        raise SourceError(SUBJECT, "is closed", _PIPE)
    if stream.isatty():
        raise SourceError(SUBJECT, "is a terminal: nothing is piped into it", _PIPE)
    return stream.buffer
