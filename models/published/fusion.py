"""A network over the frames of one or more encoders: necks, fusion, hidden layers, heads.

    frames [B, T, d] of each member -> neck -> fusion -> vector [B, D] -> hidden layers -> heads

Padding never changes a pooled vector. Members that are trained are part of the network; the frames
of frozen ones are its inputs, so that they can be stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from abhinaya.models.errors import OptionsError
from abhinaya.models.published.encoders import Encoder, Frames
from abhinaya.models.published.heads import AttentiveMean, AttentiveStatistics
from abhinaya.models.published.specs import NetworkSpec
from abhinaya.models.published.voting_batch import valid

Mix = tuple[Tensor, Tensor]
"""Of a batch: how much of itself an item keeps [B], and whose rest it takes [B]."""


def mixed(x: Tensor, mix: Mix) -> Tensor:
    """Mix the rows of `x` [B, D] (manifold mixup)."""
    kept, other = mix[0].to(x)[:, None], mix[1].to(x.device)
    return kept * x + (1.0 - kept) * x[other]


class Network(nn.Module):
    """The network of a spec; `heads` is name -> number of outputs. Returns [B, K], head by head."""

    def __init__(
        self, spec: NetworkSpec, encoders: Sequence[Encoder], heads: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.spec = spec
        trained = {str(i): e for i, e in enumerate(encoders) if not e.spec.frozen}
        self.encoders = nn.ModuleDict(trained)
        self.mixes = nn.ModuleList(_Weights(e.levels) for e in encoders)
        self.necks = nn.ModuleList(
            _neck(e.spec.neck, e.width, spec.width, spec.inner_dropout) for e in encoders
        )
        widths = [_neck_width(e.spec.neck, e.width, spec.width) for e in encoders]
        self.fuse = _FUSIONS[spec.fuse](spec, widths)
        size: int = self.fuse.size
        self.input_norm = nn.LayerNorm(size) if spec.input_norm else nn.Identity()
        self.input_dropout = nn.Dropout(spec.input_dropout)
        self.hidden = nn.ModuleList()
        for width in spec.hidden:
            norm = [nn.LayerNorm(width)] if spec.norm else []
            block = [nn.Linear(size, width), *norm, nn.ReLU(), nn.Dropout(spec.dropout)]
            self.hidden.append(nn.Sequential(*block))
            size = width
        self.heads = nn.ModuleDict({k: _Head(size, n, spec) for k, n in heads.items()})

    def forward(self, inputs: Sequence[tuple[Tensor, Tensor]], mix: Mix | None = None) -> Tensor:
        """Score a batch: each member's frames and their number [B], or its prepared inputs."""
        vector = self.input_dropout(self.input_norm(self.fuse(self._frames(inputs))))
        # Before the first linear layer it is the same as after it, where MEDUSA mixes.
        vector = vector if mix is None else mixed(vector, mix)
        for layer in self.hidden:
            out = layer(vector)
            vector = vector + out if self.spec.residual and out.shape == vector.shape else out
        return torch.cat([head(vector) for head in self.heads.values()], dim=1)

    def _frames(self, inputs: Sequence[tuple[Tensor, Tensor]]) -> list[Frames]:
        found = []
        for i, (x, n) in enumerate(inputs):
            if str(i) in self.encoders:
                frames: Frames = self.encoders[str(i)](x, n)
            else:
                frames = Frames(x, valid(n, x.shape[1]))
            weighed = self.mixes[i](frames.x.float())
            found.append(Frames(_run(self.necks[i], weighed, frames.valid), frames.valid))
        return found


