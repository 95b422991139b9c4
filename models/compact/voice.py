"""What is looked at in each frame of a voice: its spectrum, how that moves, and its pitch.

NumPy only; the front computes these frames to keep their running statistics, and so does a voter.
A frame depends on its own 25 ms and on at most CONTEXT_FRAMES frames before it, never on later
sound: so a stream gives the same frames however it is cut.

T frames, D = N_VALUES values of a frame: M mel bins, the cepstrum, its motion, the pitch.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import (
    FRAME_SAMPLES,
    HOP_SAMPLES,
    N_MELS,
    SAMPLE_RATE,
    log_mel,
)

N_CEPSTRA: Final = 20
MEL: Final = slice(0, N_MELS)
CEPSTRA: Final = slice(N_MELS, N_MELS + N_CEPSTRA)
MOTION: Final = slice(CEPSTRA.stop, CEPSTRA.stop + N_CEPSTRA)
"""Change of each cepstral coefficient over MOTION_FRAMES frames."""
VOICED: Final = MOTION.stop
"""1 where the frame has a pitch, else 0."""
STRENGTH: Final = VOICED + 1
"""How periodic the frame is: the normalised autocorrelation at its best lag."""
PITCH: Final = VOICED + 2
"""Natural log of the pitch in Hz where there is one, else 0."""
PITCH_SQUARED: Final = VOICED + 3
PITCH_MOTION: Final = VOICED + 4
"""Change of the log pitch since the frame before, its sign dropped; 0 unless both have one."""
N_VALUES: Final = VOICED + 5

MOTION_FRAMES: Final = 2
PITCH_FRAMES: Final = 3
"""Frames before a frame that its pitch is sought in."""
CONTEXT_FRAMES: Final = PITCH_FRAMES + 1
"""Frames before a frame that its values depend on: those of the pitch of the frame before."""

LOWEST_PITCH_HZ: Final = 65.0
HIGHEST_PITCH_HZ: Final = 500.0
VOICED_FROM: Final = 0.5
"""Least normalised autocorrelation of a frame with a pitch."""
SHORT_LAGS: Final = 0.0128
"""Taken from the autocorrelation for every ms of lag: of two octaves the higher is taken."""
LARGEST_JUMP: Final = 0.3
"""A larger change of the log pitch between frames is an octave mistaken, and counts as this."""

_PITCH_RATE: Final = SAMPLE_RATE // 2
_PITCH_SAMPLES: Final = (PITCH_FRAMES * HOP_SAMPLES + FRAME_SAMPLES) // 2
_PITCH_FFT: Final = 576
"""At least window and longest lag, and a product of small primes."""


@cache
def cosines() -> FloatArray:
    """Orthonormal cosine transform [M, N_CEPSTRA] from log-mel energies to the cepstrum."""
    place = (np.arange(N_MELS) + 0.5)[:, None] * np.arange(N_CEPSTRA) * (np.pi / N_MELS)
    scale = np.full(N_CEPSTRA, np.sqrt(2.0 / N_MELS))
    scale[0] = np.sqrt(1.0 / N_MELS)
    transform: FloatArray = (np.cos(place) * scale).astype(np.float32)
    return transform


def frame_values(samples: FloatArray) -> FloatArray:
    """Values [T, D] of the whole frames of 16 kHz samples [n]; before them is silence."""
    energies = log_mel(samples)
    frames = len(energies)
    values = np.zeros((frames, N_VALUES), np.float32)
    if frames == 0:
        return values
    values[:, MEL] = energies
    values[:, CEPSTRA] = energies @ cosines()
    values[MOTION_FRAMES:, MOTION] = (
        values[MOTION_FRAMES:, CEPSTRA] - values[:-MOTION_FRAMES, CEPSTRA]
    )
    log_pitch, strength = _pitch(samples, frames)
    voiced = (strength > VOICED_FROM).astype(np.float32)
    values[:, VOICED] = voiced
    values[:, STRENGTH] = strength
    values[:, PITCH] = voiced * log_pitch
    values[:, PITCH_SQUARED] = voiced * log_pitch**2
    jumps = np.minimum(np.abs(np.diff(log_pitch)), LARGEST_JUMP)
    values[1:, PITCH_MOTION] = jumps * voiced[1:] * voiced[:-1]
    return values


@cache
def _pitch_window() -> tuple[FloatArray, FloatArray]:
    """Window of the pitch, and what it does to the autocorrelation of a steady tone."""
    window = np.hanning(_PITCH_SAMPLES + 2)[1:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(window, _PITCH_FFT)) ** 2
    own = np.fft.irfft(power, _PITCH_FFT)
    return window, (own / own[0]).astype(np.float32)


def _pitch(samples: FloatArray, frames: int) -> tuple[FloatArray, FloatArray]:
    """Log pitch [T] and its strength [T] by autocorrelation (Boersma, 1993), at 8 kHz.

    The window of a frame ends with the frame and begins 30 ms before it.
    """
    before = np.zeros(PITCH_FRAMES * HOP_SAMPLES, np.float32)
    needed = (frames - 1) * HOP_SAMPLES + FRAME_SAMPLES
    padded = np.concatenate([before, samples[:needed]])
    halved = 0.5 * (padded[::2] + padded[1::2])
    window, own = _pitch_window()
    windows = np.lib.stride_tricks.sliding_window_view(halved, _PITCH_SAMPLES)
    windows = windows[:: HOP_SAMPLES // 2]
    windows = (windows - windows.mean(axis=1, keepdims=True)) * window
    spectrum = np.fft.rfft(windows, _PITCH_FFT)
    correlation = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, _PITCH_FFT)
    shortest = int(_PITCH_RATE / HIGHEST_PITCH_HZ)
    longest = int(_PITCH_RATE / LOWEST_PITCH_HZ)
    lags = np.arange(shortest - 1, longest + 2)
    correlation = correlation[:, lags] / (correlation[:, :1] + 1e-9) / own[lags]
    favoured = correlation[:, 1:-1] - SHORT_LAGS * (lags[1:-1] * (1_000.0 / _PITCH_RATE))
    best = favoured.argmax(axis=1) + 1
    rows = np.arange(frames)
    left, top, right = (correlation[rows, best + step] for step in (-1, 0, 1))
    # the top of a parabola through the three points around the best lag
    bend = left - 2.0 * top + right
    offset = np.where(bend < -1e-9, 0.5 * (left - right) / np.minimum(bend, -1e-9), 0.0)
    lag = lags[best] + np.clip(offset, -1.0, 1.0)
    strength = np.clip(top, 0.0, 1.0)
    return np.log(_PITCH_RATE / lag).astype(np.float32), strength.astype(np.float32)
