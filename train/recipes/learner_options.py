"""The model kinds that the trainer can train, and their options. Imports no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from abhinaya.models.base import Need
from abhinaya.models.fields import setting
from abhinaya.models.published.specs import NetworkSpec


@dataclass(frozen=True, slots=True)
class WavlmOptions:
    """S1 and the challenge baseline: WavLM, pooling over its frames, two layers."""

    encoder: str = setting("microsoft/wavlm-large", doc="WavLM to start from: a folder or a name")
    pool: str = setting(
        "asp", doc="attentive statistics or attentive mean", choices=("asp", "attn_mean")
    )
    hidden: int = setting(1024, doc="width of the layer before the scores", least=1)
    input_dropout: float = setting(0.0, doc="dropout of the pooled frames", least=0, most=0.95)
    norm: str = setting(
        "none",
        doc="how a wave is scaled; global: by mean and deviation of the training clips",
        choices=("none", "utterance", "global"),
    )


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """T2: a language model with LoRA, and the head of ABHINAYA on its last hidden states."""

    llm: str = setting("meta-llama/Llama-3.1-8B", doc="the language model: a folder or a name")
    rank: int = setting(8, doc="rank of LoRA", least=1)
    alpha: float = setting(32.0, doc="numerator of LoRA's scale", least=0)
    targets: tuple[str, ...] = setting((), doc="adapted modules; none: the default of peft")
    hidden: int = setting(1024, doc="width of the layer before the scores", least=1)
    literal_end: bool = setting(True, doc='end each text in "</s>", as published')
    max_tokens: int = setting(128, doc="longest transcript, in tokens", least=4)
    checkpointing: bool = setting(
        False, doc="recompute activations instead of storing them: less memory, slower"
    )


@dataclass(frozen=True, slots=True)
class SalmonnOptions:
    """S2 and ST1: SALMONN with LoRA and Q-Former fine-tuned, and the head of ABHINAYA."""

    whisper: str = setting("openai/whisper-large-v2", doc="Whisper, whose encoder is used, frozen")
    beats: str = setting(
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt", doc="BEATs, a file; frozen"
    )
    llm: str = setting("lmsys/vicuna-7b-v1.5", doc="the language model of the adapter")
    adapter: str = setting("salmonn_7b_v0.pth", doc="the published SALMONN file")
    transcript: bool = setting(False, doc="whether the transcript follows the prompt")
    alpha: float = setting(32.0, doc="numerator of LoRA's scale", least=0)
    hidden: int = setting(1024, doc="width of the layer before the scores", least=1)
    qformer_heads: int = setting(12, doc="attention heads of the Q-Former", least=1)
    prompt: str = setting(
        "random",
        doc="which of the two published prompts; random: drawn for each clip, 0 in validation",
        choices=("random", "0", "1"),
    )
    checkpointing: bool = setting(
        False, doc="recompute activations instead of storing them: less memory, slower"
    )


Options = WavlmOptions | NetworkSpec | LlamaOptions | SalmonnOptions

OPTIONS: Final[Mapping[str, type[Options]]] = {
    "encoder": NetworkSpec,
    "fusion": NetworkSpec,
    "llama": LlamaOptions,
    "salmonn": SalmonnOptions,
    "wavlm": WavlmOptions,
}
"""Options class of each `model.learner`; the models are in `train/learners/`."""


def needs(options: Options) -> frozenset[Need]:
    """Return what a clip must have for the model to be trained on it."""
    match options:
        case WavlmOptions():
            return frozenset({"audio"})
        case LlamaOptions():
            return frozenset({"transcript"})
        case SalmonnOptions():
            return frozenset({"audio", "transcript"} if options.transcript else {"audio"})
        case NetworkSpec():
            return options.needs
