"""Simulates recording conditions: room, frequency band, noise, level, telephone.

Without them a model learns the room and microphone of each corpus instead of the emotion. One
channel lasts for a session, as in real use, so running normalisation is trained on it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soxr

from abhinaya.models.base import SAMPLE_RATE, FloatArray
from abhinaya.train.data.audio import read_audio

# Parts of file names of impulse responses that are effects, not rooms.
EFFECTS = ("peculiar", "spreader", "echo", "filter", "cinema", "magnetic", "smooth", "sim_", "rear")
LONGEST_RESPONSE = int(0.6 * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Channel:
    """Simulated recording conditions. With the defaults the audio is unchanged."""

    speed: float = 1.0
    """Playing speed. It shifts the pitch too, like another speaker."""
    room: Path | None = None
    low_hz: float = 0.0
    high_hz: float = SAMPLE_RATE / 2
    telephone: bool = False
    """Encode as 8-bit mu-law of ITU-T G.711."""
    gain_db: float = 0.0
    noise: Path | None = None
    snr_db: float = 100.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Files of room responses and noises, to draw from."""

    rooms: tuple[Path, ...]
    noises: tuple[Path, ...]

    @classmethod
    def find(cls, data: Path) -> Surroundings:
        """Find the rooms in `data`/rir and the noises in `data`/noise; both may be absent."""
        rooms = sorted((data / "rir").glob("*.flac"))
        return cls(
            rooms=tuple(r for r in rooms if not any(effect in r.name for effect in EFFECTS)),
            noises=tuple(sorted((data / "noise").glob("*.opus"))),
        )


def draw_channel(rng: np.random.Generator, around: Surroundings) -> Channel:
    """Draw the channel of one session."""
    telephone = rng.random() < 0.2
    high_hz = 3_400.0
    if not telephone:
        high_hz = 8_000.0 if rng.random() < 0.5 else float(rng.uniform(3_500.0, 8_000.0))
    return Channel(
        speed=float(rng.uniform(0.9, 1.1)),
        room=_maybe(rng, around.rooms, 0.4),
        low_hz=300.0 if telephone else float(rng.choice([0.0, 0.0, 80.0, 200.0])),
        high_hz=high_hz,
        telephone=telephone,
        gain_db=float(rng.uniform(-20.0, 10.0)),
        noise=_maybe(rng, around.noises, 0.6),
        snr_db=float(rng.uniform(5.0, 35.0)),
    )


def _maybe(rng: np.random.Generator, files: Sequence[Path], share: float) -> Path | None:
    if not files or rng.random() >= share:
        return None
    return files[int(rng.integers(len(files)))]


def send_through(samples: FloatArray, channel: Channel, rng: np.random.Generator) -> FloatArray:
    """Apply `channel` to samples [n]; `rng` chooses where the noise starts."""
    if channel.speed != 1.0:
        samples = soxr.resample(samples, SAMPLE_RATE * channel.speed, SAMPLE_RATE, quality="MQ")
    out = _filter(samples, channel)
    if channel.noise is not None:
        out = out + noise_under(_noise(channel.noise), out, channel.snr_db, rng)
    out = out * 10.0 ** (channel.gain_db / 20.0)
    if channel.telephone:
        out = _mu_law(out)
    arrived: FloatArray = np.clip(out, -1.0, 1.0).astype(np.float32)
    return arrived


def _filter(samples: FloatArray, channel: Channel) -> FloatArray:
    """Apply room and band, in one multiplication of spectra."""
    response = _room(channel.room) if channel.room else None
    size = len(samples) + (len(response) if response is not None else 0)
    size = 1 << (size - 1).bit_length()
    spectrum = np.fft.rfft(samples, size)
    if response is not None:
        spectrum = spectrum * np.fft.rfft(response, size)
    hz = np.arange(size // 2 + 1) * (SAMPLE_RATE / size)
    if channel.low_hz > 0.0:
        spectrum = spectrum / np.sqrt(1.0 + (channel.low_hz / np.maximum(hz, 1e-3)) ** 8)
    if channel.high_hz < SAMPLE_RATE / 2:
        spectrum = spectrum / np.sqrt(1.0 + (hz / channel.high_hz) ** 40)
    filtered: FloatArray = np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)
    return filtered


@lru_cache(maxsize=128)
def _room(path: Path) -> FloatArray:
    """Return the impulse response from its direct sound on, scaled to energy 1."""
    response = read_audio(path)
    start = int(np.argmax(np.abs(response)))
    response = response[start : start + LONGEST_RESPONSE]
    scaled: FloatArray = (response / np.sqrt(np.sum(response**2) + 1e-12)).astype(np.float32)
    return scaled


@lru_cache(maxsize=128)
def _noise(path: Path) -> FloatArray:
    return read_audio(path)


def noise_under(
    noise: FloatArray, speech: FloatArray, snr_db: float, rng: np.random.Generator
) -> FloatArray:
    """Return noise [n] as long as `speech`, `snr_db` below it, from a random place of `noise`."""
    start = int(rng.integers(len(noise)))
    noise = np.resize(np.roll(noise, -start), len(speech))
    power = float(np.mean(noise**2)) + 1e-12
    wanted = float(np.mean(speech**2)) / 10.0 ** (snr_db / 10.0)
    quiet: FloatArray = (noise * np.sqrt(wanted / power)).astype(np.float32)
    return quiet


def _mu_law(samples: FloatArray) -> FloatArray:
    clipped = np.clip(samples, -1.0, 1.0)
    squeezed = np.sign(clipped) * np.log1p(255.0 * np.abs(clipped)) / np.log(256.0)
    steps = np.round(squeezed * 127.0) / 127.0
    expanded: FloatArray = np.sign(steps) * np.expm1(np.abs(steps) * np.log(256.0)) / 255.0
    return expanded