class _Weights(nn.Module):
    """Softmax-weighted sum of L layers: [B, T, L, d] -> [B, T, d]; nothing for L = 0."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.zeros(levels)) if levels else None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.levels is None else torch.einsum("btld,l->btd", x, self.levels.softmax(0))


class _Head(nn.Module):
    def __init__(self, size: int, outputs: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.inner: nn.Module = nn.Identity()
        if spec.head_hidden:
            self.inner = nn.Sequential(
                nn.Linear(size, spec.head_hidden), nn.ReLU(), nn.Dropout(spec.dropout)
            )
        self.out = nn.Linear(spec.head_hidden or size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.out(self.inner(x))
        return scores


# --- necks ----------------------------------------------------------------------------------------


def _neck(kind: str, size: int, width: int, dropout: float) -> nn.Module:
    """Return layers on each frame [B, T, d]; a linear layer is a convolution of one frame."""
    match kind:
        case "identity":
            return nn.Identity()
        case "linear":
            return nn.Linear(size, width)
        case "linear_ln":
            return nn.Sequential(nn.Linear(size, width), nn.LayerNorm(width))
        case "mlp":
            return _mlp(size, width)
        case "conv":
            inner = (nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width))
            return nn.Sequential(
                nn.Linear(size, width),
                *inner,
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(width, width),
            )
        case _:
            return _Recurrent(size, width)


def _neck_width(kind: str, size: int, width: int) -> int:
    return {"identity": size, "bigru": 2 * width}.get(kind, width)


def _mlp(size: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width))


class _Recurrent(nn.Module):
    """Linear layer with LayerNorm, then a GRU in both directions: [B, T, d] -> [B, T, 2 width]."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.into = nn.Sequential(nn.Linear(size, width), nn.LayerNorm(width))
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.into(x), mask.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        out, _ = self.gru(packed)
        found, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        return found


