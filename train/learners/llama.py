"""T2: a language model with LoRA and ABHINAYA's head; only LoRA and head are trained and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

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
from abhinaya.train.learners.base import Example, Inputs, Learner, Outputs, ordered, start_from
from abhinaya.train.recipes.learner_options import LlamaOptions

_OUT: Final = "head.out"


def llama_learner(o: LlamaOptions, outputs: Outputs, where: Place, start: str) -> Learner:
    """Build a language model with trainable adapters and head."""
    tokenizer = load_tokenizer(o.llm)
    body = load_llm(o.llm, where)
    head = LanguageHead(body.config.hidden_size, o.hidden, len(outputs.names))
    found = read(start) if start else None
    rest: Tensors = {}
    if found is None:
        add_lora(body, o.rank, o.alpha, o.targets)
    else:
        lora, rest = split_lora(found.tensors, LLAMA_PREFIX)
        fill_lora(body, lora, start, o.alpha)
    spare_memory(body, o.checkpointing)
    module = LlamaClassifier(body, head.to(where.device))
    if found is not None:
        state = {f"head.{k}": t for k, t in rest.items()}
        names = found.extra.get("labels", LABELS)
        start_from(module, ordered(state, names, outputs.names, _OUT, start), start)

    def inputs(examples: Sequence[Example]) -> Inputs:
        """Tokenise and pad the transcripts."""
        texts = (e.transcript for e in examples)
        rows = [transcript_ids(tokenizer, text, o.literal_end, o.max_tokens) for text in texts]
        ids, lengths = padded([torch.tensor(row) for row in rows])
        return {"ids": ids, "mask": valid(lengths, ids.shape[1])}

    def write(folder: Path, state: Tensors, extra: Mapping[str, Any]) -> None:
        """Write the adapters and the head."""
        prefix = LLAMA_PREFIX + LORA_PREFIX
        lora = {prefix + k.removeprefix("llm."): t for k, t in state.items() if is_lora(k)}
        head = {k.removeprefix("head."): t for k, t in state.items() if k.startswith("head.")}
        save(folder / "model.safetensors", lora | head, extra)

    return Learner(
        module,
        inputs,
        write,
        outputs,
        model="llama-lora",
        options={
            "llm": o.llm,
            "lora_alpha": o.alpha,
            "literal_end": o.literal_end,
            "max_tokens": o.max_tokens,
        },
    )


def spare_memory(llm: Any, checkpointing: bool) -> None:
    """Turn on activation checkpointing of a language model, if `checkpointing` is set."""
    if checkpointing:  # the method's name depends on the version of transformers
        new = getattr(llm, "activation_checkpointing_enable", None)
        (new or llm.gradient_checkpointing_enable)()
