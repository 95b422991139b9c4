"""Describes the prosody of a segment in numbers, for a language model without audio input.

Pitch by autocorrelation (the peak among the periods of 65 to 500 Hz, frames of 40 ms); speaking
rate from the transcript. EMOJUDGE's refiner uses such a description. A wrong number is worse than
none, so unknown values are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import SAMPLE_RATE, FloatArray

FRAME: Final = 640
HOP: Final = 160
LOWEST_HZ, HIGHEST_HZ = 65.0, 500.0
VOICED: Final = 0.6
"""Minimum autocorrelation of a frame with a pitch, as a share of the value at lag 0."""
SPEECH_SHARE: Final = 10**-3.5
"""Minimum power of a frame of speech, as a share of the loudest frame's (-35 dB)."""
SILENCE: Final = 1e-9
"""Minimum power of a frame of speech: slightly above the rounding of 16 bits."""
LEAST_VOICED: Final = 20
"""Minimum number of frames with a pitch; with fewer, the segment's pitch is unknown."""


@dataclass(frozen=True, slots=True)
class Prosody:
    """Prosody of a segment; unknown values are None."""

    pitch_hz: float | None
    """Median over the frames with a pitch."""
    pitch_range: float | None
    """Semitones from the 10th to the 90th percentile of the pitch."""
    words_per_s: float | None
    """Words a second of speech, without pauses."""
    pauses: float | None
    """Share of pauses between the first and the last speech of the segment."""
    seconds: float = 0.0
    amplitude: float = 0.0
    """Highest absolute value of a sample, at most 1."""
    loudness_db: float | None = None
    """Mean power of the speech, in dB below full scale."""


def measure(samples: FloatArray, transcript: str) -> Prosody:
    """Measure 16 kHz samples [n]."""
    power = np.mean(_frames(samples) ** 2, axis=1)
    places = np.flatnonzero(power > max(SILENCE, SPEECH_SHARE * power.max(initial=0.0)))
    frames, seconds = len(places), len(samples) / SAMPLE_RATE
    amplitude = float(np.abs(samples).max(initial=0.0))
    if frames == 0:
        return Prosody(None, None, None, None, seconds, amplitude)
    pauses = 1.0 - frames / float(places[-1] - places[0] + 1)
    pitches = pitch(samples)
    middle = spread = None
    if len(pitches) >= LEAST_VOICED:
        middle = float(np.median(pitches))
        low, high = np.quantile(pitches, (0.1, 0.9))
        spread = float(12.0 * np.log2(high / low))
    words = len(transcript.split())
    rate = words / (frames * HOP / SAMPLE_RATE) if words else None
    loudness = float(10.0 * np.log10(power[places].mean()))
    return Prosody(middle, spread, rate, pauses, seconds, amplitude, loudness)


def pitch(samples: FloatArray) -> FloatArray:
    """Return the pitch in Hz of the frames with a pitch [F]."""
    frames = _frames(samples)
    if not len(frames):
        return np.zeros(0, np.float32)
    spectrum = np.fft.rfft(frames, 2 * FRAME, axis=1)
    products = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :FRAME]
    first, last = round(SAMPLE_RATE / HIGHEST_HZ), round(SAMPLE_RATE / LOWEST_HZ)
    # a longer period has fewer overlapping samples
    alike = products[:, : last + 1] * (FRAME / (FRAME - np.arange(last + 1)))
    loud = products[:, 0] > 0.01 * products[:, 0].max()
    share = alike[loud, first:] / np.maximum(alike[loud, :1], 1e-12)
    # the first period that is nearly as good as the best; later ones are multiples of it
    good = share >= 0.9 * share.max(axis=1, keepdims=True)
    rising = np.pad(share[:, :-1], ((0, 0), (1, 0))) <= share
    falling = np.pad(share[:, 1:], ((0, 0), (0, 1))) <= share
    place = np.argmax(good & rising & falling, axis=1)
    voiced = (share[np.arange(len(share)), place] >= VOICED) & (place > 0)
    found: FloatArray = (SAMPLE_RATE / (first + place[voiced])).astype(np.float32)
    return found


def _frames(samples: FloatArray) -> npt.NDArray[np.float64]:
    """Return complete frames [T, FRAME], each minus its mean."""
    if len(samples) < FRAME:
        return np.zeros((0, FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP].astype(np.float64)
    apart: npt.NDArray[np.float64] = frames - frames.mean(axis=1, keepdims=True)
    return apart


def describe(prosody: Prosody, level: bool = False) -> str:
    """Return the known values in fixed words; no word is the speaker's.

    `level` adds amplitude, loudness and duration, which also depend on the recording.
    """
    parts = []
    if level:
        parts += [f"{prosody.seconds:.1f} seconds", f"highest amplitude {prosody.amplitude:.2f}"]
        if prosody.loudness_db is not None:
            parts.append(f"loudness {prosody.loudness_db:.0f} dB")
    if prosody.pitch_hz is not None and prosody.pitch_range is not None:
        parts.append(
            f"pitch about {prosody.pitch_hz:.0f} Hz, moving within "
            f"{prosody.pitch_range:.0f} semitones"
        )
    if prosody.words_per_s is not None:
        parts.append(f"{prosody.words_per_s:.1f} words a second")
    if prosody.pauses is not None:
        parts.append(f"{prosody.pauses:.0%} of it pauses")
    return "; ".join(parts)