def _run(neck: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    found: Tensor = neck(x, mask) if isinstance(neck, _Recurrent) else neck(x)
    return found


# --- pools ----------------------------------------------------------------------------------------


class _Mean(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        kept = mask[..., None].to(x)
        return (x * kept).sum(1) / kept.sum(1)


class _First(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x[:, 0]


def _pool(kind: str, width: int) -> tuple[nn.Module, int]:
    """Return a pool [B, T, d] -> [B, D], and D."""
    made: dict[str, Any] = {"mean": _Mean, "cls": _First}
    if kind in made:
        return made[kind](), width
    return (
        (AttentiveStatistics(width), 2 * width) if kind == "asp" else (AttentiveMean(width), width)
    )


class _Pools(nn.Module):
    """Pools each member with its own kind; `sizes` are the widths of the vectors."""

    def __init__(self, spec: NetworkSpec, widths: Sequence[int]) -> None:
        super().__init__()
        made = [_pool(m.pool, w) for m, w in zip(spec.members, widths, strict=True)]
        self.each = nn.ModuleList(pool for pool, _ in made)
        self.sizes = [size for _, size in made]

    def forward(self, members: Sequence[Frames]) -> list[Tensor]:
        return [pool(m.x, m.valid) for pool, m in zip(self.each, members, strict=True)]


# --- fusions: frames of each member -> [B, size] --------------------------------------------------


class _Concat(nn.Module):
    def __init__(self, spec: NetworkSpec, widths: Sequence[int]) -> None:
        super().__init__()
        self.pool = _Pools(spec, widths)
        self.size = sum(self.pool.sizes)

    def forward(self, members: Sequence[Frames]) -> Tensor:
        return torch.cat(self.pool(members), dim=1)


class _Experts(nn.Module):
    """The pooled vectors, projected to one width: [B, members, width]."""

    def __init__(self, spec: NetworkSpec, widths: Sequence[int]) -> None:
        super().__init__()
        self.pool = _Pools(spec, widths)
        self.into = nn.ModuleList(nn.Linear(size, spec.width) for size in self.pool.sizes)

    def forward(self, members: Sequence[Frames]) -> Tensor:
        vectors = zip(self.into, self.pool(members), strict=True)
        return torch.stack([layer(vector) for layer, vector in vectors], dim=1)


class _Lstm(nn.Module):
    """An LSTM over the sequence of members; its last output."""

    def __init__(self, spec: NetworkSpec, widths: Sequence[int]) -> None:
        super().__init__()
        self.experts = _Experts(spec, widths)
        self.lstm = nn.LSTM(spec.width, spec.width, batch_first=True)
        self.size = spec.width

    def forward(self, members: Sequence[Frames]) -> Tensor:
        out: Tensor = self.lstm(self.experts(members))[0]
        return out[:, -1]


class _Gate(nn.Module):
    """A sum of the members, weighed by all of them."""

    def __init__(self, spec: NetworkSpec, widths: Sequence[int]) -> None:
        super().__init__()
        self.experts = _Experts(spec, widths)
        self.weigh = nn.Linear(len(widths) * spec.width, len(widths))
        self.size = spec.width

    def forward(self, members: Sequence[Frames]) -> Tensor:
        experts = self.experts(members)
        return torch.einsum("bmd,bm->bd", experts, self.weigh(experts.flatten(1)).softmax(1))


def _joined(members: Sequence[Frames]) -> Frames:
    """Concatenate in time."""
    return Frames(torch.cat([m.x for m in members], 1), torch.cat([m.valid for m in members], 1))


def _one_width(spec: NetworkSpec, widths: Sequence[int]) -> int:
    if len(set(widths)) > 1:
        raise OptionsError(
            f"fuse = {spec.fuse!r}",
            f"the widths of its members differ: {', '.join(map(str, widths))}",
            "give each member a neck, such as linear_ln",
        )
    return widths[0]


class _Time(nn.Module):
    """Self-attention over the frames of all members, with residual; then one pool."""

    def __init__(self, spec: NetworkSpec, widths: Sequence[int]) -> None:
        super().__init__()
        width = _one_width(spec, widths)
        self.attend = nn.MultiheadAttention(
            width, spec.attention_heads, spec.inner_dropout, batch_first=True
        )
        self.pool, self.size = _pool(spec.members[0].pool, width)

    def forward(self, members: Sequence[Frames]) -> Tensor:
        all_ = _joined(members)
        out = self.attend(all_.x, all_.x, all_.x, key_padding_mask=~all_.valid)[0]
        pooled: Tensor = self.pool(all_.x + out, all_.valid)
        return pooled


class _Cross(nn.Module):
    """Each member attends to the frames of the others, with residual; then pools, concatenated."""

    def __init__(self, spec: NetworkSpec, widths: Sequence[int]) -> None:
        super().__init__()
        width = _one_width(spec, widths)
        self.attend = nn.ModuleList(
            nn.MultiheadAttention(width, spec.attention_heads, spec.inner_dropout, batch_first=True)
            for _ in widths
        )
        self.pool = _Concat(spec, widths)
        self.size = self.pool.size

    def forward(self, members: Sequence[Frames]) -> Tensor:
        found = []
        for i, (attend, own) in enumerate(zip(self.attend, members, strict=True)):
            other = _joined([m for k, m in enumerate(members) if k != i] or [own])
            out = attend(own.x, other.x, other.x, key_padding_mask=~other.valid)[0]
            found.append(Frames(own.x + out, own.valid))
        pooled: Tensor = self.pool(found)
        return pooled


class _Leg(nn.Module):
    """MEDUSA's leg: two linear layers, then two transformer layers, whose outputs it returns."""

    def __init__(self, size: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.into = _mlp(size, spec.width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                spec.width, spec.attention_heads, dropout=spec.inner_dropout, batch_first=True
            )
            for _ in range(2)
        )

    def forward(self, of: Frames) -> tuple[Frames, Frames]:
        first = self.layers[0](self.into(of.x), src_key_padding_mask=~of.valid)
        second = self.layers[1](first, src_key_padding_mask=~of.valid)
        return Frames(first, of.valid), Frames(second, of.valid)


class _Deep(nn.Module):
    """MEDUSA's deep fusion: a leg a member, one over their first layers, one over all second ones.

    The vector has the mean of each member's second layer and that of the last leg.
    """

    def __init__(self, spec: NetworkSpec, widths: Sequence[int]) -> None:
        super().__init__()
        self.legs = nn.ModuleList(_Leg(width, spec) for width in widths)
        self.first, self.second = _Leg(spec.width, spec), _Leg(spec.width, spec)
        self.mean = _Mean()
        self.size = (len(widths) + 1) * spec.width

    def forward(self, members: Sequence[Frames]) -> Tensor:
        made = [leg(m) for leg, m in zip(self.legs, members, strict=True)]
        _, middle = self.first(_joined([low for low, _ in made]))
        highs = [high for _, high in made]
        _, top = self.second(_joined([*highs, middle]))
        return torch.cat([self.mean(m.x, m.valid) for m in (*highs, top)], dim=1)


_FUSIONS: dict[str, Any] = {
    "concat": _Concat,
    "lstm": _Lstm,
    "gate": _Gate,
    "time": _Time,
    "cross": _Cross,
    "deep": _Deep,
}
