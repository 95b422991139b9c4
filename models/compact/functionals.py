"""An utterance as one vector: how the values of its frames are spread, move and repeat.

Functionals of frame values are what told emotions apart before networks did (Schuller et al., 2009;
Eyben et al., 2016), and where people to learn from are few they still do: nearly all of them can be
told against the same voice's usual values (`manner.py`), which a spectrogram network has to find
out for itself. NumPy only.

How long the utterance is stays out: actors who are given a sentence take their time for disgust,
while how long a segment is in life depends on where it was cut.

T frames, L of them loud enough to be speech, D = N_VALUES values of a frame (`voice.py`), S signals
of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import HOP_SAMPLES, N_MELS, SAMPLE_RATE, speech_frames
from abhinaya.models.compact.moments import fixed_statistics
from abhinaya.models.compact.voice import (
    CEPSTRA,
    MEL,
    MOTION,
    PITCH,
    PITCH_SQUARED,
    STRENGTH,
    VOICED,
)

Array64 = npt.NDArray[np.float64]

N_CURVES: Final = 12
"""Cepstral coefficients that are looked at one by one, the level first."""
BANDS: Final = ((0, 12), (12, 24), (24, 36), (36, 48), (48, 64))
"""Mel bins whose mean energy is a signal: below 0.4, 0.9, 1.8, 3.4 and 7.6 kHz."""
N_BANDS: Final = len(BANDS)
TILT: Final = N_CURVES
"""Place of the balance between high and low bands; the bands follow it, then the strength."""
FIRST_BAND: Final = TILT + 1
PERIODIC: Final = FIRST_BAND + N_BANDS
N_MEASURED: Final = PERIODIC + 1
"""Signals with a usual value for each voice; those after them have none: centroid, spread and
entropy of the spectrum, and how fast it moves."""
N_SIGNALS: Final = N_MEASURED + 4
BAND_UNIT: Final = 3.0
"""Nats that count as 1: about the deviation of a mel bin."""

QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
LAGS: Final = (1, 3, 8, 15)
"""Frames between which a signal is compared with itself: 10 to 150 ms."""
PITCH_QUANTILES: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
PITCH_LAGS: Final = (2, 5, 10, 20)
PITCH_UNIT: Final = 1.0 / 3.0
"""Change of the log pitch that counts as 1: a third of an octave and a half."""
OCTAVE_ERROR: Final = 0.3
"""A larger change of the log pitch between frames is an octave mistaken."""
BEATS_HZ: Final = (0.5, 1.5, 3.0, 5.0, 8.0, 12.0, 20.0, 40.0)
"""Edges of the bands in which the level is looked at for its rhythm; syllables come at 3 to 8."""
BEAT_FFT: Final = 1024
"""Frames: a little more than the longest segment."""

FEWEST_FRAMES: Final = 12
"""Frames of speech (0.12 s) that functionals can be told from."""
FEWEST_VOICED: Final = 10
SMALLEST: Final = 1e-2
"""Added to deviations before they divide or are taken the logarithm of."""
MOST_SKEW: Final = 4.0

PITCH_NAMES: Final = (
    *(f"quantile {share:g}" for share in PITCH_QUANTILES),
    "range",
    "spread",
    "skew",
    "step",
    "rising",
    "rise",
    "fall",
    "drift",
    "beginning",
    "end",
    "highest at",
    "lowest at",
    "with level",
    "present",
    *(f"repeat {lag}" for lag in PITCH_LAGS),
)
"""What is told of the pitch; all of it is 0 where too few frames have one."""

_SIZES: Final = {
    "quantiles": len(QUANTILES) * N_SIGNALS,
    "mean": N_SIGNALS,
    "spread": N_SIGNALS,
    "skew": N_SIGNALS,
    "repeats": len(LAGS) * N_SIGNALS,
    "drift": N_SIGNALS,
    "speed": N_SIGNALS,
    "voiced_mean": N_SIGNALS,
    "voiced_spread": N_SIGNALS,
    "unvoiced_mean": N_SIGNALS,
    "pitch": len(PITCH_NAMES),
    "runs": 8,
    "beats": len(BEATS_HZ) - 1,
}


def _places() -> Iterator[tuple[str, slice]]:
    start = 0
    for name, size in _SIZES.items():
        yield name, slice(start, start + size)
        start += size


PLACES: Final = dict(_places())
"""Where each group of functionals lies."""
N_FUNCTIONALS: Final = sum(_SIZES.values())
PITCH_PLACES: Final = {name: n for n, name in enumerate(PITCH_NAMES, PLACES["pitch"].start)}
"""Where each of PITCH_NAMES lies; "present" is 1 where enough frames have a pitch."""

_USUAL: Final = fixed_statistics()


def pitch_of(mean: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Mean and deviation of the log pitch over the voiced frames, of the mean [D] of all."""
    voiced = max(float(mean[VOICED]), 0.02)
    pitch = float(mean[PITCH]) / voiced
    variance = float(mean[PITCH_SQUARED]) / voiced - pitch**2
    return pitch, float(np.sqrt(max(variance, 1e-3)))


