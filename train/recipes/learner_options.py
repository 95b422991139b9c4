"""The kinds of model that the trainer can train, and the options of each. Imports no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from abhinaya.models.base import Need
from abhinaya.models.fields import setting


@dataclass(frozen=True, slots=True)
class WavlmOptions:
    """S1 and the challenge baseline: WavLM, a pool over its frames, two layers."""

    encoder: str = setting("microsoft/wavlm-large", doc="WavLM to start from: a folder or a name")
    pool: str = setting(
        "asp", doc="attentive statistics or attentive mean", choices=("asp", "attn_mean")
    )
    hidden: int = setting(1024, doc="width of the layer before the scores", least=1)
    input_dropout: float = setting(0.0, doc="on what is pooled", least=0, most=0.95)
    trained_layers: int = setting(
        -1,
        doc="layers of the encoder that learn, from the last; -1: all but its convolutions",
        least=-1,
    )
    norm: str = setting(
        "none",
        doc="how a wave is scaled; global: by mean and deviation of the training clips",
        choices=("none", "utterance", "global"),
    )


@dataclass(frozen=True, slots=True)
class TextOptions:
    """An encoder of transformers with its own classification head, as RoBERTa has it."""

    encoder: str = setting("FacebookAI/roberta-large", doc="to start from: a folder or a name")
    dropout: float = setting(0.3, doc="before the scores", least=0, most=0.95)
    max_tokens: int = setting(128, doc="of a transcript", least=4, most=512)


@dataclass(frozen=True, slots=True)
class LlamaOptions:
    """T2: a language model with LoRA, and the head of ABHINAYA on its last hidden states."""

    llm: str = setting("meta-llama/Llama-3.1-8B", doc="the language model: a folder or a name")
    rank: int = setting(8, doc="of LoRA", least=1)
    alpha: float = setting(32.0, doc="numerator of LoRA's scale", least=0)
    targets: tuple[str, ...] = setting((), doc="adapted modules; none: as peft does by default")
    hidden: int = setting(1024, doc="width of the layer before the scores", least=1)
    literal_end: bool = setting(True, doc='end each text in "</s>", as published')
    max_tokens: int = setting(128, doc="of a transcript", least=4)
    checkpointing: bool = setting(
        False, doc="compute activations again instead of keeping them: less memory, slower"
    )


@dataclass(frozen=True, slots=True)
class SalmonnOptions:
    """S2 and ST1: SALMONN with LoRA and Q-Former trained further, and the head of ABHINAYA."""

    whisper: str = setting("openai/whisper-large-v2", doc="its encoder hears, frozen")
    beats: str = setting(
        "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt", doc="file of BEATs, frozen"
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
        False, doc="compute activations again instead of keeping them: less memory, slower"
    )


Options = WavlmOptions | TextOptions | LlamaOptions | SalmonnOptions

OPTIONS: Final[Mapping[str, type[Options]]] = {
    "wavlm": WavlmOptions,
    "text": TextOptions,
    "llama": LlamaOptions,
    "salmonn": SalmonnOptions,
}
"""Learner -> its options; `train/learners/` has the models."""


def needs(options: Options) -> frozenset[Need]:
    """Say what a model must be given to learn from a clip."""
    if isinstance(options, SalmonnOptions):
        return frozenset({"audio", "transcript"}) if options.transcript else frozenset({"audio"})
    return frozenset({"audio"}) if isinstance(options, WavlmOptions) else frozenset({"transcript"})
