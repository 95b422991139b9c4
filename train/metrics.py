"""Metrics of predictions: F1, recall, calibration, concordance.

N items, C classes, labels as indices. A guess of -1 is an abstention and counts as wrong.
Confidence intervals: `train/eval/intervals.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Precision, recall and F1 of one class."""

    precision: float
    recall: float
    f1: float
    n: int
    """Items of this class by the truth."""


def per_class(truth: Indices, guess: Indices, classes: Sequence[int]) -> dict[int, ClassScore]:
    """Return the score of each of `classes`; a class never guessed has precision and F1 of 0."""
    columns = _scores(truth, guess, classes, None)
    rows = zip(classes, *columns, strict=True)
    return {c: ClassScore(float(p), float(r), float(f1), int(n)) for c, p, r, f1, n in rows}


def macro_f1(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Return the unweighted mean F1 over `classes`."""
    return float(_scores(truth, guess, classes, "macro")[2])


def weighted_f1(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Return the mean F1 over `classes`, weighted by how often each occurs."""
    return float(_scores(truth, guess, classes, "weighted")[2])


def unweighted_recall(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Return the unweighted mean recall over `classes` (UAR); a class without items counts 0."""
    return float(_scores(truth, guess, classes, "macro")[1])


def _scores(truth: Indices, guess: Indices, classes: Sequence[int], average: str | None) -> Any:
    """Return precision, recall, F1 and number of items, by class or averaged."""
    from sklearn import metrics  # in the extra `train`; intervals do not need it

    return metrics.precision_recall_fscore_support(
        truth, guess, labels=list(classes), average=average, zero_division=0
    )


def accuracy(truth: Indices, guess: Indices) -> float:
    """Return the share of items guessed right; 0 without items."""
    return float(np.mean(truth == guess)) if len(truth) else 0.0


def confusion(truth: Indices, guess: Indices, classes: int) -> Indices:
    """Return counts [C, C + 1]: rows are the truth, columns the guess, the last one abstentions.

    A bootstrap calls this a thousand times; it is a hundred times faster than scikit-learn's.
    """
    column = np.where(guess < 0, classes, guess)
    counts = np.bincount(truth * (classes + 1) + column, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Accuracy of the items whose confidence lies in [low, high)."""

    low: float
    high: float
    confidence: float
    """Mean confidence of the bin's items."""
    accuracy: float
    share: float
    """Share of all items that are in this bin."""


def reliability(confidence: Numbers, right: Flags, bins: int = 10) -> list[ReliabilityBin]:
    """Return the non-empty bins of equal width of answers [N] by their confidence, 0 to 1."""
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return [
        ReliabilityBin(
            low=b / bins,
            high=(b + 1) / bins,
            confidence=float(confidence[place == b].mean()),
            accuracy=float(right[place == b].mean()),
            share=float(np.mean(place == b)),
        )
        for b in np.unique(place).tolist()
    ]


def calibration_error(confidence: Numbers, right: Flags) -> float:
    """Return the expected calibration error: mean gap of confidence and accuracy over ten bins."""
    return sum(abs(b.confidence - b.accuracy) * b.share for b in reliability(confidence, right))


def selective_risk(confidence: Numbers, right: Flags) -> float:
    """Return the area under the risk-coverage curve of N >= 1 answers; 0 is best.

    Answers of equal confidence are given or withheld together.
    """
    levels, where, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    given = np.cumsum(counts)
    hits = np.cumsum(np.bincount(where, weights=right, minlength=len(levels)))
    return float(np.average(1.0 - hits / given, weights=counts))


def concordance(given: Numbers, truth: Numbers) -> float:
    """Return the concordance correlation of two series [N] (Lin, 1989), population variances.

    It is 1 only if the series are equal; a shift or another scale lowers it. It is NaN, undefined,
    if both series are constant and equal.
    """
    a, b = np.asarray(given, np.float64), np.asarray(truth, np.float64)
    spread = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    if spread == 0.0:
        return float("nan")
    return float(2.0 * np.mean((a - a.mean()) * (b - b.mean())) / spread)


def fit_temperature(logits: FloatArray, truth: Indices, weights: FloatArray | None = None) -> float:
    """Return the temperature T at which logits / T have the highest likelihood (Guo et al., 2017).

    Fit it on speakers held out of the training split, never on dev. `weights` [N] are the weights
    of the items, 1 by default.
    """
    grid = np.exp(np.linspace(np.log(0.3), np.log(6.0), 121))
    scores = np.asarray(logits, np.float64)[None] / grid[:, None, None]
    right = np.take_along_axis(scores, np.asarray(truth)[None, :, None], axis=2)[:, :, 0]
    losses = np.logaddexp.reduce(scores, axis=2) - right
    return float(grid[int(np.argmin(np.average(losses, axis=1, weights=weights)))])
