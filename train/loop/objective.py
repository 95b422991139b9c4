"""The loss of a stage: a weighted sum of terms on labels and on attributes.

B batch, C classes. Scores [B, K]: first C of labels, if any term is on them, then 3 of attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import torch
from torch import Tensor

from abhinaya.train.loop.losses import (
    CODE_WEIGHTS,
    Reduction,
    ccc_loss,
    class_weights,
    kl_divergence,
    vector_scaling,
    weighted_cross_entropy,
    weighted_focal,
)
from abhinaya.train.recipes.recipe import ATTRIBUTE_LOSSES, LossTerm

_FEWEST: Final = 2
"""Clips with known attributes that a batch needs for its concordance to mean anything."""


class Objective:
    """Terms with the class sizes they need.

    Args:
        terms: of the stage.
        counts: training clips of each class [C]; empty when nothing is learnt of labels.

    """

    def __init__(self, terms: Sequence[LossTerm], counts: Sequence[int]) -> None:
        self._terms, self._counts = terms, tuple(counts)

    def __call__(self, scores: Tensor, shares: Tensor, attributes: Tensor) -> Tensor:
        """One value, of scores [B, K], shares of votes [B, C] and attributes [B, 3]."""
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
        match term.kind:
            case "ce":
                return weighted_cross_entropy(logits, shares, weights, reduction)
            case "focal":
                return weighted_focal(logits, shares, weights, term.gamma, reduction)
            case "vs":
                return vector_scaling(
                    logits, shares, self._counts, weights, term.gamma, term.tau, reduction
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
    """Attributes [B, 3] in 0 to 1 of their scores."""
    return scores.float().sigmoid()


def _of_attributes(scores: Tensor, truth: Tensor) -> Tensor:
    known = torch.isfinite(truth).all(dim=1)
    if int(known.sum()) < _FEWEST:
        return scores.sum() * 0.0
    return ccc_loss(bounded(scores[known]), truth[known].to(scores.device))
