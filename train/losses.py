"""Losses for classes of very different size. Logits [B, C], targets [B, C] that sum to 1."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted cross-entropy, the mean over the batch (eq. 1 of arXiv 2505.18217).

    `weights` [C] multiply each class; soft targets are allowed.
    """
    return focal(logits, targets, gamma=0.0, weights=weights)


def focal(
    logits: Tensor, targets: Tensor, gamma: float = 2.0, weights: Tensor | None = None
) -> Tensor:
    """Weighted focal loss, the mean over the batch (eq. 2 of arXiv 2505.18217).

    mean_i sum_c target_ic w_c (1 - p_ic)^gamma (-log p_ic), with each weight on its own sample.
    """
    log_p = torch.log_softmax(logits, dim=1)
    terms = -targets * log_p
    if gamma:
        terms = terms * (1.0 - log_p.exp()) ** gamma
    if weights is not None:
        terms = terms * weights
    return terms.sum(dim=1).mean()
