"""Figures about predictions. Labels are indices; every figure says on how many items it stands.

N items, C classes. A guess of -1 is an abstention, which is wrong whatever the truth. Scores of
classes are scikit-learn's. How sure a figure is: `train/eval/intervals.py`.
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


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class is found."""

    precision: float
    recall: float
    f1: float
    n: int
    """Items that truly are of this class."""


def per_class(truth: Indices, guess: Indices, classes: Sequence[int]) -> dict[int, ClassScore]:
    """Score of each of `classes`; a class never guessed has precision and F1 of 0."""
    columns = _scores(truth, guess, classes, None)
    rows = zip(classes, *columns, strict=True)
    return {c: ClassScore(float(p), float(r), float(f1), int(n)) for c, p, r, f1, n in rows}


def macro_f1(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Mean F1 over `classes`, each counting the same."""
    return float(_scores(truth, guess, classes, "macro")[2])


def weighted_f1(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Mean F1 over `classes`, each counting as often as it occurs."""
    return float(_scores(truth, guess, classes, "weighted")[2])


def unweighted_recall(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Mean recall over `classes` (UAR), each counting the same; a class without items counts 0."""
    return float(_scores(truth, guess, classes, "macro")[1])


def _scores(truth: Indices, guess: Indices, classes: Sequence[int], average: str | None) -> Any:
    """Return precision, recall, F1 and items."""
    from sklearn import metrics  # of the extra `train`; intervals and curves do without

    return metrics.precision_recall_fscore_support(
        truth, guess, labels=list(classes), average=average, zero_division=0
    )


def accuracy(truth: Indices, guess: Indices) -> float:
    """Share of items guessed right; 0 of no items."""
    return float(np.mean(truth == guess)) if len(truth) else 0.0


def confusion(truth: Indices, guess: Indices, classes: int) -> Indices:
    """Count [C, C + 1]: row is the truth, column the guess, the last column abstentions.

    Not scikit-learn's: a bootstrap counts a thousand times, and this takes a hundredth of the time.
    """
    column = np.where(guess < 0, classes, guess)
    counts = np.bincount(truth * (classes + 1) + column, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Items whose confidence lies in [low, high), and what came of them."""

    low: float
    high: float
    confidence: float
    """Mean confidence of its items."""
    accuracy: float
    share: float
    """Of all items."""


def reliability(probabilities: FloatArray, truth: Indices, bins: int = 10) -> list[ReliabilityBin]:
    """Bins of equal width over the confidence, the largest of [N, C]; empty ones are left out."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
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


def calibration_error(probabilities: FloatArray, truth: Indices, bins: int = 10) -> float:
    """Mean gap of confidence and accuracy over bins of equal width (expected calibration error)."""
    found = reliability(probabilities, truth, bins)
    return float(sum(abs(b.confidence - b.accuracy) * b.share for b in found))


def selective_risk(confidence: Numbers, right: npt.NDArray[np.bool_]) -> float:
    """Area under the risk-coverage curve of N answers, at least one: mean risk over coverage.

    0 is best. Equal confidences are given or withheld together.
    """
    levels, where, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    given = np.cumsum(counts)
    hits = np.cumsum(np.bincount(where, weights=right, minlength=len(levels)))
    return float(np.average(1.0 - hits / given, weights=counts))


def concordance(given: Numbers, truth: Numbers) -> float:
    """Concordance correlation of two series [N] (Lin, 1989), population variances.

    1 only if they are equal: a shift or another scale costs. NaN where both are constant and
    equal, of which nothing can be said.
    """
    a, b = np.asarray(given, np.float64), np.asarray(truth, np.float64)
    spread = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    if spread == 0.0:
        return float("nan")
    return float(2.0 * np.mean((a - a.mean()) * (b - b.mean())) / spread)


def fit_temperature(logits: FloatArray, truth: Indices, weights: FloatArray | None = None) -> float:
    """Temperature that minimises the negative log-likelihood (Guo et al., 2017). Divide by it.

    Fit it on speakers held out of the training split, never on dev. `weights` [N], all 1 unless
    given, say how much each item counts.
    """
    grid = np.exp(np.linspace(np.log(0.3), np.log(6.0), 121))
    scores = np.asarray(logits, np.float64)[None] / grid[:, None, None]
    right = np.take_along_axis(scores, np.asarray(truth)[None, :, None], axis=2)[:, :, 0]
    losses = np.logaddexp.reduce(scores, axis=2) - right
    return float(grid[int(np.argmin(np.average(losses, axis=1, weights=weights)))])
