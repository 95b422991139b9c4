"""How an utterance is spoken: its functionals by the measure of what was heard before.

What tells emotions apart in a voice that was never met is how pitch, level and spectrum differ from
that voice's own (Sethu et al., 2007, for normalising by the speaker). Functionals of a signal that
is linear in the frame values follow its mean and deviation, so the running statistics that travel
in a segment put them in units of the voice. Beside them stands how far they are from what the voice
did before: some hardly raise theirs in anger, and what they do then is much for them. NumPy only.

D = N_VALUES values of a frame (`voice.py`), S signals (`functionals.py`), Q = N_MANNER numbers of
an utterance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.functionals import (
    FEWEST_FRAMES,
    N_CURVES,
    N_FUNCTIONALS,
    N_MEASURED,
    N_SIGNALS,
    PERIODIC,
    PITCH_PLACES,
    PITCH_QUANTILES,
    PITCH_UNIT,
    PLACES,
    QUANTILES,
    USUAL_PITCH,
    Array64,
    functionals,
    measured_signals,
    pitch_of,
)
from abhinaya.models.compact.heard import Heard
from abhinaya.models.compact.moments import fixed_statistics
from abhinaya.models.compact.voice import CEPSTRA, STRENGTH

N_MEASURES: Final = N_FUNCTIONALS + len(PITCH_QUANTILES) + 3
N_MANNER: Final = 2 * N_MEASURES + 1
OWN: Final = slice(0, N_MEASURES)
"""How the utterance is in units of the voice."""
APART: Final = slice(N_MEASURES, 2 * N_MEASURES)
"""How far that is from the voice's habits."""
COUNT: Final = N_MANNER - 1
"""Log of one more than the utterances that the habits are of."""
TRUSTED_FROM: Final = 3.0
"""Utterances before at which their mean is trusted by half."""
LARGEST: Final = 8.0
"""No number is larger than this, whatever comes in."""
_USUAL_STD: Final = fixed_statistics().std.astype(np.float64)
_QUANTILES: Final = [PITCH_PLACES[f"quantile {share:g}"] for share in PITCH_QUANTILES]
_PITCH_LEVELS: Final = [*_QUANTILES, PITCH_PLACES["beginning"], PITCH_PLACES["end"]]
"""Functionals that are a pitch."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What of an utterance does not depend on what was heard before it."""

    functionals: FloatArray
    """[N_FUNCTIONALS] of its speech, its own running peak fresh."""
    frames: int
    """Of speech."""


def spoken(values: FloatArray) -> Spoken:
    """Look at an utterance's frames [T, D]."""
    return Spoken(*functionals(values))


def manner(said: Spoken, heard: Heard) -> FloatArray:
    """Tell how it was `said`, by the measure of what was `heard`: [Q] numbers around 0.

    All 0 where there is too little speech.
    """
    if said.frames < FEWEST_FRAMES:
        return np.zeros(N_MANNER, np.float32)
    own = _measured(said.functionals, heard)
    apart, count = np.zeros(N_MEASURES), heard.utterances
    if count > 0.0:
        usual = _measured(heard.habits, heard)
        apart = (own - usual) * (count / (count + TRUSTED_FROM))
    together: FloatArray = np.concatenate([own, apart, [np.log1p(count)]]).astype(np.float32)
    return together


def _measured(functionals: FloatArray, heard: Heard) -> Array64:
    """Functionals [R], or a mean of some, in units of this voice: [N_MEASURES]."""
    usual, deviation = _measures(heard)
    told = functionals.astype(np.float64)
    quantiles = told[PLACES["quantiles"]].reshape(len(QUANTILES), N_SIGNALS)
    told[PLACES["quantiles"]] = ((quantiles - usual) / deviation).ravel()
    for name in ("mean", "voiced_mean", "unvoiced_mean"):
        told[PLACES[name]] = (told[PLACES[name]] - usual) / deviation
    for name in ("spread", "voiced_spread", "speed"):
        told[PLACES[name]] -= np.log(deviation)
    together = np.concatenate([told, _against_pitch(told, heard)])
    bounded: Array64 = np.clip(together, -LARGEST, LARGEST)
    return bounded


def _measures(heard: Heard) -> tuple[Array64, Array64]:
    """Usual value [S] of each signal in this voice and channel, and its deviation [S]."""
    usual, deviation = np.zeros(N_SIGNALS), np.ones(N_SIGNALS)
    usual[:N_MEASURED] = measured_signals(heard.mean)
    relative = heard.std / _USUAL_STD
    deviation[:N_CURVES] = relative[CEPSTRA][:N_CURVES]
    deviation[PERIODIC] = relative[STRENGTH]
    return usual, deviation


def _against_pitch(told: Array64, heard: Heard) -> Array64:
    """Put the pitches of `told` against this voice's, and give them in its deviations [10].

    After the quantiles: the spread against the usual one, and what is usual, pitch and spread.
    """
    pitch, deviation = pitch_of(heard.mean)
    high = (pitch - USUAL_PITCH) / PITCH_UNIT
    count, share = len(_QUANTILES), told[PITCH_PLACES["present"]]
    # of a mean, `share` of the utterances had a pitch, and the others count with 0
    told[_PITCH_LEVELS] -= share * high
    found = np.zeros(count + 3)
    found[:count] = told[_QUANTILES] * (PITCH_UNIT / deviation)
    found[count] = told[PITCH_PLACES["spread"]] - share * np.log(deviation)
    found[count + 1 :] = high, np.log(deviation)
    return found
