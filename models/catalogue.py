"""Facts about every model that are known before it is loaded; `abhinaya models list` prints them.

For each name of the registry: its purpose, its public files and their size. The card of a loaded
voter is `base.Card`.
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
    """A name on the Hugging Face Hub, or the address of a web page for files elsewhere."""
    licence: str
    """Licence that the model's page states; `docs/models.md` lists the pages that were not read."""
    gated: bool = False
    """Whether the Hub requires an account that has accepted the licence."""
    noncommercial: bool = False
    """Whether the licence forbids commercial use."""

    @property
    def on_hub(self) -> bool:
        """Whether `pull` can download the files."""
        return "://" not in self.repo


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the registry."""

    code: str
    """Module under `abhinaya.models` and class; the profile's options are the class's keywords."""
    what: str
    """Short description of the model."""
    needs: tuple[Need, ...]
    parameters: int | None = None
    """Approximate number of parameters at the published size."""
    sources: tuple[Source, ...] = ()
    """Files that `pull NAME` downloads."""
    others: tuple[Source, ...] = ()
    """Files that can replace the sources."""
    own: str = ""
    """Files that the user must supply, because they are not published."""
    packaged: bool = False
    """Whether the package contains the model's files."""


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
