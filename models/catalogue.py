"""Facts about every model that are known before it is loaded; `abhinaya models list` prints them.

For each name of the registry: its purpose, its public files and their size. The card of a loaded
voter is `base.Card`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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

    @property
    def on_hub(self) -> bool:
        """Whether options of the model may name repositories on the Hub."""
        return any(source.on_hub for source in self.sources)


_FILES: Final = (".bin", ".json", ".pt", ".pth", ".safetensors")
_WHISPER: Final = Source("openai/whisper-large-v2", "Apache-2.0")
_BEATS: Final = Source("https://github.com/microsoft/unilm/tree/master/beats", "MIT")

REVISIONS: Final[Mapping[str, str]] = {
    "FacebookAI/roberta-large": "722cf37b1afa9454edce342e7895e588b6ff1d59",
    "SamLowe/roberta-base-go_emotions": "58b6c5b44a7a12093f782442969019c7e2982299",
    "Systran/faster-distil-whisper-large-v3": "c3058b475261292e64a0412df1d2681c06260fab",
    "Systran/faster-whisper-base": "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
    "Systran/faster-whisper-base.en": "3d3d5dee26484f91867d81cb899cfcf72b96be6c",
    "Systran/faster-whisper-large-v2": "f0fe81560cb8b68660e564f55dd99207059c092e",
    "Systran/faster-whisper-large-v3": "edaa852ec7e145841d8ffdb056a99866b5f0a478",
    "Systran/faster-whisper-medium": "08e178d48790749d25932bbc082711ddcfdfbc4f",
    "Systran/faster-whisper-medium.en": "a29b04bd15381511a9af671baec01072039215e3",
    "Systran/faster-whisper-small": "536b0662742c02347bc0e980a01041f333bce120",
    "Systran/faster-whisper-small.en": "d1d751a5f8271d482d14ca55d9e2deeebbae577f",
    "Systran/faster-whisper-tiny": "d90ca5fe260221311c53c58e660288d3deb8d356",
    "Systran/faster-whisper-tiny.en": "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
    "j-hartmann/emotion-english-distilroberta-base": "0e1cd914e3d46199ed785853e12b57304e04178b",
    "lmsys/vicuna-7b-v1.5": "3321f76e3f527bd14065daf69dad9344000a201d",
    "meta-llama/Llama-3.1-8B": "d04e592bb4f6aa9cfee91e2e20afa771667e1d4b",
    "microsoft/wavlm-large": "c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
    "mobiuslabsgmbh/faster-whisper-large-v3-turbo": "0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf",
    "openai/whisper-large-v2": "ae4642769ce2ad8fc292556ccea8e901f1530655",
    "sentence-transformers/all-MiniLM-L6-v2": "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
}
"""Repository on the Hub -> the commit that is loaded unless the user names one (`org/name@COMMIT`).

A repository that is absent is loaded as its owner last left it, with a warning (`unpinned`).
"""

_REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w.-]+)?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def is_repository(name: str) -> bool:
    """Return whether a name can only be one on the Hub: `org/name` or `org/name@REVISION`."""
    if name[:1] in (".", "~") or name.endswith(_FILES) or Path(name).exists():
        return False
    return _REPOSITORY.fullmatch(name) is not None


def pinned(name: str) -> tuple[str, str | None]:
    """Return the repository of a name, and its revision; None: the latest."""
    repository, _, revision = name.partition("@")
    return repository, revision or REVISIONS.get(repository)


def unpinned(name: str) -> bool:
    """Return whether the owner of a repository can change what its name loads."""
    return is_repository(name) and _COMMIT.fullmatch(pinned(name)[1] or "") is None


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
        (Source("3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes", "MIT"),),
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
    "encoder": Entry(
        "published.network_voter:NetworkVoter",
        "an encoder of audio or text with a head, trained by `abhinaya train`",
        ("audio",),
        own="checkpoint: best/ of a run of the learner `encoder`",
    ),
    "fusion": Entry(
        "published.network_voter:NetworkVoter",
        "a network over several encoders, trained by `abhinaya train`",
        ("audio", "transcript"),
        own="checkpoint: best/ of a run of the learner `fusion`",
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


# --- what options of models ask for ---------------------------------------------------------------

MODEL_OPTIONS: Final = frozenset(
    {"adapter", "beats", "checkpoint", "encoder", "llm", "name", "start", "whisper"}
)
"""Options that name a model: a folder, a file, or a repository."""
SIZES: Final = (("xlarge", 1.0e9), ("large", 0.33e9), ("base", 0.1e9))
"""Weights of a model by a word in its name."""


def models_in(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield option and value of each model that options name, at any depth."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from models_in(value, name)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from models_in(value, key)
    elif key in MODEL_OPTIONS and isinstance(values, str) and values not in ("", "embedded"):
        yield key, values


def is_missing(name: str) -> bool:
    """Return whether a name is neither a repository nor a file or folder that exists."""
    return not (is_repository(name) or Path(name).expanduser().exists())


def terms(name: str) -> str:
    """Return what the catalogue knows of a repository: licence and conditions."""
    known = {s.repo: s for entry in CATALOGUE.values() for s in (*entry.sources, *entry.others)}
    source = known.get(pinned(name)[0])
    if source is None:
        return "licence unknown: see its page"
    notes = [source.licence, *(["not for commercial use"] if source.noncommercial else [])]
    notes += ["needs an account that has accepted it"] if source.gated else []
    return ", ".join(notes)


def size_of(name: str) -> float:
    """Return the number of weights of a model, guessed from its name."""
    if found := re.search(r"(\d+(?:\.\d+)?)b\b", name.lower()):
        return 1e9 * float(found[1])
    return next((size for word, size in SIZES if word in name.lower()), 0.05e9)
