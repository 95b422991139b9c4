"""Computes the loss of a stage, the weighted sum of the recipe's `losses`, and validation figures.

N clips, B batch, C classes. Scores [B, K]: C labels, then 3 attributes, each if a term is on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor

from abhinaya.train.data.clips import ATTRIBUTES
from abhinaya.train.loop.losses import (
    CODE_WEIGHTS,
    Reduction,
    ccc,
    ccc_loss,
    class_weights,
    kl_divergence,
    vector_scaling,
    weighted_cross_entropy,
    weighted_focal,
)
from abhinaya.train.metrics import macro_f1, unweighted_recall
from abhinaya.train.recipes.recipe import ATTRIBUTE_LOSSES, LossTerm

_FEWEST: Final = 2
"""Fewest clips with known attributes for which the concordance is defined."""


class Objective:
    """The loss of one stage.

    `terms` are its `losses`, `counts` [C] the training clips of each class, empty if no term is on
    labels.
    """

    def __init__(self, terms: Sequence[LossTerm], counts: Sequence[int]) -> None:
        self._terms, self._counts = terms, tuple(counts)

    def __call__(self, scores: Tensor, shares: Tensor, attributes: Tensor) -> Tensor:
        """Return the loss of scores [B, K] for shares of votes [B, C] and attributes [B, 3]."""
        scores = scores.float()
        classes = len(self._counts)
        total = scores.new_zeros(())
        for term in self._terms:
            if term.kind in ATTRIBUTE_LOSSES:
                value = _of_attributes(scores[:, classes:], attributes)
            else:
                value = self._of_labels(term, scores[:, :classes], shares)
            total = total + term.weight * value
        return total

    def _of_labels(self, term: LossTerm, logits: Tensor, shares: Tensor) -> Tensor:
        weights, reduction = self._weights(term), cast("Reduction", term.reduction)
        own = {} if term.gamma is None else {"gamma": term.gamma}  # else that of the formula
        match term.kind:
            case "ce":
                return weighted_cross_entropy(logits, shares, weights, reduction)
            case "focal":
                return weighted_focal(logits, shares, weights, reduction=reduction, **own)
            case "vs":
                more = {"tau": term.tau, **own}
                return vector_scaling(
                    logits, shares, self._counts, weights, reduction=reduction, **more
                )
            case _:
                return kl_divergence(logits, shares, weights)

    def _weights(self, term: LossTerm) -> Tensor | None:
        if term.class_weights == "published":
            return torch.tensor(CODE_WEIGHTS)
        if term.class_weights == "training":
            return class_weights(self._counts)
        return None if term.kind != "vs" else torch.ones(len(self._counts))


def bounded(scores: Tensor) -> Tensor:
    """Return attributes [B, 3] from 0 to 1 for their scores."""
    return scores.float().sigmoid()


def _of_attributes(scores: Tensor, truth: Tensor) -> Tensor:
    known = torch.isfinite(truth).all(dim=1)
    if int(known.sum()) < _FEWEST:
        return scores.sum() * 0.0
    return ccc_loss(bounded(scores[known]), truth[known].to(scores.device))


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one validation."""

    score: float
    """Macro-F1 of labels, else mean concordance of attributes. Higher is better."""
    values: Mapping[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4f}" for name, value in self.values.items())


def judge(
    scores: Tensor, shares: Tensor, attributes: Tensor, objective: Objective, classes: int
) -> Figures:
    """Measure scores [N, K] against shares of votes [N, C] and attributes [N, 3].

    F1 is averaged over the classes that occur. Concordance is over clips with known attributes.
    """
    values: dict[str, float] = {"loss": float(objective(scores, shares, attributes))}
    known = attributes.isfinite().all(dim=1)
    score = 0.0
    if scores.shape[1] > classes and int(known.sum()) >= _FEWEST:
        given = bounded(scores[:, classes:])[known]
        found = [float(ccc(given[:, k], attributes[known, k])) for k in range(len(ATTRIBUTES))]
        values |= {f"ccc_{name}": value for name, value in zip(ATTRIBUTES, found, strict=True)}
        score = float(np.mean(found))
    if classes:
        truth, guess = shares.argmax(dim=1).numpy(), scores[:, :classes].argmax(dim=1).numpy()
        there = sorted(set(truth.tolist()))
        score = macro_f1(truth, guess, there)
        values |= {"macro_f1": score, "uar": unweighted_recall(truth, guess, there)}
    return Figures(score, values)
