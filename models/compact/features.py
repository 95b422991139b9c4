"""Log-mel energies and the running statistics that normalise them. NumPy only.

The light front process imports this file, and training imports the same one: what a voter was
trained on is what it is served.

Why the statistics are computed in the front and travel with each segment: normalising by the
speaker and the channel is worth more to a small speech model than any choice of architecture, but
the state behind it must not live in a voter. A voter has replicas, is restarted, and gets segments
again after a failure; with the statistics in the message, every one of them normalises the same
segment in the same way. The front calls `SpeechStatistics.update` with the segment first and sends
`heard()` after it, so the first segment of a stream already has statistics: its own.

Shapes: n samples, T frames, M = N_MELS mel bins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray, Heard
from abhinaya.models.compact.prior import PRIOR_LEVEL, PRIOR_SHAPE, PRIOR_STD

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


def mel_centres_hz() -> Array64:
    """Frequency [M] at which each mel filter is highest."""
    return _edges_hz()[1:-1]


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


@dataclass(frozen=True, slots=True)
class Sums:
    """Weighted sums of log-mel frames, from which mean and deviation follow. Sums add up."""

    weight: float
    first: Array64
    """[M] weighted sum of the energies."""
    second: Array64
    """[M] weighted sum of their squares."""

    @classmethod
    def none(cls) -> Sums:
        """Of no frames."""
        return cls(0.0, np.zeros(N_MELS), np.zeros(N_MELS))

    @classmethod
    def of(cls, energies: FloatArray, forget: float = 1.0) -> Sums:
        """Of frames [T, M]; the last weighs 1, each one `forget` times what the next one does."""
        weights = forget ** np.arange(len(energies) - 1, -1, -1, dtype=np.float64)
        wide = energies.astype(np.float64)
        return cls(float(weights.sum()), weights @ wide, weights @ wide**2)

    def scaled(self, factor: float) -> Sums:
        """All weights times `factor`."""
        return Sums(self.weight * factor, self.first * factor, self.second * factor)

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.weight + other.weight, self.first + other.first, self.second + other.second
        )


SHRINKAGE_FRAMES: Final = 100.0
"""Weight of the prior against what was heard: after 1 s of speech they count the same."""
SMALLEST_STD: Final = 0.8
"""Least deviation (nats) to divide by: a bin that the channel cuts off must not be blown up."""


def heard_from(sums: Sums) -> Heard:
    """Mean and deviation of what was heard, drawn towards the prior while that is little.

    The level is taken from the speech itself and only the shape of the spectrum is drawn to the
    prior, so that the gain of a microphone never matters, not even in the first second.
    """
    if sums.weight <= 0.0:
        return Heard(0, PRIOR_SHAPE.copy(), PRIOR_STD.copy())
    trust = sums.weight / (sums.weight + SHRINKAGE_FRAMES)
    mean = sums.first / sums.weight
    variance = np.maximum(sums.second / sums.weight - mean**2, 0.0)
    level = float(mean.mean())
    shrunk_mean = level + trust * (mean - level) + (1.0 - trust) * PRIOR_SHAPE
    shrunk_std = np.sqrt(trust * variance + (1.0 - trust) * PRIOR_STD.astype(np.float64) ** 2)
    return Heard(
        frames=round(sums.weight),
        mean=shrunk_mean.astype(np.float32),
        std=np.maximum(shrunk_std, SMALLEST_STD).astype(np.float32),
    )


def fixed_statistics() -> Heard:
    """Return the training speech's own statistics, the same for everybody: no normalisation."""
    return Heard(1, (PRIOR_LEVEL + PRIOR_SHAPE).astype(np.float32), PRIOR_STD.copy())


def normalise(energies: FloatArray, heard: Heard) -> FloatArray:
    """Log-mel energies [T, M] in deviations from what was heard, clipped to [-5, 5]."""
    scaled: FloatArray = np.clip((energies - heard.mean) / heard.std, -5.0, 5.0)
    return scaled


@dataclass(frozen=True, slots=True)
class _State:
    """All that the statistics remember: under 3 kB however long the stream."""

    tail: FloatArray
    """Samples that did not fill a frame yet: fewer than FRAME_SAMPLES."""
    peak: float
    sums: Sums


class SpeechStatistics:
    """Running mean and deviation of the log-mel energies of one stream's speech.

    Deterministic, and fed in pieces equals fed whole, for any cuts. Frames near silence do not
    count. Old speech is forgotten exponentially, so that a new speaker or a changed channel
    takes over; pauses do not age what was heard.
    """

    def __init__(self, memory_s: float = 120.0) -> None:
        """`memory_s`: seconds of speech after which a frame's weight has fallen to 1/e."""
        if not memory_s > 0.0:
            raise ValueError(f"memory_s must be over 0 seconds, got {memory_s}")
        self._forget = float(np.exp(-HOP_SAMPLES / (SAMPLE_RATE * memory_s)))
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new stream begins."""
        self._state = _State(np.zeros(0, np.float32), -np.inf, Sums.none())

    def update(self, samples: FloatArray) -> None:
        """Hear samples [n] of speech; samples that are not finite are taken as silence."""
        self._state = self._after(samples)

    def heard(self) -> Heard:
        """Return the statistics of everything heard until now."""
        return heard_from(self._state.sums)

    def preview(self, samples: FloatArray) -> Heard:
        """Tell what `heard` would say after `update(samples)`, without hearing them.

        For provisional segments, whose samples come once more in the final one.
        """
        return heard_from(self._after(samples).sums)

    def _after(self, samples: FloatArray) -> _State:
        state = self._state
        clean = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        joined = np.concatenate([state.tail, clean])
        energies = log_mel(joined)
        state = replace(state, tail=joined[len(energies) * HOP_SAMPLES :])
        if len(energies) == 0:
            return state
        speech, peak = speech_frames(energies, state.peak)
        loud = energies[speech]
        sums = state.sums.scaled(self._forget ** len(loud)) + Sums.of(loud, self._forget)
        return replace(state, peak=peak, sums=sums)


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
