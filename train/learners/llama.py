"""T2: a language model with LoRA and ABHINAYA's head; only these two learn and are saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from abhinaya.models.checkpoint import Tensors, read, save
from abhinaya.models.inference import Place
from abhinaya.models.labels import LABELS
from abhinaya.models.published.heads import LanguageHead
from abhinaya.models.published.llama import (
    LLAMA_PREFIX,
    LORA_PREFIX,
    LlamaClassifier,
    load_llm,
    load_tokenizer,
    split_lora,
    transcript_ids,
)
from abhinaya.models.published.lora import add_lora, fill_lora, is_lora
from abhinaya.models.published.voting_batch import padded, valid
from abhinaya.train.learners.base import Example, Inputs, Outputs, only, start_from
from abhinaya.train.recipes.learner_options import LlamaOptions

_OUT: Final = "head.out"


class LlamaLearner:
    """A language model with gradients in its adapters and its head."""

    shortest = 0

    def __init__(self, options: LlamaOptions, outputs: Outputs, where: Place, start: str) -> None:
        self._options, self._outputs = options, outputs
        self._tokenizer = load_tokenizer(options.llm)
        body = load_llm(options.llm, where)
        head = LanguageHead(body.config.hidden_size, options.hidden, len(outputs.names))
        found = read(start) if start else None
        if found is None:
            add_lora(body, options.rank, options.alpha, options.targets)
        else:
            lora, rest = split_lora(found.tensors, LLAMA_PREFIX)
            fill_lora(body, lora, start, options.alpha)
        spare_memory(body, options.checkpointing)
        self.module = LlamaClassifier(body, head.to(where.device))
        if found is not None:
            state = {f"head.{k}": t for k, t in rest.items()}
            names = found.extra.get("labels", LABELS)
            start_from(self.module, state, names, outputs, _OUT, start)

    def inputs(self, examples: Sequence[Example]) -> Inputs:
        """Tokenise and pad the transcripts."""
        o = self._options
        rows = [
            torch.tensor(transcript_ids(self._tokenizer, e.transcript, o.literal_end, o.max_tokens))
            for e in examples
        ]
        ids, lengths = padded(rows)
        return {"ids": ids, "mask": valid(lengths, ids.shape[1])}

    def scores(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Score [B, K]."""
        found: Tensor = module(inputs["ids"], inputs["mask"])
        return found

    def learn(self) -> None:
        """Switch to training."""
        self.module.train()

    def save(self, folder: Path, state: Tensors, extra: Mapping[str, Any]) -> None:
        """Write the adapters and the head."""
        lora = {
            LLAMA_PREFIX + LORA_PREFIX + k.removeprefix("llm."): t
            for k, t in state.items()
            if is_lora(k)
        }
        kept = only(state, len(self._outputs.kept), _OUT)
        head = {k.removeprefix("head."): t for k, t in kept.items() if k.startswith("head.")}
        save(folder / "model.safetensors", lora | head, extra)

    def voter(self, folder: Path) -> tuple[str, dict[str, Any]]:
        """Give the registry's name and options."""
        o = self._options
        return "llama-lora", {
            "llm": o.llm,
            "checkpoint": str(folder),
            "lora_alpha": o.alpha,
            "literal_end": o.literal_end,
            "max_tokens": o.max_tokens,
        }


def spare_memory(llm: Any, checkpointing: bool) -> None:
    """Have a language model keep no activations, if asked to."""
    if checkpointing:  # transformers renamed it on the way to its version 6
        new = getattr(llm, "activation_checkpointing_enable", None)
        (new or llm.gradient_checkpointing_enable)()
