"""The text network: BERT's encoder in the size of the teacher or of the shipped voter.

Weights come from a transformers checkpoint. The layers are our own because of the ONNX export: in
those of torch and transformers, the exporter fixes branches and shapes to those of the example.

Shapes: B batch, L pieces of a text, V vocabulary, R rank of the embedding, D width, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, BertModel

from abhinaya.models.base import FloatArray
from abhinaya.models.errors import KeysError
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.tiny.tokens import PIECES_AT_MOST, WordPieces
from abhinaya.train.tiny.loop import Schedule
from abhinaya.train.tiny.text_batches import TextPlan

EPSILON: Final = 1e-12
"""Epsilon of BERT's layer norms."""


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
    """Size of a text network."""

    pieces: int
    """V, size of the vocabulary."""
    rank: int
    """R, width of the embedding; if it equals D, there is no layer `widen`."""
    width: int
    """D, width of the layers."""
    heads: int
    inner: int
    """Width of the feed-forward layer."""
    depth: int
    """Number of layers."""


class Layer(nn.Module):
    """A transformer layer: attention and feed-forward, each with residual and layer norm."""

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
        """Return features [B, L, D] of `x` [B, L, D]; `inside` [B, L] is True for text."""
        heads = self.ask(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        dropout = self.drop.p if self.training else 0.0
        seen = inside[:, None, None, :]
        found = functional.scaled_dot_product_attention(query, key, value, seen, dropout)
        x = self.after(x + self.drop(self.answer(found.transpose(1, 2).flatten(2))))
        normed: Tensor = self.last(x + self.drop(self.outer(functional.gelu(self.inner(x)))))
        return normed


class TextTower(nn.Module):
    """Embeddings, transformer layers (Devlin et al., 2019), mean over the text, class layer.

    The embedding may have a low rank (Lan et al., 2020), because it has most of the weights.
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
        """Return logits [B, C] of pieces [B, L] and mask [B, L], 1 for text and 0 for padding."""
        inside = mask.unsqueeze(-1)
        mean = (self.read(pieces, mask) * inside).sum(dim=1) / inside.sum(dim=1)
        logits: Tensor = self.out(self.drop(mean))
        return logits

    def read(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """Return features [B, L, D] of pieces [B, L] and mask [B, L]."""
        at = torch.arange(pieces.shape[1], device=pieces.device)
        x: Tensor = self.drop(self.norm(self.widen(self.pieces(pieces)) + self.places(at)))
        for layer in self.layers:
            x = layer(x, mask > 0.5)
        return x


def from_bert(weights: Mapping[str, Tensor], heads: int, classes: int, dropout: float) -> TextTower:
    """Return a network with the weights of transformers' BertModel; the class layer is untrained.

    Raises KeyError: a weight is missing.
    """
    words = weights["embeddings.word_embeddings.weight"]
    depth = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith(_LAYER))
    inner = len(weights[f"{_LAYER}0.intermediate.dense.bias"])
    size = TextSize(len(words), words.shape[1], words.shape[1], heads, inner, depth)
    tower = TextTower(size, classes, dropout)
    # there is one segment type only, so its embedding is a constant
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
    """Return the first `depth` layers, with embeddings of the `kept` pieces at a lower rank.

    `often` [V'] has the counts of these pieces; frequent ones are approximated best.
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


# --- the teacher: a pre-trained encoder with our labels -----------------------------------------


AT_ONCE: Final = 128


@dataclass(frozen=True)
class TeacherRecipe:
    """Training settings of the teacher."""

    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A BERT (Wang et al., 2020): folder, or name on the Hugging Face Hub."""
    dropout: float = 0.1
    plan: TextPlan = field(default_factory=TextPlan)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=4_000, rate=1e-4, weight_decay=0.01, threads=2)
    )
    """A network of this size gains from a second thread."""


@dataclass(frozen=True)
class Reader:
    """A text network with its vocabulary."""

    tower: TextTower
    pieces: WordPieces


def load_encoder(recipe: TeacherRecipe, classes: int) -> Reader:
    """Return a network with the pre-trained weights and an untrained class layer.

    Raises ModelError: the encoder is unavailable, or is not a BERT with WordPiece.
    """
    name = recipe.encoder
    with translated(name):
        folder = locate(name)
        model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    if not isinstance(model, BertModel):
        raise KeysError(name, f"it is a {type(model).__name__}, not a BertModel", "use a BERT")
    config: Any = model.config
    if config.max_position_embeddings < PIECES_AT_MOST:
        raise KeysError(
            name,
            f"it reads {config.max_position_embeddings} pieces, and {PIECES_AT_MOST} are needed",
            "use one that reads longer texts",
        )
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    try:
        pieces = WordPieces([piece for piece, _ in vocabulary])
    except ValueError as error:
        raise KeysError(name, str(error), "use a BERT with WordPiece") from error
    weights = model.state_dict()
    if len(vocabulary) > config.vocab_size or config.hidden_act != "gelu":
        raise KeysError(
            name,
            f"its tokenizer has {len(vocabulary)} pieces and its weights {config.vocab_size}, its "
            f"activation is {config.hidden_act}",
            "use a BERT with gelu and its own tokenizer",
        )
    return Reader(from_bert(weights, config.num_attention_heads, classes, recipe.dropout), pieces)


@torch.no_grad()
def logits_of(reader: Reader, texts: Sequence[str]) -> Tensor:
    """Return logits [N, C] of normalised texts."""
    by_length = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    found = torch.zeros(len(texts), reader.tower.out.out_features)
    tower = reader.tower.eval()
    for start in range(0, len(texts), AT_ONCE):
        some = by_length[start : start + AT_ONCE]
        ids, mask = reader.pieces.encode([texts[n] for n in some])
        found[some] = tower(torch.from_numpy(ids), torch.from_numpy(mask))
    return found


def chances(reader: Reader, texts: Sequence[str]) -> FloatArray:
    """Return the teacher's probabilities [N, C]."""
    found: FloatArray = logits_of(reader, texts).softmax(dim=1).numpy()
    return found
