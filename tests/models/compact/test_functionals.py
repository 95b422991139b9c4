from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sounds import buzz, glide, hiss

from abhinaya.models.compact.features import SAMPLE_RATE
from abhinaya.models.compact.functionals import (
    BEATS_HZ,
    FEWEST_FRAMES,
    N_FUNCTIONALS,
    N_SIGNALS,
    PITCH_PLACES,
    PLACES,
    functionals,
    measured_signals,
)
from abhinaya.models.compact.moments import fixed_statistics
from abhinaya.models.compact.voice import frame_values


def told(samples: np.ndarray, group: str) -> np.ndarray:
    return functionals(frame_values(samples))[0][PLACES[group]]


def test_the_groups_lie_one_after_the_other_and_fill_the_vector() -> None:
    places = list(PLACES.values())
    assert places[0].start == 0
    assert places[-1].stop == N_FUNCTIONALS
    assert all(one.stop == other.start for one, other in pairwise(places))


def test_the_training_speech_itself_is_at_zero() -> None:
    np.testing.assert_allclose(measured_signals(fixed_statistics().mean), 0.0, atol=1e-6)


def test_what_stands_still_has_neither_spread_nor_drift() -> None:
    steady = buzz(200, 2.0)
    quantiles = told(steady, "quantiles").reshape(-1, N_SIGNALS)
    assert np.abs(np.diff(quantiles[1:4], axis=0)).max() < 0.15
    assert np.abs(told(steady, "drift")).max() < 0.15
    assert told(steady, "spread").max() < told(buzz(200, 2.0) * hiss(2.0), "spread").max() - 1.0


@pytest.mark.parametrize(("low", "high", "sign"), [(120, 240, 1.0), (240, 120, -1.0)])
def test_a_pitch_that_glides_is_followed(low: float, high: float, sign: float) -> None:
    pitch = told(glide(low, high), "pitch")
    # an even glide by an octave has a mean product with its own course of log(2) / 6
    assert pitch[14] == pytest.approx(sign * 10.0 * np.log(2.0) / 6.0, rel=0.15)
    assert pitch[16] - pitch[15] == pytest.approx(sign * 3.0 * 0.75 * np.log(2.0), rel=0.15)
    assert pitch[17] == pytest.approx(sign, abs=0.1)  # where it is highest
    assert pitch[18] == pytest.approx(-sign, abs=0.1)
    assert (pitch[11] > 0.0) == (sign > 0.0)  # most steps go its way


def test_what_has_no_pitch_says_nothing_about_it() -> None:
    found, _ = functionals(frame_values(hiss(2.0)))
    assert found[PITCH_PLACES["present"]] == 0.0
    assert not found[PLACES["pitch"]].any()
    assert functionals(frame_values(buzz(150)))[0][PITCH_PLACES["present"]] == 1.0


@pytest.mark.parametrize("hz", [1.0, 4.0, 10.0])
def test_a_beat_lies_in_its_band(hz: float) -> None:
    t = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    # steps of the level, so that its logarithm moves as much
    samples = buzz(200, 4.0) * np.exp(np.sin(2 * np.pi * hz * t)).astype(np.float32)
    band = next(b for b, (low, high) in enumerate(pairwise(BEATS_HZ)) if low <= hz < high)
    assert told(samples, "beats").argmax() == band


def test_syllables_and_pauses_are_counted() -> None:
    silence = np.zeros(int(0.2 * SAMPLE_RATE), np.float32)
    samples = np.concatenate([part for _ in range(6) for part in (buzz(150, 0.3), silence)])
    runs = told(samples, "runs")
    assert 3.0 * runs[0] == pytest.approx(6 / 2.8, rel=0.1)  # syllables a second
    assert np.exp(runs[1] + 2.5) - 1.0 == pytest.approx(30, rel=0.2)  # frames of each
    assert runs[6] == pytest.approx(5 / 2.8, rel=0.1)  # pauses a second
    assert np.exp(runs[7]) - 1.0 == pytest.approx(20, rel=0.3)


def test_gain_moves_no_shape() -> None:
    samples = buzz(150, 2.0, 0.2) + hiss(2.0, gain=0.05)
    for group in ("spread", "repeats", "speed", "pitch", "runs", "beats"):
        np.testing.assert_allclose(
            told(samples, group), told(0.1 * samples, group), atol=0.02, err_msg=group
        )


@pytest.mark.parametrize("samples", [np.zeros(8_000, np.float32), hiss(0.026), buzz(200, 0.1)])
def test_too_little_speech_says_nothing(samples: np.ndarray) -> None:
    found, frames = functionals(frame_values(samples))
    assert frames < FEWEST_FRAMES
    assert not found.any()
