"""The networks of S1 and ST1 in torch; `abhinaya.models.tiny.head` has the same in NumPy.

Shapes: B batch, T frames, X features of a frame, W word features, C' classes.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from abhinaya.models.tiny.head import SMALL_SPREAD, SMALL_VARIANCE

NEVER: Final = -1e4
"""Attention score of padding."""


class Network(nn.Module):
    """Attentive statistics pooling over frames, then one hidden layer.

    `features` is X, `words` W (0 for S1), `classes` C'; `projected` is the width of the input of
    the attention. If it is 0, the network is the plain one: a linear layer on means and spreads of
    all frames.
    """

    def __init__(
        self,
        features: int,
        words: int,
        classes: int,
        projected: int = 0,
        hidden: int = 0,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.attentive, pooled = projected > 0, 2 * (projected + features) + words
        if self.attentive:
            self.frame = nn.Linear(features, projected)
            self.attention = nn.Linear(projected, 1)
            self.hidden = nn.Linear(pooled, hidden)
        self.out = nn.Linear(hidden if self.attentive else pooled, classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """Return logits [B, C'] of frames [B, T, X], their mask [B, T] and words [B, W]."""
        share, parts = mask / mask.sum(dim=1, keepdim=True), []
        if self.attentive:
            projected = torch.tanh(self.frame(self.drop(frames)))
            scores = self.attention(projected).squeeze(-1).masked_fill(~mask, NEVER)
            share = scores.softmax(dim=1)
            mean, spread = _statistics(share, projected)
            parts = [mean, (spread + SMALL_VARIANCE).sqrt()]
        mean, spread = _statistics(share, frames)
        x = self.drop(torch.cat([*parts, mean, 0.5 * (spread + SMALL_SPREAD).log(), words], dim=1))
        if self.attentive:
            x = self.drop(functional.gelu(self.hidden(x)))
        logits: Tensor = self.out(x)
        return logits


def _statistics(share: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    # a difference of nearly equal numbers needs full precision
    with torch.autocast("cpu", enabled=False):
        share, x = share.float().unsqueeze(1), x.float()
        mean = (share @ x).squeeze(1)
        return mean, ((share @ (x * x)).squeeze(1) - mean * mean).clamp_min(0.0)
