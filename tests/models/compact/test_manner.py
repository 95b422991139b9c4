from __future__ import annotations

import numpy as np
import pytest
from sounds import buzz, hiss

from abhinaya.models.compact.functionals import (
    N_FUNCTIONALS,
    N_MEASURED,
    N_SIGNALS,
    PITCH_PLACES,
    PLACES,
)
from abhinaya.models.compact.manner import N_MANNER, N_MEASURES, TRUSTED_FROM, manner, spoken
from abhinaya.models.compact.moments import Sums, heard_from
from abhinaya.models.compact.running import REMEMBERED, SpeechStatistics
from abhinaya.models.compact.voice import frame_values

MEDIAN_PITCH = PITCH_PLACES["quantile 0.5"]


def told(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Manner of `now`, spoken after `before` in one stream."""
    statistics = SpeechStatistics()
    statistics.update(before)
    statistics.update(now)
    return manner(spoken(frame_values(now)), statistics.heard())


def test_what_was_heard_of_the_same_voice_says_that_nothing_is_new() -> None:
    syllables = [buzz(hz, 0.3, gain) for hz in (120, 160, 200) for gain in (0.1, 0.02)]
    values = frame_values(np.concatenate(syllables) + hiss(1.8, gain=0.01))
    same = manner(spoken(values), heard_from(Sums.of(np.tile(values, (200, 1)))))
    np.testing.assert_allclose(same[PLACES["mean"]][:N_MEASURED], 0.0, atol=0.05)


def test_a_deviation_is_told_in_those_of_the_voice() -> None:
    values = frame_values(buzz(150, 1.0) * hiss(1.0) + hiss(1.0, seed=1))
    moving = Sums.of(np.tile(values, (200, 1)))
    spread = manner(spoken(values), heard_from(moving))[PLACES["spread"]]
    # the first two are those that a usual voice still counts in: it moves much more
    np.testing.assert_allclose(spread[2:12], 0.0, atol=0.05)


def test_a_voice_that_rises_is_told_from_one_that_is_high() -> None:
    rise = 3.0 * np.log(1.5)
    assert told(buzz(120, 30.0), buzz(180, 1.0))[MEDIAN_PITCH] == pytest.approx(rise, rel=0.15)
    assert told(buzz(180, 30.0), buzz(120, 1.0))[MEDIAN_PITCH] == pytest.approx(-rise, rel=0.15)
    assert told(buzz(180, 30.0), buzz(180, 1.0))[MEDIAN_PITCH] == pytest.approx(0.0, abs=0.06)
    usual = N_FUNCTIONALS + 8
    high, low = (told(buzz(hz, 30.0), buzz(hz, 1.0))[usual] for hz in (180, 120))
    assert high - low == pytest.approx(rise, rel=0.05)


def test_what_a_voice_always_does_is_nothing_new_and_more_so_with_every_utterance() -> None:
    def apart(times: int) -> np.ndarray:
        statistics = SpeechStatistics()
        for _ in range(times):
            statistics.update(buzz(150, 1.0) + hiss(1.0, gain=0.02))
        now = buzz(220, 1.0) + hiss(1.0, gain=0.02)
        statistics.update(now)
        found = manner(spoken(frame_values(now)), statistics.heard())
        assert found[-1] == pytest.approx(np.log1p(statistics.heard().utterances))
        return found[N_MEASURES:-1]

    assert not apart(0).any()  # the first of a stream: there is nothing to differ from
    rise = 3.0 * np.log(220 / 150)
    assert apart(3)[MEDIAN_PITCH] == pytest.approx(rise / (1.0 + TRUSTED_FROM / 3.0), rel=0.1)
    assert apart(3)[MEDIAN_PITCH] < apart(12)[MEDIAN_PITCH] < rise


def test_utterances_are_forgotten_one_after_the_other() -> None:
    statistics = SpeechStatistics()
    for _ in range(200):
        statistics.update(buzz(150, 0.3))
    heard = statistics.heard()
    assert heard.utterances == pytest.approx(REMEMBERED, rel=0.05)
    statistics.update(hiss(0.02))  # too little speech to be one
    statistics.update(buzz(150, 0.3))
    assert statistics.heard().utterances == pytest.approx(heard.utterances, rel=0.01)


def test_a_preview_is_told_by_what_was_before_it() -> None:
    statistics = SpeechStatistics()
    statistics.update(buzz(150, 1.0))
    begun = statistics.preview(buzz(200, 0.5))
    statistics.update(buzz(200, 1.0))
    np.testing.assert_array_equal(begun.habits, statistics.heard().habits)
    assert begun.utterances == statistics.heard().utterances == 1.0


def test_gain_never_changes_the_manner() -> None:
    samples = buzz(150, 2.0, 0.2) + hiss(2.0, gain=0.05)
    quiet, loud = (told(samples[:0], gain * samples) for gain in (0.1, 1.0))
    np.testing.assert_allclose(quiet, loud, atol=0.03)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(8_000, np.float32), hiss(0.026), buzz(200, 0.03), hiss(1.0, gain=1e-6), hiss(0.2)],
)
def test_whatever_comes_in_the_manner_is_finite(samples: np.ndarray) -> None:
    found = told(samples[:0], samples)
    assert found.shape == (N_MANNER,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert len(found[PLACES["quantiles"]]) == 5 * N_SIGNALS
