"""S2 and ST1: fine-tunes the published SALMONN, with ABHINAYA's head.

Trained: LoRA, Q-Former and its query, the projection, the two LayerNorms before them, the head.
Frozen: Whisper, BEATs and the language model, all in evaluation mode (in the published training
BEATs dropped layers at random). The encoders are outside the module, so no checkpoint has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from abhinaya.models.checkpoint import Tensors, save
from abhinaya.models.hugging_face import locate
from abhinaya.models.inference import Place
from abhinaya.models.labels import LABELS
from abhinaya.models.published.audio_encoders import WHISPER_FILES, shared
from abhinaya.models.published.beats import SHORTEST
from abhinaya.models.published.feature_cache import FeatureCache, model_key
from abhinaya.models.published.heads import LanguageHead
from abhinaya.models.published.llama import LORA_PREFIX, load_llm, load_tokenizer
from abhinaya.models.published.lora import fill_lora, is_lora
from abhinaya.models.published.salmonn import Salmonn
from abhinaya.models.published.salmonn_voter import ABHINAYA_PREFIX, LLM_PREFIX, Parts, Prompter
from abhinaya.train.learners.base import Example, Inputs, Learner, Outputs, ordered, start_from
from abhinaya.train.learners.llama import spare_memory
from abhinaya.train.recipes.learner_options import SalmonnOptions

_OUT: Final = "head.out"
_WIDTH_13B: Final = 5120


def salmonn_learner(
    o: SalmonnOptions, outputs: Outputs, where: Place, start: str, cache: FeatureCache | None = None
) -> Learner:
    """Build SALMONN with all parts trainable but Whisper, BEATs and the language model."""
    parts = Parts.read(o.adapter, start or None)
    encoders = shared(o.whisper, o.beats, where)
    parts.check_aliases(encoders, o.beats)
    prompter = Prompter(load_tokenizer(o.llm), o.transcript)
    bridge = parts.bridge(o.qformer_heads, encoders)
    body = load_llm(o.llm, where)
    parts.check_width(body.config, o.llm)
    fill_lora(body, parts.lora, parts.subject, o.alpha)
    spare_memory(body, o.checkpointing)
    head = LanguageHead(body.config.hidden_size, o.hidden, len(outputs.names))
    module = Salmonn(bridge.to(where.device), body, head.to(where.device))
    if start:
        state = {f"head.{k}": t for k, t in parts.head.items()}
        names = parts.labels or LABELS
        start_from(module, ordered(state, names, outputs.names, _OUT, start), start)
    files = [locate(o.whisper, WHISPER_FILES), locate(o.beats)]
    key = model_key(files, dtype=str(where.dtype)) if cache else ""
    fixed = None if o.prompt == "random" else int(o.prompt)

    def inputs(examples: Sequence[Example]) -> Inputs:
        """Return the waves and their prompts."""
        which = [e.draw % prompter.count if fixed is None else fixed for e in examples]
        prompts = [prompter(e.transcript, k) for e, k in zip(examples, which, strict=True)]
        return {"clips": [(e.name, e.samples, e.repeats) for e in examples], "prompts": prompts}

    def write(folder: Path, state: Tensors, extra: Mapping[str, Any]) -> None:
        """Write adapters, bridge and head, with the key names of the published files."""
        named: Tensors = {}
        for key, tensor in state.items():
            part, _, rest = key.partition(".")
            if is_lora(key):
                named[ABHINAYA_PREFIX + LLM_PREFIX + LORA_PREFIX + rest] = tensor
            elif part == "adapter":
                named[ABHINAYA_PREFIX + rest] = tensor
            elif part == "head":
                named[rest] = tensor
        save(folder / "model.safetensors", named, extra)

    return Learner(
        module,
        inputs,
        write,
        outputs,
        model="salmonn-13b" if body.config.hidden_size >= _WIDTH_13B else "salmonn-7b",
        options={
            "whisper": o.whisper,
            "beats": o.beats,
            "llm": o.llm,
            "transcript": o.transcript,
            "lora_alpha": o.alpha,
            "qformer_heads": o.qformer_heads,
            "prompt": fixed or 0,
        },
        arguments=lambda x: (encoders.stored(cache, key, x["clips"]), x["prompts"]),
        shortest=SHORTEST,
    )
