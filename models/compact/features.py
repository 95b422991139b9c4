"""Log-mel energies, and which frames are speech. NumPy only.

The light front process imports this file, and training imports the same one: what a voter was
trained on is what it is served.

Shapes: n samples, T frames, M = N_MELS mel bins.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray

SAMPLE_RATE: Final = 16_000
FRAME_SAMPLES: Final = 400
"""25 ms."""
HOP_SAMPLES: Final = 160
"""10 ms."""
N_FFT: Final = 512
N_MELS: Final = 64
LOWEST_HZ: Final = 60.0
HIGHEST_HZ: Final = 7_600.0

ENERGY_FLOOR: Final = 1e-8
"""Added to each mel energy before the logarithm; about the noise of 16-bit rounding."""
SILENCE_LEVEL: Final = float(np.log(2 * N_MELS * ENERGY_FLOOR))
"""Level (natural log of the summed energy) at or under which a frame holds no signal at all."""
SPEECH_BELOW_PEAK: Final = 8.0
"""A frame counts as speech while its level is within this of the running peak (nats; 35 dB)."""
PEAK_FALL: Final = 8.0 / 6_000
"""Fall of the running peak per frame: a click is forgotten in about a minute."""

Array64 = npt.NDArray[np.float64]


def _mel(hz: float) -> float:
    return 2595.0 * float(np.log10(1.0 + hz / 700.0))


def _edges_hz() -> Array64:
    edges_mel = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), N_MELS + 2)
    edges: Array64 = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    return edges


@cache
def mel_filters() -> FloatArray:
    """Triangular mel filters [N_FFT // 2 + 1, M] on the HTK mel scale (O'Shaughnessy, 1987)."""
    edges_hz = _edges_hz()
    bins_hz = np.arange(N_FFT // 2 + 1)[:, None] * (SAMPLE_RATE / N_FFT)
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


@cache
def _window() -> FloatArray:
    return np.hanning(FRAME_SAMPLES + 1)[:-1].astype(np.float32)


def frame_count(n_samples: int) -> int:
    """Frames T that fit whole into `n_samples` samples."""
    return max(0, 1 + (n_samples - FRAME_SAMPLES) // HOP_SAMPLES)


def log_mel(samples: FloatArray) -> FloatArray:
    """Natural log of mel energies [T, M] of 16 kHz samples [n] in [-1, 1].

    Only whole frames: no padding at either end, so a frame depends on its own 25 ms alone.
    """
    if frame_count(len(samples)) == 0:
        return np.zeros((0, N_MELS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES)[::HOP_SAMPLES]
    spectrum = np.fft.rfft(frames * _window(), N_FFT)
    power = spectrum.real**2 + spectrum.imag**2
    energies: FloatArray = np.log(power.astype(np.float32) @ mel_filters() + ENERGY_FLOOR)
    return energies


def frame_levels(energies: FloatArray) -> Array64:
    """Level [T] of each frame of log-mel energies [T, M]: the log of the summed energy."""
    levels: Array64 = np.log(np.exp(energies.astype(np.float64)).sum(axis=1))
    return levels


def speech_frames(
    energies: FloatArray, peak: float = -np.inf
) -> tuple[npt.NDArray[np.bool_], float]:
    """Which frames [T] of log-mel energies [T, M] are loud enough to be speech.

    `peak` is the running peak level before the first frame; the one after the last is returned.
    """
    levels = frame_levels(energies)
    fall = PEAK_FALL * np.arange(1, len(levels) + 1)
    peaks = np.maximum(np.maximum.accumulate(levels + fall), peak) - fall
    speech = (levels > peaks - SPEECH_BELOW_PEAK) & (levels > SILENCE_LEVEL)
    return speech, float(peaks[-1])
