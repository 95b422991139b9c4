"""Figures about predictions. Labels are indices; every figure says on how many items it stands.

N items, C classes. A guess of -1 is an abstention, which is wrong whatever the truth. Pure NumPy.
How sure a figure is stands in `train/eval/intervals.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    scores = {}
    for c in classes:
        hits = int(np.sum((truth == c) & (guess == c)))
        n, guessed = int(np.sum(truth == c)), int(np.sum(guess == c))
        precision = hits / guessed if guessed else 0.0
        recall = hits / n if n else 0.0
        f1 = 2 * hits / (n + guessed) if n + guessed else 0.0
        scores[c] = ClassScore(precision, recall, f1, n)
    return scores


def macro_f1(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Mean F1 over `classes`, each counting the same."""
    return float(np.mean([score.f1 for score in per_class(truth, guess, classes).values()]))


def weighted_f1(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Mean F1 over `classes`, each counting as often as it occurs."""
    scores = per_class(truth, guess, classes).values()
    return sum(s.f1 * s.n for s in scores) / max(1, sum(s.n for s in scores))


def unweighted_recall(truth: Indices, guess: Indices, classes: Sequence[int]) -> float:
    """Mean recall over `classes` (UAR), each counting the same; a class without items counts 0."""
    return float(np.mean([score.recall for score in per_class(truth, guess, classes).values()]))


def accuracy(truth: Indices, guess: Indices) -> float:
    """Share of items guessed right; 0 of no items."""
    return float(np.mean(truth == guess)) if len(truth) else 0.0


def confusion(truth: Indices, guess: Indices, classes: int) -> Indices:
    """Count [C, C + 1]: row is the truth, column the guess, the last column abstentions."""
    column = np.where(guess < 0, classes, guess)
    counts = np.bincount(truth * (classes + 1) + column, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1).astype(np.int64)


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: FloatArray = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


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
        for b in range(bins)
        if np.any(place == b)
    ]


def calibration_error(probabilities: FloatArray, truth: Indices, bins: int = 10) -> float:
    """Mean gap of confidence and accuracy over bins of equal width (expected calibration error)."""
    found = reliability(probabilities, truth, bins)
    return float(sum(abs(b.confidence - b.accuracy) * b.share for b in found))


@dataclass(frozen=True, slots=True)
class Selective:
    """What accuracy is left if only the surest answers are given. K distinct confidences."""

    threshold: npt.NDArray[np.float64]
    """[K] answers of at least this confidence are given, from the surest on."""
    coverage: npt.NDArray[np.float64]
    """[K] share of items answered."""
    accuracy: npt.NDArray[np.float64]
    """[K] share of right ones among them."""

    @property
    def area(self) -> float:
        """Area under the risk-coverage curve: mean risk over coverage. 0 is best."""
        widths = np.diff(self.coverage, prepend=0.0)
        return float(np.sum(widths * (1.0 - self.accuracy)))


def selective(confidence: Numbers, right: npt.NDArray[np.bool_]) -> Selective:
    """Risk against coverage of N answers. Equal confidences are given or withheld together.

    Raises:
        ValueError: there are no answers.

    """
    if not len(confidence):
        raise ValueError("selective accuracy of no answers: give at least one")
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = np.asarray(confidence, np.float64)[order]
    last = np.append(np.flatnonzero(np.diff(sorted_confidence)), len(order) - 1)
    given = last + 1
    return Selective(
        threshold=sorted_confidence[last],
        coverage=given / len(order),
        accuracy=np.cumsum(right[order])[last] / given,
    )


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
