"""The window Q-Former: turns each third of a second of audio into one token.

    features [B, 1500, W] -> windows of 17 frames [B * 88, 17, W] -> one query each -> [B, 88, Q]

BLIP-2's BERT with only its query branch. Attribute names are the keys of the published checkpoint;
`self.self` is BERT's name for self-attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

WINDOW_FRAMES: Final = 17
"""Length and stride of a window in frames of 20 ms: round(1500 * 0.333333 / 30)."""


@dataclass(frozen=True, slots=True)
class QFormerConfig:
    """Sizes of the Q-Former; the defaults are SALMONN's."""

    encoder_width: int = 2048
    """W: the sum of Whisper's and BEATs' widths."""
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    num_hidden_layers: int = 2
    num_query_tokens: int = 1
    layer_norm_eps: float = 1e-12


class QFormer(nn.Module):
    """Queries that attend to windows: [1, q, Q] and [N, t, W] -> [N, q, Q]."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        self.bert = _Bert(config)

    def forward(self, queries: Tensor, windows: Tensor) -> Tensor:
        """Read each window separately with the same queries."""
        read: Tensor = self.bert(queries.expand(len(windows), -1, -1), windows)
        return read


def windows(features: Tensor) -> Tensor:
    """Cut [B, T, W] into [B * T // 17, 17, W]; frames of an incomplete window are dropped."""
    count = features.shape[1] // WINDOW_FRAMES
    whole = features[:, : count * WINDOW_FRAMES]
    return whole.reshape(-1, WINDOW_FRAMES, features.shape[-1])


class _Bert(nn.Module):
    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.embeddings = nn.ModuleDict({"LayerNorm": norm})
        self.encoder = nn.ModuleDict({"layer": layers})

    def forward(self, queries: Tensor, windows: Tensor) -> Tensor:
        x: Tensor = self.embeddings["LayerNorm"](queries)
        for layer in cast("nn.ModuleList", self.encoder["layer"]):
            x = layer(x, windows)
        return x


class _Layer(nn.Module):
    """Post-norm layer: self-attention, cross-attention to the window, feed-forward."""

    def __init__(self, config: QFormerConfig) -> None:
        super().__init__()
        hidden, inner, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.attention = _Attention(config, hidden)
        self.crossattention = _Attention(config, config.encoder_width)
        self.intermediate_query = nn.ModuleDict({"dense": nn.Linear(hidden, inner)})
        self.output_query = _Output(inner, hidden, eps)

    def forward(self, x: Tensor, windows: Tensor) -> Tensor:
        x = self.attention(x, x)
        x = self.crossattention(x, windows)
        out: Tensor = self.output_query(F.gelu(self.intermediate_query["dense"](x)), x)
        return out


class _Attention(nn.Module):
    def __init__(self, config: QFormerConfig, source_width: int) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads = config.num_attention_heads
        self.self = nn.ModuleDict(
            {
                "query": nn.Linear(hidden, hidden),
                "key": nn.Linear(source_width, hidden),
                "value": nn.Linear(source_width, hidden),
            }
        )
        self.output = _Output(hidden, hidden, config.layer_norm_eps)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        q, k, v = (
            self.self[name](of).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name, of in (("query", x), ("key", source), ("value", source))
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.output(y, x)
        return out


class _Output(nn.Module):
    def __init__(self, width: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps)

    def forward(self, y: Tensor, residual: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(y) + residual)
        return normed
