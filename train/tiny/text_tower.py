"""T2's network: the first layers of a BERT, with small embeddings, 8-bit weights and calibration.

Shapes: B batch, L pieces of a text, V vocabulary, R rank of the embedding, D width, C labels of
ours, F labels of GoEmotions.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization
from transformers import AutoModel, AutoTokenizer, BertModel

from abhinaya.models.errors import KeysError
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.tiny.metadata import METADATA_KEY
from abhinaya.models.tiny.text import NAME
from abhinaya.models.tiny.tokens import PIECES_AT_MOST, SPECIAL, WordPieces

AT_ONCE: Final = 128
"""Texts that are read together."""


class TextTower(nn.Module):
    """A BERT of transformers (Devlin et al., 2019), the mean over the text, a class layer."""

    def __init__(self, bert: BertModel, classes: int) -> None:
        super().__init__()
        self.bert = bert
        self.drop = nn.Dropout(bert.config.hidden_dropout_prob)
        self.out = nn.Linear(bert.config.hidden_size, classes)

    def forward(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """Return logits [B, F] of pieces [B, L] and mask [B, L], 1 for text and 0 for padding."""
        states = self.bert(input_ids=pieces, attention_mask=mask).last_hidden_state
        inside = mask.unsqueeze(-1)
        logits: Tensor = self.out(self.drop((states * inside).sum(dim=1) / inside.sum(dim=1)))
        return logits


@dataclass(frozen=True)
class Reader:
    """A text network with its vocabulary."""

    tower: TextTower
    pieces: WordPieces

    @torch.no_grad()
    def logits(self, texts: Sequence[str]) -> Tensor:
        """Return logits [N, F] of normalised texts."""
        by_length = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        found = torch.zeros(len(texts), self.tower.out.out_features)
        self.tower.eval()
        for start in range(0, len(texts), AT_ONCE):
            some = by_length[start : start + AT_ONCE]
            ids, mask = self.pieces.encode([texts[n] for n in some])
            found[some] = self.tower(torch.from_numpy(ids), torch.from_numpy(mask))
        return found


def load_encoder(name: str, classes: int) -> Reader:
    """Return a network with pre-trained weights and an untrained class layer.

    Raises ModelError: the encoder is unavailable, or is not a BERT with WordPiece.
    """
    with translated(name):
        folder = locate(name)
        model = AutoModel.from_pretrained(folder, attn_implementation="eager")
        known = AutoTokenizer.from_pretrained(folder).get_vocab()
    config: Any = model.config
    long, pieces = config.max_position_embeddings, sorted(known, key=known.__getitem__)
    fits = long >= PIECES_AT_MOST and len(pieces) <= config.vocab_size
    if not (isinstance(model, BertModel) and fits and set(SPECIAL) <= {*pieces}):
        raise KeysError(
            name,
            f"it is a {type(model).__name__} for texts of {long} pieces, with {config.vocab_size} "
            f"embeddings for the {len(pieces)} pieces of its tokenizer",
            f"use a BERT with its own WordPiece, for texts of at least {PIECES_AT_MOST} pieces",
        )
    model.pooler = None
    return Reader(TextTower(model, classes), WordPieces(pieces))


@torch.no_grad()
def smaller(
    tower: TextTower, kept: Sequence[int], often: Tensor, rank: int, depth: int
) -> TextTower:
    """Return the first `depth` layers, with embeddings of the `kept` pieces at a lower rank.

    `often` [V'] has the counts of these pieces; frequent ones are approximated best. Embeddings
    have most of the weights (Lan et al., 2020).
    """
    made = copy.deepcopy(tower)
    embeddings: Any = made.bert.embeddings
    whole = embeddings.word_embeddings.weight[list(kept)]
    _, _, directions = torch.linalg.svd(whole * often.float().sqrt()[:, None], full_matrices=False)
    widen = nn.Linear(rank, whole.shape[1], bias=False)
    widen.weight.copy_(directions[:rank].T)
    pieces = nn.Embedding(len(kept), rank, _weight=whole @ directions[:rank].T)
    embeddings.word_embeddings = nn.Sequential(pieces, widen)
    places = embeddings.position_embeddings.weight[:PIECES_AT_MOST].clone()
    embeddings.position_embeddings = nn.Embedding(PIECES_AT_MOST, whole.shape[1], _weight=places)
    made.bert.encoder.layer = made.bert.encoder.layer[:depth]
    return made


# --- the shipped form ---------------------------------------------------------------------------


class EightBits(nn.Module):
    """Stores a matrix in 8 bits with a scale for each row; computes in float32."""

    def forward(self, whole: Tensor, scale: Tensor) -> Tensor:
        """Return the matrix [N, D] of 8-bit values [N, D] and scales [N, 1]."""
        return whole.float() * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of `forward` for a matrix [N, D]."""
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-8) / 127.0
        return (weight / scale).round().to(torch.int8), scale


def small(tower: TextTower) -> TextTower:
    """Store the matrices in 8 bits and end training; return the same network."""
    tower.requires_grad_(False)
    for module in list(tower.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.ndim == 2:
                register_parametrization(module, name, EightBits(), unsafe=True)
    return tower


def grouped(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Return [B, C]: the log-sum-exp of the fine logits [B, F] of each group."""
    return torch.stack([logits[:, list(of)].logsumexp(dim=1) for of in groups], dim=1)


class Calibrated(nn.Module):
    """A text network with F fine classes, and calibrated logits of C coarse classes.

    `groups` [C] are the indices of the fine classes in each coarse class. Coarse scores are divided
    by `temperature`; then `bias` [C] is added.
    """

    def __init__(
        self,
        tower: nn.Module,
        groups: Sequence[Sequence[int]],
        temperature: float,
        bias: Sequence[float],
    ) -> None:
        super().__init__()
        self.tower, self.groups, self.temperature = tower, groups, temperature
        self.bias = nn.Buffer(torch.tensor(bias))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, C] and the tower's scores [B, F]."""
        fine: Tensor = self.tower(*inputs)
        return grouped(fine, self.groups) / self.temperature + self.bias, fine


def export(network: Calibrated, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write `network` as the ONNX file of `models/tiny/text.py`: softmax gives probabilities."""
    import onnx  # only in the extra `train`

    buffer = io.BytesIO()
    texts = {0: "B", 1: "L"}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # the tracing exporter writes a file half as large; the network has no branches
        torch.onnx.export(
            network.eval(),
            (torch.ones(2, 7, dtype=torch.long), torch.ones(2, 7)),
            buffer,  # type: ignore[arg-type]
            input_names=["pieces", "piece_mask"],
            output_names=["logits", "fine"],
            dynamic_axes={
                "pieces": texts,
                "piece_mask": texts,
                "logits": {0: "B"},
                "fine": {0: "B"},
            },
            opset_version=17,
            dynamo=False,
            do_constant_folding=False,  # would store the 8-bit weights as float32
        )
    graph = onnx.load_from_string(buffer.getvalue())
    graph.metadata_props.add(key=METADATA_KEY, value=json.dumps({"model": NAME, **metadata}))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString())
