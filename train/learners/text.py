"""A text encoder of transformers with its classification head, such as RoBERTa."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from abhinaya.models.checkpoint import Tensors, save
from abhinaya.models.errors import KeysError, WriteError, listed
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.published.voting_batch import padded, valid
from abhinaya.train.learners.base import Example, Inputs, Learner, Outputs, start_from
from abhinaya.train.recipes.learner_options import TextOptions

_HEADS: Final = ("classifier", "score", "pre_classifier", "pooler")
"""Names, in transformers, of layers that a pre-trained encoder does not have."""


class _Scores(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.model(input_ids=ids, attention_mask=mask.long()).logits
        return scores


def text_learner(o: TextOptions, outputs: Outputs, start: str) -> Learner:
    """Build a trainable sequence classifier of transformers."""
    auto: Any = AutoTokenizer
    with translated(o.encoder):
        tokenizer: Any = auto.from_pretrained(locate(o.encoder), trust_remote_code=False)
    model = _model(o.encoder, outputs.names, o.dropout)
    config = model.config
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.eos_token_id or 0
    module = _Scores(model)
    out = next(
        f"model.{name}"
        for name, layer in reversed(list(model.named_modules()))
        if isinstance(layer, nn.Linear) and layer.out_features == len(outputs.names)
    )
    if start:
        found = _model(start, None, o.dropout)
        state = {f"model.{k}": t for k, t in found.state_dict().items()}
        names = [found.config.id2label[i] for i in range(found.config.num_labels)]
        start_from(module, state, names, outputs, out, start)

    def inputs(examples: Sequence[Example]) -> Inputs:
        """Tokenise and pad the transcripts; names of special tokens in them are ordinary text."""
        given = {"truncation": True, "max_length": o.max_tokens, "split_special_tokens": True}
        rows = [tokenizer(e.transcript.strip(), **given).input_ids for e in examples]
        ids, lengths = padded([torch.tensor(row) for row in rows])
        mask = valid(lengths, ids.shape[1])
        return {"ids": ids.masked_fill(~mask, config.pad_token_id), "mask": mask}

    def write(folder: Path, state: Tensors, extra: Mapping[str, Any]) -> None:
        """Write config, tokenizer and weights, as transformers does."""
        tokenizer.model_max_length = o.max_tokens
        try:
            config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        except OSError as error:
            raise WriteError(folder, f"cannot be written ({error})", "make room") from error
        tensors = {k.removeprefix("model."): t for k, t in state.items()}
        save(folder / "model.safetensors", tensors, extra)

    return Learner(module, inputs, write, model="text-classification", checkpoint="model")


def _model(name: str, labels: Sequence[str] | None, dropout: float) -> Any:
    """Load an encoder with a new head for `labels`, or with its own head if `labels` is None."""
    auto: Any = AutoModelForSequenceClassification
    more: dict[str, Any] = {}
    if labels is not None:
        more = {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: i for i, label in enumerate(labels)},
            "classifier_dropout": dropout,
        }
    with translated(name):
        model, info = auto.from_pretrained(
            locate(name),
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **more,
        )
    new = set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]}
    if lost := {key for key in new if labels is None or not key.startswith(_HEADS)}:
        raise KeysError(
            name, f"weights of the encoder are missing: {listed(lost)}", "download it again"
        )
    return model
