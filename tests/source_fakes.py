"""Stand-ins for audio hardware and files; no test needs a device or a recording."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray[Any, Any]:
    """[n, channels] float32: each channel a sine of its own."""
    time = np.arange(round(seconds * rate)) / rate
    return np.stack(
        [0.4 * np.sin(2 * np.pi * 220 * (c + 1) * time) for c in range(channels)], axis=1
    ).astype(np.float32)


def write_pcm_wav(path: Path, samples: np.ndarray[Any, Any], rate: int, width: int) -> None:
    """Write [n, channels] as a wav with `width` bytes a sample."""
    scale = 2 ** (8 * width - 1) - 1
    if width == 1:
        data = (np.round(samples * scale) + 128).astype(np.uint8).tobytes()
    elif width == 3:
        wide = np.round(samples * scale).astype("<i4").reshape(-1, 1).view(np.uint8)
        data = wide[:, :3].tobytes()
    else:
        data = np.round(samples * scale).astype(f"<i{width}").tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)


def encode(
    target: Path | io.BytesIO,
    samples: np.ndarray[Any, Any],
    rate: int,
    codec: str,
    container: str | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Write [n, channels] by PyAV in any container and codec."""
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[samples.shape[1]]
    where = target if isinstance(target, io.BytesIO) else str(target)
    with av.open(where, "w", container, options=options or {}) as file:
        track = file.add_stream(codec, rate=rate, layout=layout)
        track.bit_rate = 96_000  # some codecs have no default
        _add(file, track, samples, rate, layout)


def _add(
    file: Any, track: Any, samples: np.ndarray[Any, Any], rate: int, layout: str, size: int = 0
) -> None:
    """Encode [n, channels] into a track, in frames of `size` where the codec does not say."""
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate = rate
    context = track.codec_context
    size = context.frame_size or size
    fit = av.AudioResampler(context.format.name, layout, rate, frame_size=size or None)
    for part in [*fit.resample(frame), *fit.resample(None), None]:
        file.mux(track.encode(part))


def write_video(path: Path, *, sound: np.ndarray[Any, Any] | None, rate: int = 48000) -> None:
    """Write a second of moving picture, with or without sound."""
    with av.open(str(path), "w") as file:
        picture = file.add_stream("mpeg4", rate=10)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        voice = file.add_stream("aac", rate=rate, layout="mono") if sound is not None else None
        for number in range(10):
            image = np.full((32, 32, 3), number * 20, np.uint8)
            file.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(picture.encode(None))
        if voice is not None and sound is not None:
            _add(file, voice, sound, rate, "mono", 1024)


def write_tracks(
    target: Path | io.BytesIO,
    *tracks: np.ndarray[Any, Any],
    codec: str = "pcm_s16le",
    rate: int = 16_000,
    container: str | None = None,
    dispositions: Mapping[int, str] | None = None,
    languages: Mapping[int, str] | None = None,
    late_s: Mapping[int, float] | None = None,
    picture_s: float = 0.0,
    picture: str = "mpeg4",
) -> None:
    """Write audio tracks [n, channels], by number from 0; `picture_s` adds a moving picture."""
    where = target if isinstance(target, io.BytesIO) else str(target)
    with av.open(where, "w", container) as file:
        moving = file.add_stream(picture, rate=10) if picture_s else None
        if moving is not None:
            moving.width = moving.height = 32
            moving.pix_fmt = "yuv420p"
        packets = []
        for number, samples in enumerate(tracks):
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
            track = file.add_stream(codec, rate=rate, layout=layout)
            track.bit_rate = 64_000  # some codecs have no default
            named = (dispositions or {}).get(number)
            track.disposition = av.stream.Disposition[named] if named else 0
            if language := (languages or {}).get(number):
                track.metadata["language"] = language
            context = track.codec_context
            fit = av.AudioResampler(
                context.format.name, layout, rate, frame_size=context.frame_size or 1024
            )
            parts = []
            for begin in range(0, len(samples), rate):
                frame = av.AudioFrame.from_ndarray(
                    samples[begin : begin + rate].reshape(1, -1), format="flt", layout=layout
                )
                frame.sample_rate = rate
                frame.pts = begin + round((late_s or {}).get(number, 0.0) * rate)
                parts += fit.resample(frame)
            for part in [*parts, *fit.resample(None), None]:
                packets += track.encode(part)
        if moving is not None:
            image = np.full((32, 32, 3), 99, np.uint8)
            for number in range(round(10 * picture_s)):
                shot = av.VideoFrame.from_ndarray(image, format="rgb24")
                shot.pts = number
                packets += moving.encode(shot)
            packets += moving.encode(None)
        for packet in sorted(packets, key=lambda p: (p.dts or 0) * p.time_base):
            file.mux(packet)


class FakePortAudioError(Exception):
    """Stands in for sounddevice.PortAudioError."""


class FakePortAudio:
    """The part of the sounddevice module that the microphone uses."""

    PortAudioError = FakePortAudioError

    def __init__(self, *names: str, channels: int = 2, rate: float = 48000.0) -> None:
        self.devices = [
            {"name": "Speakers", "max_input_channels": 0, "default_samplerate": rate},
            *(
                {"name": name, "max_input_channels": channels, "default_samplerate": rate}
                for name in names
            ),
        ]
        self._listed = list(self.devices)
        self.default = SimpleNamespace(device=(1, 0))
        self.refusal = ""
        self.stream: FakeInputStream | None = None

    def _terminate(self) -> None:
        self._listed = []

    def _initialize(self) -> None:
        """Look for devices: PortAudio does it only now."""
        self._listed = list(self.devices)

    def query_devices(self) -> list[dict[str, Any]]:
        return self._listed

    def InputStream(self, **settings: Any) -> FakeInputStream:  # noqa: N802 (sounddevice's name)
        if self.refusal:
            raise FakePortAudioError(self.refusal)
        self.stream = FakeInputStream(settings)
        return self.stream


class FakeInputStream:
    """A recording that the test feeds by hand."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.started = self.closed = False
        self._adc_s = 100.0

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True

    def deliver(self, samples: np.ndarray[Any, Any], overflowed_s: float = 0.0) -> None:
        """Let the device deliver [n, channels], after losing `overflowed_s`."""
        self._adc_s += overflowed_s
        self.settings["callback"](
            samples,
            len(samples),
            SimpleNamespace(inputBufferAdcTime=self._adc_s),
            SimpleNamespace(input_overflow=overflowed_s > 0),
        )
        self._adc_s += len(samples) / self.settings["samplerate"]

    def unplug(self) -> None:
        self.settings["finished_callback"]()


def write_hls(folder: Path, samples: np.ndarray[Any, Any], part_s: float = 1.0) -> list[Path]:
    """Write [n, 1] at 16 kHz as `whole.m3u8` and its parts, which are given."""
    options = {"hls_time": f"{part_s:g}", "hls_list_size": "0"}
    path = folder / "whole.m3u8"
    with av.open(str(path), "w", format="hls", options=options) as file:
        track = file.add_stream("aac", rate=16000, layout="mono")
        _add(file, track, samples, 16000, "mono", 1024)
    names = [n for n in path.read_text().splitlines() if n and not n.startswith("#")]
    return [folder / name for name in names]
