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
    the attention.
    """

    def __init__(
        self,
        features: int,
        words: int,
        classes: int,
        projected: int = 160,
        hidden: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.frame = nn.Linear(features, projected)
        self.attention = nn.Linear(projected, 1)
        self.hidden = nn.Linear(2 * (projected + features) + words, hidden)
        self.out = nn.Linear(hidden, classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """Return logits [B, C'] of frames [B, T, X], their mask [B, T] and words [B, W]."""
        projected = torch.tanh(self.frame(self.drop(frames)))
        scores = self.attention(projected).squeeze(-1).masked_fill(~mask, NEVER)
        share = scores.softmax(dim=1).unsqueeze(1)
        mean, spread = _statistics(share, projected)
        pooled = [mean, (spread + SMALL_VARIANCE).sqrt(), *_of_levels(share, frames), words]
        hidden = functional.gelu(self.hidden(self.drop(torch.cat(pooled, dim=1))))
        scores_of: Tensor = self.out(self.drop(hidden))
        return scores_of


class Plain(nn.Module):
    """A linear layer on means and spreads of all frames."""

    def __init__(self, features: int, words: int, classes: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.out = nn.Linear(2 * features + words, classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor, words: Tensor) -> Tensor:
        """Return logits [B, C'] of frames [B, T, X], their mask [B, T] and words [B, W]."""
        share = (mask / mask.sum(dim=1, keepdim=True)).unsqueeze(1)
        pooled = torch.cat([*_of_levels(share, frames), words], dim=1)
        scores_of: Tensor = self.out(self.drop(pooled))
        return scores_of


def _of_levels(share: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    mean, spread = _statistics(share, frames)
    return mean, 0.5 * (spread + SMALL_SPREAD).log()


def _statistics(share: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    # a difference of nearly equal numbers needs full precision
    with torch.autocast("cpu", enabled=False):
        share, x = share.float(), x.float()
        mean = (share @ x).squeeze(1)
        return mean, ((share @ (x * x)).squeeze(1) - mean * mean).clamp_min(0.0)
