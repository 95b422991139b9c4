"""The teacher: a pre-trained encoder with our labels, to train the small text network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BertModel

from abhinaya.models.base import FloatArray
from abhinaya.models.errors import KeysError
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.tiny.tokens import PIECES_AT_MOST, WordPieces
from abhinaya.train.tiny.loop import Schedule
from abhinaya.train.tiny.text_batches import TextPlan
from abhinaya.train.tiny.text_tower import TextTower, from_bert

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
