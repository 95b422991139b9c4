"""The network that reads words: BERT's encoder, as large as what it is for allows.

A checkpoint of transformers fills it. Of its own and plain, for ONNX: torch's and transformers'
layers have branches and shapes that an exporter writes down as the example had them.

B batch, L pieces of a text, V pieces known, R numbers that each is kept as, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from abhinaya.models.tiny.tokens import PIECES_AT_MOST

EPSILON: Final = 1e-12
"""BERT's, in its norms."""


_LAYER: Final = "encoder.layer."
_ATTENTION: Final = ("query", "key", "value")
_NAMES: Final = {
    "answer": "attention.output.dense",
    "after": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "last": "output.LayerNorm",
}


@dataclass(frozen=True)
class TextSize:
    """How large a tower is."""

    pieces: int
    """V."""
    rank: int
    """R; at D, there is no matrix between the two."""
    width: int
    """D."""
    heads: int
    inner: int
    """Width between the two halves of a layer."""
    depth: int
    """Layers."""


class Layer(nn.Module):
    """Attention and two matrices, each added to what came and normalised."""

    def __init__(self, size: TextSize, dropout: float) -> None:
        super().__init__()
        self.heads = size.heads
        self.ask = nn.Linear(size.width, 3 * size.width)
        """Queries, keys and values."""
        self.answer = nn.Linear(size.width, size.width)
        self.after = nn.LayerNorm(size.width, eps=EPSILON)
        self.inner = nn.Linear(size.width, size.inner)
        self.outer = nn.Linear(size.inner, size.width)
        self.last = nn.LayerNorm(size.width, eps=EPSILON)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """[B, L, D] and inside [B, L], True where there is text -> [B, L, D]."""
        heads = self.ask(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        dropout = self.drop.p if self.training else 0.0
        seen = inside[:, None, None, :]
        found = functional.scaled_dot_product_attention(query, key, value, seen, dropout)
        x = self.after(x + self.drop(self.answer(found.transpose(1, 2).flatten(2))))
        normed: Tensor = self.last(x + self.drop(self.outer(functional.gelu(self.inner(x)))))
        return normed


class TextTower(nn.Module):
    """Embeddings, `depth` transformer layers (Devlin et al., 2019), mean over the text, classes.

    The embedding may be of low rank (Lan et al., 2020): most of a small tower would be that.
    """

    def __init__(self, size: TextSize, classes: int, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.pieces = nn.Embedding(size.pieces, size.rank)
        self.widen: nn.Module = nn.Identity()
        if size.rank != size.width:
            self.widen = nn.Linear(size.rank, size.width, bias=False)
        self.places = nn.Embedding(PIECES_AT_MOST, size.width)
        self.norm = nn.LayerNorm(size.width, eps=EPSILON)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(size, dropout) for _ in range(size.depth))
        self.out = nn.Linear(size.width, classes)

    def forward(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """Pieces [B, L] and mask [B, L] (1 inside, 0 beyond the end) -> logits [B, C]."""
        inside = mask.unsqueeze(-1)
        mean = (self.read(pieces, mask) * inside).sum(dim=1) / inside.sum(dim=1)
        logits: Tensor = self.out(self.drop(mean))
        return logits

    def read(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """Pieces [B, L] and mask [B, L] -> [B, L, D]."""
        at = torch.arange(pieces.shape[1], device=pieces.device)
        x: Tensor = self.drop(self.norm(self.widen(self.pieces(pieces)) + self.places(at)))
        for layer in self.layers:
            x = layer(x, mask > 0.5)
        return x


def from_bert(weights: Mapping[str, Tensor], heads: int, classes: int, dropout: float) -> TextTower:
    """Make a tower out of the weights of transformers' BertModel; the classes are not learnt yet.

    Raises:
        KeyError: one is missing.

    """
    words = weights["embeddings.word_embeddings.weight"]
    depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith(_LAYER))
    inner = len(weights[f"{_LAYER}0.intermediate.dense.bias"])
    size = TextSize(len(words), words.shape[1], words.shape[1], heads, inner, depth)
    tower = TextTower(size, classes, dropout)
    # one kind of segment only: what tells two of them apart is a constant
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    filled = {
        "pieces.weight": words,
        "places.weight": weights["embeddings.position_embeddings.weight"][:PIECES_AT_MOST]
        + segment,
        "norm.weight": weights["embeddings.LayerNorm.weight"],
        "norm.bias": weights["embeddings.LayerNorm.bias"],
    }
    for n in range(depth):
        for kind in ("weight", "bias"):
            of = [weights[f"{_LAYER}{n}.attention.self.{x}.{kind}"] for x in _ATTENTION]
            filled[f"layers.{n}.ask.{kind}"] = torch.cat(of)
            for ours, theirs in _NAMES.items():
                filled[f"layers.{n}.{ours}.{kind}"] = weights[f"{_LAYER}{n}.{theirs}.{kind}"]
    missing, unexpected = tower.load_state_dict(filled, strict=False)
    assert not unexpected
    assert all(name.startswith("out.") for name in missing)
    return tower


@torch.no_grad()
def smaller(
    tower: TextTower, kept: Sequence[int], often: Tensor, rank: int, depth: int
) -> TextTower:
    """Return a tower's first `depth` layers, with the embeddings of `kept` pieces at a lower rank.

    `often` [V'] is how often each of them occurs: those that do are kept most exactly.
    """
    whole = tower.pieces.weight[list(kept)]
    _, _, directions = torch.linalg.svd(whole * often.float().sqrt()[:, None], full_matrices=False)
    size = TextSize(len(kept), rank, tower.size.width, tower.size.heads, tower.size.inner, depth)
    made = TextTower(size, tower.out.out_features, tower.drop.p)
    state = {
        name: value
        for name, value in tower.state_dict().items()
        if name in made.state_dict() and not name.startswith("pieces.")
    }
    state["pieces.weight"] = whole
    if rank != size.width:
        state["pieces.weight"] = whole @ directions[:rank].T
        state["widen.weight"] = directions[:rank].T
    made.load_state_dict(state)
    return made
