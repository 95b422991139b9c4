"""Reads acted corpora from their file names, by the patterns of `acted.toml`.

An acted clip has one vote, for the instruction. Files with other names are left out; `abhinaya data
prepare` prints the number of audio files and of clips.
"""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from abhinaya.train.data.clips import Clip
from abhinaya.train.errors import DataError

AUDIO: Final = frozenset({".wav", ".flac", ".opus", ".ogg", ".mp3", ".m4a", ".mp4"})
Naming = Mapping[str, Any]
NAMINGS: Final[Mapping[str, Naming]] = tomllib.loads(
    (importlib.resources.files("abhinaya.train.data") / "acted.toml").read_text("utf-8")
)


def read_acted(folder: Path, corpus: str) -> list[Clip]:
    """Return the clips of `corpus` in `folder` and below, sorted by path.

    Raises DataError: no file name fits the corpus.
    """
    naming, clips, strange = NAMINGS[corpus], [], []
    pattern = re.compile(naming["pattern"])
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO):
        relative = path.relative_to(folder)
        match = pattern.search(relative.with_suffix("").as_posix())
        if match is None:
            strange.append(relative.name)
            continue
        code = match["emotion"].lower() if pattern.flags & re.I else match["emotion"]
        if label := naming["emotions"].get(code):
            clips.append(_clip(corpus, naming, relative, match.groupdict(), label))
    if not clips:
        seen = f"found {', '.join(strange[:3])}" if strange else "no audio was found"
        raise DataError(f"{folder}: no file is named like those of {corpus}; {seen}")
    return clips


def _clip(corpus: str, naming: Naming, path: Path, groups: Mapping[str, str], label: str) -> Clip:
    text, speaker = groups.get("text", "").lower(), groups["speaker"].upper()
    words = naming.get("words", {}).get(text, "") or naming.get("carrier", "").format(text=text)
    kind = naming.get("kind", "speech")
    genders = [g for g, who in (("m", "men"), ("f", "women")) if speaker in naming.get(who, ())]
    return Clip(
        # SAVEE has a folder per speaker, with the same file names in each
        id=path.stem if speaker in path.stem.upper() else f"{speaker}_{path.stem}",
        corpus=corpus,
        speaker=f"{corpus}_{speaker}",
        votes={label: 1.0},
        path=path.as_posix(),
        transcript=words,
        transcript_source="gold" if words else "",
        scripted=kind == "speech",
        kind=kind,
        gender="".join(genders),
        language=naming["language"],
    )
