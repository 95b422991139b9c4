from __future__ import annotations

import numpy as np
import pytest

from abhinaya.train.eval.intervals import Statistic, bootstrap, macro_f1_of, paired_bootstrap
from abhinaya.train.metrics import (
    accuracy,
    calibration_error,
    concordance,
    confusion,
    macro_f1,
    per_class,
    reliability,
    selective_risk,
    unweighted_recall,
    weighted_f1,
)

TRUTH = np.array([0, 0, 0, 1, 1, 2])
GUESS = np.array([0, 0, 1, 1, 2, -1])
CLASSES = (0, 1, 2)


def drawn(n: int = 500, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.integers(classes, size=n)
    return truth, np.where(rng.random(n) < 0.6, truth, rng.integers(classes, size=n))


def test_figures_computed_by_hand() -> None:
    # class 0: 2 of 3 found, never wrong; class 1: 1 of 2, once wrong; class 2: none, once wrong
    scores = per_class(TRUTH, GUESS, CLASSES)
    assert [s.f1 for s in scores.values()] == pytest.approx([4 / 5, 1 / 2, 0.0])
    assert macro_f1(TRUTH, GUESS, CLASSES) == pytest.approx(1.3 / 3)
    assert unweighted_recall(TRUTH, GUESS, CLASSES) == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert weighted_f1(TRUTH, GUESS, CLASSES) == pytest.approx((0.8 * 3 + 0.5 * 2) / 6)
    assert accuracy(TRUTH, GUESS) == pytest.approx(0.5)
    assert confusion(TRUTH, GUESS, 3).tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]


def test_reliability_bins_and_calibration_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [0.35, 0.65]], np.float32)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == np.array([0, 1, 1, 1])
    bins = reliability(confidence, right)
    assert [(b.low, b.accuracy, b.share) for b in bins] == [(0.6, 1.0, 0.5), (0.9, 0.5, 0.5)]
    assert [b.confidence for b in bins] == pytest.approx([0.625, 0.925])
    gap = 0.5 * abs(0.625 - 1.0) + 0.5 * abs(0.925 - 0.5)
    assert calibration_error(confidence, right) == pytest.approx(gap)


def test_selective_risk_by_hand_and_in_any_order_of_equals() -> None:
    confidence, right = np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False])
    wanted = 0.25 * 0 + 0.5 * (1 / 3) + 0.25 * 0.5
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 1, 3]):
        assert selective_risk(confidence[order], right[order]) == pytest.approx(wanted)


def test_concordance_by_hand() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.0])
    assert concordance(y, y) == pytest.approx(1.0)
    assert concordance(y + 1, y) == pytest.approx(2.5 / 3.5)
    assert concordance(5 - y, y) == pytest.approx(-1.0)
    assert concordance(np.full(4, 2.5), y) == 0.0
    assert np.isnan(concordance(np.ones(3), np.ones(3)))


# --- intervals ------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_the_binomial_one() -> None:
    right = np.arange(400) % 4 > 0  # 0.75
    found = bootstrap(lambda rows: float(right[rows].mean()), 400, resamples=4_000)
    error = np.sqrt(0.75 * 0.25 / 400)
    assert found.value == 0.75
    assert found.units == 400
    assert (found.low, found.high) == pytest.approx(
        (0.75 - 1.96 * error, 0.75 + 1.96 * error), abs=0.006
    )


def test_whole_speakers_vary_more_than_their_clips() -> None:
    # five speakers, each all right or all wrong: clips tell nothing that speakers do not
    speakers = [i // 40 for i in range(200)]
    right = np.array([s < 3 for s in speakers])

    def share(rows: np.ndarray) -> float:
        return float(right[rows].mean())

    clips = bootstrap(share, 200)
    people = bootstrap(share, 200, groups=speakers, resamples=4_000)
    assert people.units == 5
    assert (people.high - people.low) > 3 * (clips.high - clips.low)
    # the number of good speakers is binomial(5, 0.6): its 2.5 and 97.5 % points are 1 and 5
    assert (people.low, people.high) == (0.2, 1.0)


def test_a_class_that_a_resample_misses_is_not_counted_as_zero() -> None:
    truth = np.array([0, 0, 1])
    statistic = macro_f1_of(truth, truth, (0, 1))
    assert statistic(np.array([0, 1, 1])) == 1.0


def accuracy_of(truth: np.ndarray, guess: np.ndarray) -> Statistic:
    right = truth == guess
    return lambda rows: float(np.mean(right[rows]))


def test_equal_systems_do_not_differ_and_unequal_ones_do() -> None:
    truth, guess = drawn(600)
    same = paired_bootstrap(
        macro_f1_of(truth, guess, range(5)), macro_f1_of(truth, guess, range(5)), 600
    )
    assert same.p == 1.0
    assert (same.difference.low, same.difference.high) == (0.0, 0.0)
    better = guess.copy()
    better[:60] = truth[:60]
    found = paired_bootstrap(accuracy_of(truth, better), accuracy_of(truth, guess), 600)
    assert found.difference.low > 0.0
    assert found.p == pytest.approx(2 / 1001)
    back = paired_bootstrap(accuracy_of(truth, guess), accuracy_of(truth, better), 600)
    assert back.difference.value == -found.difference.value
    assert back.p == found.p
