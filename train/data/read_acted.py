"""Acted corpora whose file names tell everything: one table entry each.

The names are those that the corpora are published with. An acted clip has the one vote of the
instruction. Files whose names do not fit are left out, not guessed at; `abhinaya data prepare` says
how many audio files gave how many clips.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abhinaya.train.data.clips import OTHER, Clip
from abhinaya.train.errors import DataError

AUDIO: Final = frozenset({".wav", ".flac", ".opus", ".ogg", ".mp3", ".m4a", ".mp4"})
Groups = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Naming:
    """How one corpus names its files. The groups of `pattern` feed the rest."""

    corpus: str
    language: str
    pattern: re.Pattern[str]
    """Of the path from the corpus folder on, without suffix; finds `emotion` and `speaker`."""
    emotions: Mapping[str, str | None]
    """Code in the name -> label, or `other`; None for clips to leave out."""
    gender: Callable[[Groups], str] = lambda _: ""
    words: Mapping[str, str] | None = None
    """Code in the group `text` -> the sentence spoken, where the corpus states it."""
    kind: str = "speech"
    wanted: Callable[[Groups], bool] = lambda _: True
    """Whether a file belongs to what is read (RAVDESS has songs and videos as well)."""


_RAVDESS: Final = Naming(
    corpus="ravdess",
    language="en",
    pattern=re.compile(
        r"(?P<modality>\d\d)-(?P<channel>\d\d)-(?P<emotion>\d\d)-(?P<strength>\d\d)-(?P<text>\d\d)"
        r"-\d\d-(?P<speaker>\d\d)$"
    ),
    emotions={
        "01": "neutral", "02": "neutral", "03": "happy", "04": "sad", "05": "angry",
        "06": "fear", "07": "disgust", "08": "surprise",
    },
    gender=lambda g: "m" if int(g["speaker"]) % 2 else "f",
    words={"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    wanted=lambda g: g["modality"] == "03" and g["channel"] == "01",
)  # fmt: skip

_NEMO: Final = Naming(
    corpus="nemo",
    language="pl",
    pattern=re.compile(
        r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>anger|fear|happiness|neutral|sadness|surprised)"
        r"_(?P<text>\d+)$"
    ),
    emotions={
        "anger": "angry", "fear": "fear", "happiness": "happy", "neutral": "neutral",
        "sadness": "sad", "surprised": "surprise",
    },
)  # fmt: skip

_TESS: Final = Naming(
    corpus="tess",
    language="en",
    pattern=re.compile(r"(?P<speaker>OA|YA)F?_(?P<text>[a-z]+)_(?P<emotion>[a-z]+)$", re.I),
    emotions={
        "angry": "angry", "disgust": "disgust", "fear": "fear", "happy": "happy",
        "neutral": "neutral", "ps": "surprise", "sad": "sad",
    },
    gender=lambda _: "f",
)  # fmt: skip

_SAVEE: Final = Naming(
    corpus="savee",
    language="en",
    pattern=re.compile(r"(?P<speaker>DC|JE|JK|KL)[_/](?P<emotion>sa|su|[adfhn])(?P<text>\d\d)$"),
    emotions={
        "a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad",
        "su": "surprise",
    },
    gender=lambda _: "m",
)  # fmt: skip

_EMODB_MEN: Final = frozenset({"03", "10", "11", "12", "15"})
_EMODB: Final = Naming(
    corpus="emodb",
    language="de",
    pattern=re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<emotion>[WLEAFTN])[a-z]?$"),
    # Wut, Langeweile (boredom), Ekel, Angst, Freude, Trauer
    emotions={
        "W": "angry", "L": OTHER, "E": "disgust", "A": "fear", "F": "happy", "T": "sad",
        "N": "neutral",
    },
    gender=lambda g: "m" if g["speaker"] in _EMODB_MEN else "f",
)  # fmt: skip

_CREMAD: Final = Naming(
    corpus="cremad",
    language="en",
    pattern=re.compile(
        r"(?P<speaker>1\d{3})_(?P<text>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{1,2}$"
    ),
    emotions={
        "ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral",
        "SAD": "sad",
    },
)  # fmt: skip

# EmoGator numbers its 30 categories in alphabetical order; left out are those without a
# counterpart among the eight.
_EMOGATOR: Final = Naming(
    corpus="emogator",
    language="",
    pattern=re.compile(r"(?P<speaker>\d{6})-(?P<emotion>\d\d)-\d+$"),
    emotions={
        **{f"{code:02}": None for code in range(1, 31)},
        "02": "happy", "03": "angry", "06": "contempt", "10": "disgust", "13": "happy",
        "15": "fear", "18": "neutral", "24": "sad", "27": "surprise", "28": "surprise",
    },
    kind="vocal_burst",
)  # fmt: skip

NAMINGS: Final = {n.corpus: n for n in (_RAVDESS, _NEMO, _TESS, _SAVEE, _EMODB, _CREMAD, _EMOGATOR)}


def read_acted(folder: Path, naming: Naming) -> list[Clip]:
    """Clips of the corpus `naming` in `folder` and below, by path.

    Raises DataError: no file there is named as the corpus names its files.
    """
    clips, strange = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO):
        relative = path.relative_to(folder)
        match = naming.pattern.search(relative.with_suffix("").as_posix())
        if match is None:
            strange.append(relative.name)
            continue
        groups = match.groupdict()
        label = naming.emotions.get(_code(naming, groups["emotion"]))
        if label is not None and naming.wanted(groups):
            clips.append(_clip(naming, relative, groups, label))
    if not clips:
        seen = f"; there are {', '.join(strange[:3])}" if strange else "; there is no audio at all"
        raise DataError(f"{folder}: no file is named as those of {naming.corpus}{seen}")
    return clips


def _code(naming: Naming, code: str) -> str:
    return code.lower() if naming.pattern.flags & re.I else code


def _clip(naming: Naming, path: Path, groups: Groups, label: str) -> Clip:
    words = (naming.words or {}).get(groups.get("text", ""), "")
    if naming.corpus == "tess":
        words = f"Say the word {groups['text'].lower()}"
    speaker = groups["speaker"].upper()
    return Clip(
        # in SAVEE's folders the file name alone repeats from speaker to speaker
        id=path.stem if speaker in path.stem.upper() else f"{speaker}_{path.stem}",
        corpus=naming.corpus,
        speaker=f"{naming.corpus}_{speaker}",
        votes={label: 1.0},
        path=path.as_posix(),
        transcript=words,
        transcript_source="gold" if words else "",
        scripted=naming.kind == "speech",
        kind=naming.kind,
        gender=naming.gender(groups),
        language=naming.language,
    )
