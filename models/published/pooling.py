"""From a sequence [B, T, D] to one vector: attention decides which positions count.

Both pools compute in the type of their own weights, which the voters keep at float32: the variance
below is a difference of two large numbers, and in bfloat16 nothing of it would be left.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

VARIANCE_FLOOR: Final = 1e-5


class AttentiveStatistics(nn.Module):
    """Weighted mean and standard deviation (Okabe et al., 2018): [B, T, D] -> [B, 2D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sap_linear = nn.Linear(width, width)
        self.attention = nn.Parameter(torch.randn(width, 1))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the positions where mask [B, T] is True (each row has one at least), or all."""
        x = x.to(self.attention.dtype)
        scores = torch.tanh(self.sap_linear(x)) @ self.attention
        weights = _softmax_over_time(scores, mask)
        mean = (weights * x).sum(1)
        variance = (weights * x.square()).sum(1) - mean.square()
        return torch.cat([mean, variance.clamp(min=VARIANCE_FLOOR).sqrt()], dim=-1)


class AttentiveMean(nn.Module):
    """Weighted mean alone: [B, T, D] -> [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the positions where mask [B, T] is True (each row has one at least), or all."""
        x = x.to(self.W.weight.dtype)
        return (_softmax_over_time(self.W(x), mask) * x).sum(1)


def _softmax_over_time(scores: Tensor, mask: Tensor | None) -> Tensor:
    """[B, T, 1] -> [B, T, 1], zero where the mask is False."""
    if mask is not None:
        scores = scores.masked_fill(~mask.bool().unsqueeze(-1), float("-inf"))
    return torch.softmax(scores, dim=1)
