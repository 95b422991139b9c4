"""What is known of every model before anything of it is loaded; `abhinaya models list` prints it.

A card (`base.Card`) is what a loaded voter says about itself. This is what the names in the
registry are for, which public files they load, and what these weigh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from abhinaya.models.base import Need


@dataclass(frozen=True, slots=True)
class Source:
    """Public files that a model is loaded from."""

    repo: str
    """A name on the Hugging Face Hub, or a web page where it is not there."""
    licence: str
    """As its page was read to say; `docs/models.md` tells what was not read."""
    gated: bool = False
    """Whether the Hub gives it only to accounts that accepted its licence."""
    noncommercial: bool = False
    """Whether the licence forbids commercial use."""

    @property
    def on_hub(self) -> bool:
        """Whether `pull` can get it."""
        return "://" not in self.repo


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the registry."""

    code: str
    """Module under `abhinaya.models` and class, which takes the profile's options as keywords."""
    what: str
    """In a few words."""
    needs: tuple[Need, ...]
    parameters: int | None = None
    """About, at the published size."""
    sources: tuple[Source, ...] = ()
    """`pull NAME` gets these."""
    others: tuple[Source, ...] = ()
    """Known to load as well, in place of the sources."""
    own: str = ""
    """What only you can give, because nobody publishes it."""
    packaged: bool = False
    """Whether the package carries its files."""


_WHISPER: Final = Source("openai/whisper-large-v2", "Apache-2.0")
_BEATS: Final = Source("https://github.com/microsoft/unilm/tree/master/beats", "MIT")

CATALOGUE: Final[Mapping[str, Entry]] = {
    "tiny-speech": Entry(
        "tiny.speech:TinySpeech", "S1 in small", ("audio",), 373_000, packaged=True
    ),
    "tiny-text": Entry(
        "tiny.text:TinyText", "T2 in small", ("transcript",), 4_686_000, packaged=True
    ),
    "tiny-joint": Entry(
        "tiny.speech:TinyJoint", "ST1 in small", ("audio", "transcript"), 376_000, packaged=True
    ),
    "wavlm": Entry(
        "published.wavlm:WavlmVoter",
        "S1: WavLM-large with attentive pooling",
        ("audio",),
        318_000_000,
        (Source("3loi/SER-Odyssey-Baseline-WavLM-Categorical", "MIT"),),
    ),
    "audio-classification": Entry(
        "published.classifiers:AudioClassifier",
        "any speech emotion classifier of transformers",
        ("audio",),
        316_000_000,
        (Source("superb/wav2vec2-large-superb-er", "Apache-2.0"),),
        (Source("superb/hubert-base-superb-er", "Apache-2.0"),),
    ),
    "text-classification": Entry(
        "published.classifiers:TextClassifier",
        "any text emotion classifier of transformers",
        ("transcript",),
        125_000_000,
        (Source("SamLowe/roberta-base-go_emotions", "MIT"),),
        (
            Source("joeddav/distilbert-base-uncased-go-emotions-student", "MIT"),
            Source("j-hartmann/emotion-english-distilroberta-base", "none stated: ask its author"),
        ),
    ),
    "salmonn-13b": Entry(
        "published.salmonn_voter:salmonn_13b",
        "S2: SALMONN-13B as a classifier",
        ("audio",),
        13_900_000_000,
        (
            Source("tsinghua-ee/SALMONN", "Apache-2.0"),
            Source("lmsys/vicuna-13b-v1.1", "LLaMA-1 research licence", noncommercial=True),
            _WHISPER,
            _BEATS,
        ),
        own="checkpoint: a head and adapters trained for emotions, by `abhinaya train` or given",
    ),
    "salmonn-7b": Entry(
        "published.salmonn_voter:salmonn_7b",
        "ST1: SALMONN-7B as a classifier, with the transcript",
        ("audio", "transcript"),
        7_500_000_000,
        (
            Source("tsinghua-ee/SALMONN-7B", "Apache-2.0"),
            Source("lmsys/vicuna-7b-v1.5", "Llama 2 Community License"),
            _WHISPER,
            _BEATS,
        ),
        own="checkpoint: a head and adapters trained for emotions, by `abhinaya train` or given",
    ),
    "llama-lora": Entry(
        "published.llama:LlamaVoter",
        "T2: a language model with LoRA and a head",
        ("transcript",),
        7_500_000_000,
        (Source("meta-llama/Llama-3.1-8B", "Llama 3.1 Community License", gated=True),),
        own="checkpoint: LoRA weights and a head, by `abhinaya train` or given",
    ),
    "zero-shot": Entry(
        "served.zero_shot:ZeroShot",
        "T1: any instruction model behind an OpenAI-compatible server",
        ("transcript",),
    ),
}