USUAL_PITCH: Final = pitch_of(_USUAL.mean)[0]


def measured_signals(mean: npt.NDArray[np.floating]) -> Array64:
    """Signals [..., N_MEASURED] of values [..., D], or of their mean: they are linear in them.

    In deviations of a usual voice from it.
    """
    apart = mean.astype(np.float64) - _USUAL.mean
    curves = (apart / _USUAL.std)[..., CEPSTRA][..., :N_CURVES]
    bands = [apart[..., MEL][..., low:high].mean(axis=-1) / BAND_UNIT for low, high in BANDS]
    tilt = (bands[2] + bands[3] - bands[0] - bands[1]) / 2.0
    periodic = apart[..., STRENGTH] / _USUAL.std[STRENGTH]
    return np.concatenate([curves, np.stack([tilt, *bands, periodic], axis=-1)], axis=-1)


def _signals(values: FloatArray) -> Array64:
    """Signals [L, S] of frames [L, D]."""
    energies = values[:, MEL].astype(np.float64)
    power = np.exp(energies - energies.max(axis=1, keepdims=True))
    power /= power.sum(axis=1, keepdims=True)
    place = np.arange(N_MELS) * (4.0 / N_MELS)
    centroid = power @ place
    spread = np.sqrt(np.maximum(power @ place**2 - centroid**2, 1e-4))
    entropy = -(power * np.log(power + 1e-9)).sum(axis=1)
    flux = np.abs(values[:, MOTION] / _USUAL.std[MOTION])[:, 1:13].mean(axis=1)
    others = np.stack([centroid - 1.5, spread, entropy - 2.0, flux], axis=1)
    return np.concatenate([measured_signals(values), others], axis=1)


def functionals(values: FloatArray) -> tuple[FloatArray, int]:
    """Functionals [N_FUNCTIONALS] of an utterance's frames [T, D], and how many of them are speech.

    All 0 where fewer than FEWEST_FRAMES are.
    """
    found = np.zeros(N_FUNCTIONALS)
    if len(values) < FEWEST_FRAMES:
        return found.astype(np.float32), 0
    speech, _ = speech_frames(values[:, MEL])
    loud, count = values[speech], int(speech.sum())
    if count < FEWEST_FRAMES:
        return found.astype(np.float32), count
    signals = _signals(loud)
    voiced = loud[:, VOICED] > 0.5
    for name, numbers in (
        *_spreads(signals).items(),
        *_by_voicing(signals, voiced).items(),
        ("pitch", _pitch(loud[voiced])),
        ("runs", _runs(speech, (values[:, VOICED] > 0.5) & speech)),
        ("beats", _beats(values[:, CEPSTRA.start], speech)),
    ):
        found[PLACES[name]] = numbers
    return np.nan_to_num(found).astype(np.float32), count


def _spreads(signals: Array64) -> dict[str, Array64]:
    mean, deviation = signals.mean(axis=0), signals.std(axis=0) + SMALLEST
    apart = signals - mean
    return {
        "quantiles": np.quantile(signals, QUANTILES, axis=0).ravel(),
        "mean": mean,
        "spread": np.log(deviation),
        "skew": _skew(apart, deviation),
        "repeats": np.concatenate([_repeat(apart / deviation, lag) for lag in LAGS]),
        "drift": 3.0 * (apart * np.linspace(-1.0, 1.0, len(apart))[:, None]).mean(axis=0),
        "speed": np.log(np.abs(np.diff(signals, axis=0)).mean(axis=0) + SMALLEST),
    }


def _skew(apart: Array64, deviation: Array64 | float) -> Array64:
    skew: Array64 = (apart**3).mean(axis=0) / deviation**3
    return np.clip(skew, -MOST_SKEW, MOST_SKEW)


def _repeat(scaled: Array64, lag: int) -> Array64:
    """Autocorrelation [...] of signals [L, ...] of deviation 1; 0 where there is too little."""
    if len(scaled) <= lag + 2:
        return np.zeros(scaled.shape[1:])
    found: Array64 = (scaled[lag:] * scaled[:-lag]).mean(axis=0)
    return found


