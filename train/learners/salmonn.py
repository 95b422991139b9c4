"""S2 and ST1: the published SALMONN trained further, with ABHINAYA's head.

LoRA, Q-Former, its query, the projection, the two LayerNorms before them and the head learn;
Whisper, BEATs and the language model stay as they are, and in the mode they are used in (the
published training had BEATs drop layers at random). The encoders stand outside the module: nothing
of them is in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from abhinaya.models.checkpoint import Tensors, save
from abhinaya.models.inference import Place
from abhinaya.models.labels import LABELS
from abhinaya.models.published.audio_encoders import shared
from abhinaya.models.published.beats import SHORTEST
from abhinaya.models.published.heads import LanguageHead
from abhinaya.models.published.llama import LORA_PREFIX, load_llm, load_tokenizer
from abhinaya.models.published.lora import fill_lora, is_lora
from abhinaya.models.published.salmonn import Salmonn
from abhinaya.models.published.salmonn_voter import ABHINAYA_PREFIX, LLM_PREFIX, Parts, Prompter
from abhinaya.train.learners.base import Example, Inputs, Outputs, only, start_from
from abhinaya.train.learners.llama import spare_memory
from abhinaya.train.recipes.learner_options import SalmonnOptions

_OUT: Final = "head.out"
_WIDTH_13B: Final = 5120


class SalmonnLearner:
    """SALMONN with gradients in all but its three frozen parts."""

    shortest = SHORTEST

    def __init__(self, options: SalmonnOptions, outputs: Outputs, where: Place, start: str) -> None:
        self._options, self._outputs = options, outputs
        parts = Parts.read(options.adapter, start or None)
        self._encoders = shared(options.whisper, options.beats, where)
        parts.check_aliases(self._encoders, options.beats)
        self._prompter = Prompter(load_tokenizer(options.llm), options.transcript)
        bridge = parts.bridge(options.qformer_heads, self._encoders)
        body = load_llm(options.llm, where)
        parts.check_width(body.config, options.llm)
        fill_lora(body, parts.lora, parts.subject, options.alpha)
        spare_memory(body, options.checkpointing)
        self._wide = body.config.hidden_size >= _WIDTH_13B
        head = LanguageHead(body.config.hidden_size, options.hidden, len(outputs.names))
        self.module = Salmonn(bridge.to(where.device), body, head.to(where.device))
        if start:
            state = {f"head.{k}": t for k, t in parts.head.items()}
            start_from(self.module, state, parts.labels or LABELS, outputs, _OUT, start)

    def inputs(self, examples: Sequence[Example]) -> Inputs:
        """Give the waves and the prompts around them."""
        fixed = None if self._options.prompt == "random" else int(self._options.prompt)
        prompts = [
            self._prompter(e.transcript, e.draw % self._prompter.count if fixed is None else fixed)
            for e in examples
        ]
        return {"waves": [e.samples for e in examples], "prompts": prompts}

    def scores(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Score [B, K]."""
        features = self._encoders.encode(inputs["waves"])
        found: Tensor = module(features, inputs["prompts"])
        return found

    def learn(self) -> None:
        """Switch to training."""
        self.module.train()

    def save(self, folder: Path, state: Tensors, extra: Mapping[str, Any]) -> None:
        """Write the adapters, the bridge and the head, under the published names."""
        kept = only(state, len(self._outputs.kept), _OUT)
        named: Tensors = {}
        for key, tensor in kept.items():
            part, _, rest = key.partition(".")
            if is_lora(key):
                named[ABHINAYA_PREFIX + LLM_PREFIX + LORA_PREFIX + rest] = tensor
            elif part == "adapter":
                named[ABHINAYA_PREFIX + rest] = tensor
            elif part == "head":
                named[rest] = tensor
        save(folder / "model.safetensors", named, extra)

    def voter(self, folder: Path) -> tuple[str, dict[str, Any]]:
        """Give the registry's name and options."""
        o = self._options
        return "salmonn-13b" if self._wide else "salmonn-7b", {
            "whisper": o.whisper,
            "beats": o.beats,
            "llm": o.llm,
            "checkpoint": str(folder),
            "transcript": o.transcript,
            "lora_alpha": o.alpha,
            "qformer_heads": o.qformer_heads,
            "prompt": 0 if o.prompt == "random" else int(o.prompt),
        }
