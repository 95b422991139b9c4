"""The two heads of the five voters: hidden states [B, T, D] to class scores [B, C].

The heads differ in the place of the LayerNorm. Parameter names are those of the published
checkpoints. Pooling always works in float32: the variance is a small difference of two large
numbers, which bfloat16 would round away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch import Tensor, nn

Pool = Literal["asp", "attn_mean"]
DROPOUT: Final = 0.5
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
    """Weighted mean without the standard deviation: [B, T, D] -> [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the positions where mask [B, T] is True (each row has one at least), or all."""
        x = x.to(self.W.weight.dtype)
        return (_softmax_over_time(self.W(x), mask) * x).sum(1)


def _softmax_over_time(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over time: [B, T, 1] -> [B, T, 1], zero where the mask is False."""
    if mask is not None:
        scores = scores.masked_fill(~mask.bool().unsqueeze(-1), float("-inf"))
    return torch.softmax(scores, dim=1)


class SpeechHead(nn.Module):
    """Head of S1 and the challenge baseline: pool, linear, LayerNorm, ReLU, dropout, linear.

    The paper names attentive statistics, but its parameter count (317 M) fits the attentive mean,
    and the published script has no pooling; so both are offered.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        classes: int = 8,
        pool: Pool = "asp",
        dropout: float = DROPOUT,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pool = AttentiveStatistics(width) if pool == "asp" else AttentiveMean(width)
        self.input_dropout = nn.Dropout(input_dropout)
        self.fc = nn.Linear(2 * width if pool == "asp" else width, hidden)
        self.ln = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score [B, T, D] with mask [B, T], True on real frames: [B, C]."""
        pooled = self.input_dropout(self.pool(x, mask))
        scores: Tensor = self.out(self.dropout(self.ln(self.fc(pooled)).relu()))
        return scores


class LanguageHead(nn.Module):
    """Head of S2, ST1 and T2: LayerNorm, pool, linear, ReLU, dropout, linear."""

    def __init__(
        self, width: int, hidden: int = 1024, classes: int = 8, dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.pool = AttentiveStatistics(width)
        self.fc = nn.Linear(2 * width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Score [B, T, D] with mask [B, T], True on positions to pool: [B, C]."""
        pooled = self.pool(self.ln(x.to(self.ln.weight.dtype)), mask)
        scores: Tensor = self.out(self.dropout(self.fc(pooled).relu()))
        return scores


BASELINE_NAMES: Final[Mapping[str, str]] = {
    "pool_model.": "pool.",
    "ser_model.fc.0.0.": "fc.",
    "ser_model.fc.0.1.": "ln.",
    "ser_model.out.0.": "out.",
}
"""Prefixes of the challenge baseline's head -> prefixes of SpeechHead."""
