"""Figures about predictions. Labels are indices; every figure says on how many items it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray

Indices = npt.NDArray[np.int64]


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


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: FloatArray = (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)
    return probabilities


def calibration_error(probabilities: FloatArray, truth: Indices, bins: int = 10) -> float:
    """Mean gap of confidence and accuracy over bins of equal width (expected calibration error)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = [
        abs(float(confidence[place == b].mean()) - float(right[place == b].mean()))
        * float(np.mean(place == b))
        for b in range(bins)
        if np.any(place == b)
    ]
    return float(sum(gaps))
