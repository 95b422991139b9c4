"""Acted corpora whose file names tell everything; `acted.toml` says how each names its files.

An acted clip has the one vote of the instruction. Files whose names do not fit are left out, not
guessed at; `abhinaya data prepare` says how many audio files gave how many clips.
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
    """Clips of `corpus` in `folder` and below, by path.

    Raises DataError: no file there is named as the corpus names its files.
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
        seen = f"; there are {', '.join(strange[:3])}" if strange else "; no audio was found"
        raise DataError(f"{folder}: no file is named as those of {corpus}{seen}")
    return clips


def _clip(corpus: str, naming: Naming, path: Path, groups: Mapping[str, str], label: str) -> Clip:
    text, speaker = groups.get("text", "").lower(), groups["speaker"].upper()
    words = naming.get("words", {}).get(text, "") or naming.get("carrier", "").format(text=text)
    kind = naming.get("kind", "speech")
    genders = [g for g, who in (("m", "men"), ("f", "women")) if speaker in naming.get(who, ())]
    return Clip(
        # in SAVEE's folders the file name alone repeats from speaker to speaker
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