def _by_voicing(signals: Array64, voiced: npt.NDArray[np.bool_]) -> dict[str, Array64]:
    """Means and spread of the frames with a pitch, and without; of all where those are few."""
    with_pitch = signals[voiced] if voiced.sum() > 6 else signals
    without = signals[~voiced] if (~voiced).sum() > 6 else signals
    return {
        "voiced_mean": with_pitch.mean(axis=0),
        "voiced_spread": np.log(with_pitch.std(axis=0) + SMALLEST),
        "unvoiced_mean": without.mean(axis=0),
    }


def _pitch(voiced: FloatArray) -> Array64:
    """Follow the pitch through frames [V, D] that have one, against a usual voice's."""
    if len(voiced) < FEWEST_VOICED:
        return np.zeros(len(PITCH_NAMES))
    pitch = voiced[:, PITCH].astype(np.float64) - USUAL_PITCH
    apart, deviation = pitch - pitch.mean(), float(pitch.std()) + SMALLEST
    steps = np.diff(pitch)
    steps = steps[np.abs(steps) < OCTAVE_ERROR]
    quarter = len(pitch) // 4
    quantiles = np.quantile(pitch, PITCH_QUANTILES) / PITCH_UNIT
    level = voiced[:, CEPSTRA.start].astype(np.float64)
    together = (apart * (level - level.mean())).mean() / (deviation * (level.std() + SMALLEST))
    told = {
        "range": quantiles[-2] - quantiles[1],
        "spread": np.log(deviation),
        "skew": float(_skew(apart, deviation)),
        "step": np.log(_mean(np.abs(steps)) + 1e-3),
        "rising": 4.0 * _mean(steps > 0.0) - 2.0,
        "rise": 30.0 * _mean(steps[steps > 0.0]),
        "fall": 30.0 * _mean(steps[steps < 0.0]),
        "drift": 10.0 * float((pitch * np.linspace(-1.0, 1.0, len(pitch))).mean()),
        "beginning": pitch[:quarter].mean() / PITCH_UNIT,
        "end": pitch[-quarter:].mean() / PITCH_UNIT,
        "highest at": 2.0 * pitch.argmax() / len(pitch) - 1.0,
        "lowest at": 2.0 * pitch.argmin() / len(pitch) - 1.0,
        "with level": 2.0 * together,
        "present": 1.0,
    }
    told |= {f"quantile {q:g}": value for q, value in zip(PITCH_QUANTILES, quantiles, strict=True)}
    told |= {f"repeat {n}": 2.0 * float(_repeat(apart / deviation, n)) for n in PITCH_LAGS}
    return np.array([told[name] for name in PITCH_NAMES])


def _mean(numbers: npt.NDArray[np.generic]) -> float:
    return float(numbers.mean()) if len(numbers) else 0.0


def _runs(speech: npt.NDArray[np.bool_], voiced: npt.NDArray[np.bool_]) -> Array64:
    """Tell how stretches with a pitch and pauses follow each other: the pace of speaking."""
    inside = _inside(speech)
    syllables = _lengths(voiced)
    syllables = syllables[syllables > 2]
    pauses = _lengths(~speech[inside])
    frames = inside.stop - inside.start
    return np.array(
        [
            len(syllables) / frames * (SAMPLE_RATE / HOP_SAMPLES / 3.0),
            np.log(_mean(syllables) + 1.0) - 2.5,
            np.log(float(syllables.std()) + 1.0) if len(syllables) else 0.0,
            np.log(float(syllables.max())) - 3.0 if len(syllables) else 0.0,
            2.0 * speech[inside].mean() - 1.5,
            2.0 * voiced[inside].mean() - 1.0,
            len(pauses) / frames * (SAMPLE_RATE / HOP_SAMPLES),
            np.log(_mean(pauses) + 1.0),
        ]
    )


def _inside(speech: npt.NDArray[np.bool_]) -> slice:
    first, last = np.flatnonzero(speech)[[0, -1]]
    return slice(int(first), int(last) + 1)


def _lengths(true: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How long each stretch of what is true is, in frames."""
    edges = np.diff(np.concatenate([[0], true.astype(np.int64), [0]]))
    return np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)


def _beats(level: FloatArray, speech: npt.NDArray[np.bool_]) -> Array64:
    """How much of the level's movement lies in each band of BEATS_HZ, pauses counted in."""
    course = level[_inside(speech)].astype(np.float64) / np.sqrt(N_MELS)
    course = np.maximum(course, np.quantile(course, 0.02))
    course = (course - course.mean()) * np.hanning(len(course))
    power = np.abs(np.fft.rfft(course, BEAT_FFT)) ** 2 / len(course)
    hz = np.arange(len(power)) * (SAMPLE_RATE / HOP_SAMPLES / BEAT_FFT)
    bands = [power[(hz >= low) & (hz < high)] for low, high in pairwise(BEATS_HZ)]
    found = [np.log(band.mean() + 1e-3) for band in bands]
    return np.array(found)
