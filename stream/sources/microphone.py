"""Microphone input through PortAudio."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.base import Block, FloatArray, InputConfig, Opened, Warn
from abhinaya.stream.sources.condition import condition
from abhinaya.stream.sources.tries import tries

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
    _check_channels(device, channels)
    return device, channels


def _check_channels(device: Device, channels: int) -> None:
    if channels > device.channels:
        reason = f"has {device.channels} channels, not {channels}"
        raise SourceError(f"microphone {device.name!r}", reason, "ask for fewer channels")


def open_microphone(
    config: InputConfig,
    warn: Warn,
    network: NetworkConfig | None = None,
    portaudio: Any = None,
    clock: Callable[[], float] = unix_time,
    stall_s: float = _STALL_S,
    queue_s: float = _QUEUE_S,
) -> Opened:
    """Start to record from a device, at the device's own rate.

    A device that vanishes is waited for; when it is back, the audio in between is marked as lost.

    Args:
        config: names the device and the channels.
        warn: receives messages about lost audio.
        network: pauses between tries, and how long to wait for a device that has vanished.
        portaudio: replaces the sounddevice module in tests.
        clock: wall-clock time in Unix seconds.
        stall_s: seconds without any sample after which the device counts as unplugged.
        queue_s: seconds of audio that may wait for the reader; more is marked as lost.

    Raises:
        SourceError: PortAudio or the device is missing, or the device cannot be opened.

    """
    portaudio = portaudio or _import()
    device, channels = find(config, portaudio)
    opener = _Opener(portaudio, f"microphone {device.name!r}", channels, queue_s, clock)
    microphone = _Microphone(opener, device, stall_s, network or NetworkConfig(), warn)
    return Opened(
        channels=1 if config.channels == "mix" else channels,
        live=True,
        description=f"{device.name}: {device.rate} Hz, {channels} channels",
        start_unix_s=clock(),
        audio=condition(microphone.blocks(), config.channels, opener.subject, warn),
        closing=microphone.close,
        interrupting=microphone.interrupt,
        repeatable=False,
    )


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens recordings of one device."""

    portaudio: Any
    subject: str
    channels: int
    queue_s: float
    clock: Callable[[], float]

    def record(self, device: Device) -> tuple[Intake, Any]:
        """Start to record; return the queue of the audio, and PortAudio's stream.

        Raises:
            SourceError: the device cannot be opened, or has too few channels.

        """
        _check_channels(device, self.channels)
        intake = Intake(device.rate, int(self.queue_s / _BLOCK_S), self.clock)
        try:
            stream = self.portaudio.InputStream(
                device=device.number,
                samplerate=device.rate,
                channels=self.channels,
                dtype="float32",
                blocksize=round(device.rate * _BLOCK_S),
                callback=intake.take,
                finished_callback=intake.stop,
            )
            stream.start()
        except self.portaudio.PortAudioError as error:
            remedy = "is another program using it? " + _LIST
            raise SourceError(self.subject, f"does not open: {error}", remedy) from error
        return intake, stream

    def again(self, name: str) -> tuple[Intake, Any]:
        """Record from the device `name` again, whatever its number is now.

        Raises:
            SourceError: it is not back, or cannot be opened.

        """
        try:  # PortAudio lists devices only when it starts
            self.portaudio._terminate()
            self.portaudio._initialize()
        except self.portaudio.PortAudioError as error:
            raise SourceError(self.subject, f"PortAudio does not start again: {error}") from error
        found = [device for device in list_devices(self.portaudio) if device.name == name]
        if not found:
            raise SourceError(self.subject, "is not plugged in")
        return self.record(found[0])


class _Microphone:
    """The recordings of one device, one after the other."""

    def __init__(
        self, opener: _Opener, device: Device, stall_s: float, network: NetworkConfig, warn: Warn
    ) -> None:
        self._opener, self._device, self._warn = opener, device, warn
        self._stall_s, self._network = stall_s, network
        self._stop = threading.Event()
        self._closed = False
        self._intake, self._stream = opener.record(device)
        self._heard_unix_s = opener.clock()
        """When the latest sample arrived."""

    def interrupt(self) -> None:
        """End `blocks` soon."""
        self._stop.set()

    def close(self) -> None:
        """Stop recording."""
        self._stop.set()
        if not self._closed:
            self._closed = True
            self._release()

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks as they arrive; the first after a loss says how long it was.

        Raises:
            SourceError: the device has vanished and is not back in time.

        """
        lost = ""
        subject = self._opener.subject
        while True:
            try:
                for block in self._intake.blocks(subject, self._stall_s, self._stop, self._warn):
                    if lost:
                        block, lost = self._after_loss(block, lost), ""
                    self._heard_unix_s = block.captured_unix_s
                    yield block
                return
            except SourceError as error:
                if not lost:
                    self._warn(f"{subject}: {error.reason}; trying to open it again")
                lost = lost or error.reason
            if not self._open_again(lost):
                return

    def _open_again(self, reason: str) -> bool:
        """Wait for the device; return False if stopped meanwhile."""
        self._release()
        patience_s = self._network.give_up_s
        for _ in tries(self._network, self._stop, patience_s):
            try:
                self._intake, self._stream = self._opener.again(self._device.name)
            except SourceError as error:
                reason = error.reason
            else:
                return True
        if self._stop.is_set():
            return False
        away = f"is not back within {patience_s:g} s ({reason})"
        raise SourceError(self._opener.subject, away, "is it still plugged in?")

    def _after_loss(self, block: Block, reason: str) -> Block:
        length_s = len(block.samples) / block.rate
        lost_s = max(0.0, block.captured_unix_s - self._heard_unix_s - length_s)
        self._warn(f"{self._opener.subject}: records again, {lost_s:.1f} s are missing")
        lost = round(lost_s * block.rate)
        return replace(block, lost_samples=lost, lost_reason=f"the microphone {reason}")

    def _release(self) -> None:
        # an unplugged device may fail to close; then there is nothing to release
        try:
            self._stream.close()
        except self._opener.portaudio.PortAudioError as error:
            self._warn(f"{self._opener.subject}: did not close: {error}")


class Intake:
    """Queue from PortAudio's thread, which must never wait, to the reader."""

    def __init__(self, rate: int, depth: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._waiting: queue.Queue[Block] = queue.Queue(maxsize=max(1, depth))
        self._stopped = False
        self._lost = 0  # samples lost since the last block that was queued
        self._next_adc_s: float | None = None

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

    def blocks(
        self, subject: str, stall_s: float, stop: threading.Event, warn: Warn
    ) -> Iterator[Block]:
        """Yield the blocks as they arrive, until `stop` is set; then those that are waiting.

        Raises:
            SourceError: the device was unplugged or delivers nothing.

        """
        position_s, warned = 0.0, False
        deadline = time.monotonic() + stall_s
        while True:
            try:
                block = self._waiting.get(timeout=0.05)
            except queue.Empty:
                if stop.is_set():
                    return
                if self._stopped or time.monotonic() > deadline:
                    reason = f"delivered no more audio after {position_s:.1f} s"
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
