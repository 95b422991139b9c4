"""Microphone input through PortAudio."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Block, FloatArray, InputConfig, Opened, Warn
from abhinaya.stream.sources.condition import condition

_BLOCK_S: Final = 0.032
_QUEUE_S: Final = 10.0
_STALL_S: Final = 3.0
OVERRUN: Final = "the device gave audio faster than it was read"
_LIST: Final = "see abhinaya-stream --list-devices, and choose with --device"


@dataclass(frozen=True, slots=True)
class Device:
    """A recording device."""

    number: int
    name: str
    channels: int
    rate: int
    default: bool


def list_devices(portaudio: Any = None) -> list[Device]:
    """Return the recording devices; tests replace the sounddevice module by `portaudio`.

    Raises:
        SourceError: PortAudio is missing or broken.

    """
    portaudio = portaudio or _import()
    try:
        default = portaudio.default.device[0]
        return [
            Device(
                number,
                str(entry["name"]),
                int(entry["max_input_channels"]),
                round(entry["default_samplerate"]),
                number == default,
            )
            for number, entry in enumerate(portaudio.query_devices())
            if entry["max_input_channels"] > 0
        ]
    except portaudio.PortAudioError as error:
        raise SourceError("microphone", f"PortAudio lists no devices: {error}") from error


def choose(devices: list[Device], wanted: str) -> Device:
    """Return the device that `wanted` names by number or part of its name; empty: the default.

    Raises:
        SourceError: no device fits, or more than one.

    """
    subject = f"device {wanted!r}" if wanted else "microphone"
    if not devices:
        raise SourceError(subject, "no device can record", "plug one in, or give a file or `-`")
    if not wanted:
        return next((d for d in devices if d.default), devices[0])
    if wanted.isdecimal():
        fitting = [d for d in devices if d.number == int(wanted)]
    else:
        name = wanted.casefold()
        fitting = [d for d in devices if name in d.name.casefold()]
        fitting = [d for d in fitting if d.name.casefold() == name] or fitting
    if not fitting:
        raise SourceError(subject, "no such device can record", _LIST)
    if len(fitting) > 1:
        names = ", ".join(f"{d.number} {d.name!r}" for d in fitting)
        raise SourceError(subject, f"fits more than one device: {names}", "name one by its number")
    return fitting[0]


def find(config: InputConfig, portaudio: Any = None) -> tuple[Device, int]:
    """Return the device of an input, and the number of its channels to record.

    Raises:
        SourceError: PortAudio or the device is missing, or has fewer channels.

    """
    device = choose(list_devices(portaudio), config.device)
    channels = config.channel_count or min(2, device.channels)
    if channels > device.channels:
        reason = f"has {device.channels} channels, not {channels}"
        raise SourceError(f"microphone {device.name!r}", reason, "ask for fewer channels")
    return device, channels


def open_microphone(
    config: InputConfig,
    warn: Warn,
    portaudio: Any = None,
    clock: Callable[[], float] = unix_time,
    stall_s: float = _STALL_S,
    queue_s: float = _QUEUE_S,
) -> Opened:
    """Start to record from a device, at the device's own rate.

    Args:
        config: names the device and the channels.
        warn: receives messages about lost audio.
        portaudio: replaces the sounddevice module in tests.
        clock: wall-clock time in Unix seconds.
        stall_s: seconds without any sample after which the device counts as unplugged.
        queue_s: seconds of audio that may wait for the reader; more is marked as lost.

    Raises:
        SourceError: PortAudio or the device is missing, or the device cannot be opened.

    """
    portaudio = portaudio or _import()
    device, channels = find(config, portaudio)
    subject = f"microphone {device.name!r}"
    intake = Intake(device.rate, int(queue_s / _BLOCK_S), clock)
    try:
        stream = portaudio.InputStream(
            device=device.number,
            samplerate=device.rate,
            channels=channels,
            dtype="float32",
            blocksize=round(device.rate * _BLOCK_S),
            callback=intake.take,
            finished_callback=intake.stop,
        )
        stream.start()
    except portaudio.PortAudioError as error:
        remedy = "is another program using it? " + _LIST
        raise SourceError(subject, f"does not open: {error}", remedy) from error

    def close() -> None:
        if intake.closed:
            return
        intake.closed = True
        # an unplugged device may fail to close; then there is nothing to release
        try:
            stream.close()
        except portaudio.PortAudioError as error:
            warn(f"{subject}: did not close: {error}")

    return Opened(
        channels=1 if config.channels == "mix" else channels,
        live=True,
        description=f"{device.name}: {device.rate} Hz, {channels} channels",
        start_unix_s=clock(),
        audio=condition(intake.blocks(subject, stall_s, warn), config.channels, subject, warn),
        closing=close,
        repeatable=False,
    )


class Intake:
    """Queue from PortAudio's thread, which must never wait, to the reader."""

    def __init__(self, rate: int, depth: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._waiting: queue.Queue[Block] = queue.Queue(maxsize=max(1, depth))
        self._stopped = False
        self._lost = 0  # samples lost since the last block that was queued
        self._next_adc_s: float | None = None
        self.closed = False

    def take(self, data: FloatArray, frames: int, times: Any, status: Any) -> None:
        """Queue the next samples [frames, channels]; PortAudio calls this."""
        adc_s = float(times.inputBufferAdcTime)
        if status.input_overflow:
            self._lost += self._overflowed(adc_s, frames)
        self._next_adc_s = adc_s + frames / self._rate
        try:
            why = OVERRUN if self._lost else ""
            block = Block(data.copy(), self._rate, self._clock(), self._lost, why)
            self._waiting.put_nowait(block)
            self._lost = 0
        except queue.Full:
            self._lost += frames

    def stop(self) -> None:
        """Note that the recording has ended; PortAudio calls this."""
        self._stopped = True

    def blocks(self, subject: str, stall_s: float, warn: Warn) -> Iterator[Block]:
        """Yield the blocks as they arrive, until the device is closed.

        Raises:
            SourceError: the device was unplugged or delivers nothing.

        """
        position_s, warned = 0.0, False
        deadline = time.monotonic() + stall_s
        while True:
            try:
                block = self._waiting.get(timeout=0.05)
            except queue.Empty:
                if self.closed:
                    return
                if self._stopped or time.monotonic() > deadline:
                    reason = f"delivers no more audio after {position_s:.1f} s"
                    raise SourceError(subject, reason, "is it still plugged in?") from None
                continue
            if block.lost_samples and not warned:  # later losses are only marked in their blocks
                ms = 1000 * block.lost_samples / self._rate
                warn(f"{subject}: {ms:.0f} ms lost at {position_s:.1f} s")
                warned = True
            position_s += block.length_s
            deadline = time.monotonic() + stall_s
            yield block

    def _overflowed(self, adc_s: float, frames: int) -> int:
        """Estimate from the time stamps how many samples PortAudio lost; one block if unknown."""
        if self._next_adc_s is not None:
            jump = round((adc_s - self._next_adc_s) * self._rate)
            if 0 < jump < 60 * self._rate:
                return jump
        return frames


def _import() -> Any:
    try:
        import sounddevice
    except OSError as error:
        remedy = "install it: apt install libportaudio2 (Debian, Ubuntu), brew install portaudio"
        raise SourceError("microphone", "the PortAudio library is missing", remedy) from error
    except ImportError as error:
        remedy = "install it: pip install sounddevice"
        raise SourceError("microphone", "sounddevice is not installed", remedy) from error
    return sounddevice
