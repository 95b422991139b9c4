"""BEATs (Chen et al., 2022): SALMONN's second audio encoder, next to Whisper.

    wave [B, n] -> filter bank [B, F, 128] -> 16 x 16 patches [B, T, embed] -> encoder [B, T, D]

F frames of 10 ms; T tokens, 8 for each 16 frames (8 frequency bands, the fastest index).

The published code rounds the padding: it can keep a token of padding or drop a token of speech.
`token_count` is the exact number for the wave alone, so that the result for a wave does not depend
on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, cast

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from torchaudio.compliance.kaldi import fbank

from abhinaya.models.base import SAMPLE_RATE
from abhinaya.models.errors import KeysError

SHORTEST: Final = 2800
"""Samples of one row of patches; a shorter wave has no token."""

_WINDOW: Final = 400
_HOP: Final = 160
_MELS: Final = 128
_MEAN: Final = 15.41663
_STD: Final = 6.55582


def frame_count(samples: int) -> int:
    """Return the number of filter-bank frames that fit completely into a wave."""
    return 1 + (samples - _WINDOW) // _HOP if samples >= _WINDOW else 0


def token_count(samples: int) -> int:
    """Return the number of tokens of a wave without padding."""
    return frame_count(samples) // 16 * 8


def filter_bank(waves: Tensor) -> Tensor:
    """Return BEATs' normalised Kaldi log-mel energies: [B, n] in [-1, 1] -> [B, F, M] float32.

    Computed in float64 without autocast: in half precision every frame overflows.
    """
    with torch.autocast(waves.device.type, enabled=False):
        banks = [
            fbank(wave[None] * 32768.0, num_mel_bins=_MELS, sample_frequency=SAMPLE_RATE)
            for wave in waves.double()
        ]
        normalised: Tensor = (torch.stack(banks) - _MEAN) / (2 * _STD)
    return normalised.float()


@dataclass(frozen=True, slots=True)
class BeatsConfig:
    """Fields of the `cfg` in a BEATs file that change the computation."""

    embed_dim: int = 512
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    deep_norm: bool = True

    @classmethod
    def read(cls, cfg: Mapping[str, Any], subject: object) -> BeatsConfig:
        """Return the config in a `cfg`.

        Raises:
            KeysError: the file is another variant of BEATs than SALMONN's.

        """
        needed = {
            "input_patch_size": 16,
            "conv_bias": False,
            "layer_norm_first": False,
            "activation_fn": "gelu",
            "relative_position_embedding": True,
            "gru_rel_pos": True,
        }
        if wrong := {k: cfg[k] for k, v in needed.items() if k in cfg and cfg[k] != v}:
            raise KeysError(
                subject,
                f"its cfg has {', '.join(f'{k}={v}' for k, v in wrong.items())}, which SALMONN's"
                " BEATs does not",
                "use BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt",
            )
        return cls(**{f.name: cfg[f.name] for f in fields(cls) if f.name in cfg})


class Beats(nn.Module):
    """The encoder; parameter names are those of the published file."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, 16, stride=16, bias=False)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = nn.Linear(config.embed_dim, config.encoder_embed_dim)
        self.encoder = _Encoder(config)

    def patches(self, bank: Tensor) -> Tensor:
        """Embed a filter bank [B, F, M] as normalised patches [B, T, embed], time first."""
        patches = self.patch_embedding(bank.to(self.patch_embedding.weight.dtype).unsqueeze(1))
        normed: Tensor = self.layer_norm(patches.flatten(2).transpose(1, 2))
        return normed

    def forward(self, bank: Tensor, padding: Tensor | None = None) -> Tensor:
        """Filter bank [B, F, M], token padding [B, T] True on padding -> [B, T, D]."""
        encoded: Tensor = self.encoder(self.post_extract_proj(self.patches(bank)), padding)
        return encoded


class _Encoder(nn.Module):
    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.pos_conv = nn.Sequential(
            _PositionalConv(width, config.conv_pos, config.conv_pos_groups)
        )
        self.layer_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            _Layer(config, first=i == 0) for i in range(config.encoder_layers)
        )

    def embed(self, x: Tensor, padding: Tensor | None) -> Tensor:
        if padding is not None:
            x = x.masked_fill(padding.unsqueeze(-1), 0.0)
        normed: Tensor = self.layer_norm(x + self.pos_conv(x))
        return normed

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        x = self.embed(x, padding)
        first = cast("_Layer", self.layers[0])
        bias = first.self_attn.position_bias(x.shape[1])  # one table for all layers
        for layer in self.layers:
            x = layer(x, bias, padding)
        return x


class _PositionalConv(nn.Module):
    """Grouped convolution over time; its weight is a direction and one norm per kernel tap."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, kernel) / width)
        self.weight_g = nn.Parameter(torch.ones(1, 1, kernel))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        direction = self.weight_v.float()
        norm = direction.square().sum((0, 1), keepdim=True).sqrt()
        weight = (self.weight_g.float() * direction / norm).to(x.dtype)
        kernel = weight.shape[-1]
        y = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=kernel // 2, groups=self.groups)
        if kernel % 2 == 0:  # an even kernel gives one frame too many
            y = y[..., :-1]
        return F.gelu(y).transpose(1, 2)


class _Layer(nn.Module):
    def __init__(self, config: BeatsConfig, *, first: bool) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.residual_scale = (2 * config.encoder_layers) ** 0.25 if config.deep_norm else 1.0
        self.self_attn = _Attention(config, has_table=first)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None) -> Tensor:
        x = self.self_attn_layer_norm(self.residual_scale * x + self.self_attn(x, bias, padding))
        y = self.fc2(F.gelu(self.fc1(x)))
        normed: Tensor = self.final_layer_norm(self.residual_scale * x + y)
        return normed


class _Attention(nn.Module):
    """Self-attention with a relative position bias that each head's query gates."""

    def __init__(self, config: BeatsConfig, *, has_table: bool) -> None:
        super().__init__()
        width, self.heads = config.encoder_embed_dim, config.encoder_attention_heads
        self.num_buckets, self.max_distance = config.num_buckets, config.max_distance
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // self.heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))
        if has_table:
            self.relative_attention_bias = nn.Embedding(config.num_buckets, self.heads)

    def position_bias(self, tokens: int) -> Tensor:
        """Return the bias [heads, T, T] from the shared table."""
        at = torch.arange(tokens, device=self.grep_a.device)
        index = buckets(at[None, :] - at[:, None], self.num_buckets, self.max_distance)
        table: Tensor = self.relative_attention_bias(index)
        return table.permute(2, 0, 1)

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None) -> Tensor:
        q, k, v = (
            p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, T, D / heads]
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        # The gate uses the unscaled query.
        a, b = self.grep_linear(q).unflatten(-1, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        mask = (a * (b * self.grep_a - 1.0) + 2.0) * bias  # [B, heads, T, T]
        if padding is not None:
            mask = mask.masked_fill(padding[:, None, None, :], float("-inf"))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return out


def buckets(relative: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Return T5's two-sided buckets of key minus query position: exact near, logarithmic far."""
    half = num_buckets // 2
    exact = half // 2
    distance = relative.abs()
    far = torch.log(distance.float().clamp(min=1) / exact) / math.log(max_distance / exact)
    far = (exact + (far * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(distance < exact, distance, far) + (relative > 0).long() * half
