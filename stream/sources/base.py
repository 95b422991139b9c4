"""The types that all sources share: input settings, audio blocks and chunks, the opened source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from abhinaya.models.fields import setting
from abhinaya.models.text import clean, short_name
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.sources.address import has_credentials, is_address, shown

RATES: Final = range(4_000, 768_001)
"""Samples a second that sound can have; other values come from a wrong header."""
MOST_CHANNELS: Final = 64

FloatArray = npt.NDArray[np.float32]

Warn = Callable[[str], None]
"""Receives a message for the user about audio that has a fault but is used."""

SampleFormat = Literal[
    "", "u8", "s8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le",
    "mulaw", "alaw",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class InputConfig:
    """Settings of one input."""

    what: str = setting(
        doc="a file, an http, https or rtsp address, `-` for standard input, or `mic`"
    )
    device: str = setting(
        "", doc="microphone: number or part of the name of a device; empty: the default one"
    )
    rate: int = setting(
        0,
        doc="samples a second of raw standard input (default: 16000; of mulaw and alaw 8000)",
        least=RATES[0],
        most=RATES[-1],
    )
    channel_count: int = setting(
        0,
        doc="channels of raw standard input (0: one) or of the microphone (0: up to two)",
        least=0,
        most=MOST_CHANNELS,
    )
    sample_format: SampleFormat = setting(
        "", doc="samples of raw standard input; empty: it is a container such as wav or ogg"
    )
    channels: Literal["mix", "split"] = setting(
        "mix", doc="mix all channels into one stream, or split: one stream a channel"
    )
    channel_names: tuple[str, ...] = setting((), doc="names of the streams of split channels")
    realtime: bool = setting(False, doc="pace a file as if it were live")
    track: int = setting(
        0,
        doc="audio track of a container, from 1; 0: the default one, or the first with sound",
        least=0,
        most=1_000,
    )
    endless: Literal["auto", "yes", "no"] = setting(
        "auto",
        doc="whether an http address never ends, as radio does; auto: the server's answer decides",
    )
    consent: str = setting(
        "", doc="consent of the persons concerned, noted in the stream's start; `no`: not judged"
    )
    label: str = setting("", doc="how messages name the input; empty: as `what`, without secrets")

    @property
    def subject(self) -> str:
        """How messages name the input."""
        hidden = is_address(self.what) or has_credentials(self.what)
        return self.label or (shown(self.what) if hidden else self.what)

    @property
    def raw_rate(self) -> int:
        """Samples a second of raw standard input; G.711 is 8 kHz by definition."""
        return self.rate or (8_000 if self.sample_format in ("mulaw", "alaw") else 16_000)


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """Consecutive samples of a source, conditioned for the models."""

    samples: FloatArray
    """[n, channels] at 16 kHz in [-1, 1]; n may be 0 if audio was lost."""
    captured_unix_s: float
    """Wall-clock time at which the last sample arrived."""
    lost_samples: int = 0
    """Samples at 16 kHz that were lost just before this chunk."""
    lost_reason: str = ""
    """Reason of that loss."""
    stalled: bool = False
    """Whether no more audio came after it: speech so far is a segment, whatever follows."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Audio from a device or decoder, not yet mixed or resampled."""

    samples: FloatArray
    """[n, channels of the input] nominally in [-1, 1]"""
    rate: int
    """Samples a second."""
    captured_unix_s: float
    """Wall-clock time at which the last sample arrived."""
    lost_samples: int = 0
    """Samples at `rate` that were lost just before this block."""
    lost_reason: str = ""
    """Reason of that loss."""
    weights: FloatArray | None = None
    """[channels] Share of each channel in a mix; None: equal."""

    @property
    def length_s(self) -> float:
        """Seconds of the input: the block and the loss before it."""
        return (self.lost_samples + len(self.samples)) / self.rate


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened source. Its audio can be read once, from the beginning."""

    channels: int
    """Channels of each chunk; 1 if the input is mixed."""
    live: bool
    """Whether audio arrives in real time, so that the reader must keep up."""
    description: str
    """Name and format of the input, for the user."""
    start_unix_s: float
    """Wall-clock time of sample 0: the time of opening. Open a source when ready to read it."""
    audio: Iterator[AudioChunk]
    """Raises SourceError if the source fails, after the audio before the failure."""
    closing: Callable[[], None] = lambda: None
    interrupting: Callable[[], None] = lambda: None
    repeatable: bool = True
    """Whether the source can be opened again and then yields the same audio."""
    length_s: float = 0.0
    """Declared length of a recording; 0 if unknown or endless."""
    ready: Callable[[], bool] = lambda: True
    """Returns whether to ask for a chunk now: false if others should not wait for this source."""
    reason: Callable[[], str] = lambda: ""
    """Returns why the audio has broken off; empty for a natural end."""

    def chunks(self) -> Iterator[AudioChunk]:
        """Return the iterator of the audio."""
        return self.audio

    def interrupt(self) -> None:
        """End `chunks` soon, even if it waits for audio. Any thread may call this."""
        self.interrupting()

    def close(self) -> None:
        """Release the file or device. May be called twice.

        For a microphone another thread may call this while `chunks` waits; `chunks` then ends.
        """
        self.closing()


def channel_names(config: InputConfig, channels: int) -> tuple[str, ...]:
    """Return the names of a source's streams: one empty name if mixed, else names or numbers."""
    if config.channels == "mix":
        return ("",)
    names = tuple(map(short_name, config.channel_names))
    return names or tuple(str(number + 1) for number in range(channels))


def check_names(config: InputConfig, channels: int) -> None:
    """Check that the channel names fit a source with so many channels; 0: as yet unknown.

    Raises:
        ConfigError: the channels are not split, or the names are too few, too many or repeated.

    """
    names = config.channel_names
    if not names:
        return
    subject = f"--channel-names {','.join(names)}"
    if config.channels == "mix":
        reason = "names channels, but they are mixed into one stream"
        raise ConfigError(subject, reason, "add --channels split, or leave out the names")
    if channels and len(names) != channels:
        reason = f"names {len(names)} channels, but {config.subject} has {channels}"
        raise ConfigError(subject, reason, "give one name for each channel")
    if len({clean(short_name(name)) for name in names}) != len(names) or not all(names):
        raise ConfigError(subject, "each channel needs a name of its own", "change the names")
