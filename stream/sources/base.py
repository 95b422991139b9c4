"""What a source is: the values it yields, and what was asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from abhinaya.models.fields import setting
from abhinaya.stream.errors import ConfigError

FloatArray = npt.NDArray[np.float32]

Warn = Callable[[str], None]
"""Called with a sentence for people about audio that is used although something is wrong."""

SampleFormat = Literal[
    "", "u8", "s8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le"
]


@dataclass(frozen=True, slots=True)
class InputConfig:
    """One input, and how to read it."""

    what: str = setting(
        doc="a file, an http, https or rtsp address, `-` for standard input, or `mic`"
    )
    device: str = setting(
        "", doc="microphone: number or part of the name of a device; empty: the default one"
    )
    rate: int = setting(
        16_000, doc="samples a second of raw standard input", least=1_000, most=768_000
    )
    channel_count: int = setting(
        0,
        doc="channels of raw standard input (0: one) or of the microphone (0: up to two)",
        least=0,
        most=64,
    )
    sample_format: SampleFormat = setting(
        "", doc="samples of raw standard input; empty: it is a container such as wav or ogg"
    )
    channels: Literal["mix", "split"] = setting(
        "mix", doc="mix all channels into one stream, or split: one stream a channel"
    )
    channel_names: tuple[str, ...] = setting((), doc="names of the streams of split channels")
    realtime: bool = setting(False, doc="pace a file as if it were live")
    endless: Literal["auto", "yes", "no"] = setting(
        "auto",
        doc="whether an http address never ends, as radio does; auto: the server's answer decides",
    )


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """The next stretch of audio."""

    samples: FloatArray
    """[n, channels] at 16 kHz in [-1, 1]; n may be 0 where audio was lost."""
    captured_unix_s: float
    """When its last sample reached us."""
    lost_samples: int = 0
    """Samples at 16 kHz that were lost between the chunk before and this one."""
    lost_reason: str = ""
    """Why they were lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Audio as a device or decoder delivers it, before it is mixed and resampled."""

    samples: FloatArray
    """[n, channels of the input] nominally in [-1, 1]"""
    rate: int
    """Samples a second of this block."""
    captured_unix_s: float
    lost_samples: int = 0
    """Samples at `rate` that were lost before this block."""
    lost_reason: str = ""
    """Why they were lost."""

    @property
    def length_s(self) -> float:
        """Seconds of the input that this block accounts for, with those lost before it."""
        return (self.lost_samples + len(self.samples)) / self.rate


class Source(Protocol):
    """Audio that can be read once, from its beginning."""

    @property
    def channels(self) -> int:
        """How many channels its chunks have: 1 when mixed."""
        ...

    @property
    def live(self) -> bool:
        """Whether audio arrives by itself and cannot wait."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether it can be opened again and yields the same from its beginning."""
        ...

    @property
    def description(self) -> str:
        """What was opened, for people."""
        ...

    @property
    def start_unix_s(self) -> float:
        """Wall-clock time of sample 0: when it was opened. Open a source when ready to read it."""
        ...

    def chunks(self) -> Iterator[AudioChunk]:
        """Yield the audio, once.

        Raises:
            SourceError: it broke off; everything before was yielded.

        """
        ...

    def interrupt(self) -> None:
        """End `chunks` soon, if it may wait long; by another thread."""
        ...

    def close(self) -> None:
        """Release the file or device; may be called twice.

        Of a microphone, also by another thread while `chunks` waits: then `chunks` ends.
        """
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A `Source` as the functions that open one build it."""

    channels: int
    live: bool
    description: str
    start_unix_s: float
    audio: Iterator[AudioChunk]
    closing: Callable[[], None] = field(default=lambda: None)
    interrupting: Callable[[], None] = field(default=lambda: None)
    repeatable: bool = True

    def chunks(self) -> Iterator[AudioChunk]:
        """Return the audio, once."""
        return self.audio

    def interrupt(self) -> None:
        """End `chunks` soon."""
        self.interrupting()

    def close(self) -> None:
        """Release the file or device."""
        self.closing()


def channel_names(config: InputConfig, channels: int) -> tuple[str, ...]:
    """Name the streams of a source: one empty name when mixed, else given names or numbers."""
    if config.channels == "mix":
        return ("",)
    return config.channel_names or tuple(str(number + 1) for number in range(channels))


def check_names(config: InputConfig, channels: int) -> None:
    """Refuse channel names that do not fit the source.

    Raises:
        ConfigError: names without split channels, too few, too many, or one twice.

    """
    names = config.channel_names
    if not names:
        return
    subject = f"--channel-names {','.join(names)}"
    if config.channels == "mix":
        raise ConfigError(subject, "mixed channels have no names", "add --channels split")
    if len(names) != channels:
        reason = f"names {len(names)} channels, but {config.what} has {channels}"
        raise ConfigError(subject, reason, "give one name for each channel")
    if len(set(names)) != len(names) or not all(names):
        raise ConfigError(subject, "each channel needs a name of its own", "change the names")
