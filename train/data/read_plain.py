"""Reads a plain CSV of clips, and acted corpora by their file names (`acted.toml`).

Columns of the CSV, all but the first optional: `path` (or `id`, for a text), `label` or a column of
votes per label, `speaker`, `split`, `corpus`, `kind`, `gender`, `language` (or `lang`),
`transcript`, `arousal`, `valence`, `dominance` (0 to 1). FileName and EmoClass of the challenge,
label8 and suggested_split of the development data are also known. Other columns are ignored.
"""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import LabelsError
from abhinaya.models.labels import ATTRIBUTES, LABELS, label_map
from abhinaya.train.data.clips import OTHER, VOTABLE, Clip
from abhinaya.train.data.manifest import SPLITS
from abhinaya.train.data.tables import Row, rows_of
from abhinaya.train.errors import DataError

LETTERS: Final = dict(zip("ACDFHNSU", LABELS, strict=True))
"""The challenge's letter for each label, in predictions and label files."""
_OTHER: Final = frozenset({"other", "others", "o"})
_SAME: Final = {
    "FileName": "path", "EmoClass": "label", "label8": "label", "suggested_split": "split",
    "lang": "language",
}  # fmt: skip


def known_label(source: Path, name: str) -> str:
    """Return the label, or `other`, for a corpus's name or letter of it.

    Raises DataError: the name is unknown.
    """
    if name.upper() in LETTERS and len(name) == 1:
        return LETTERS[name.upper()]
    if name.strip().lower() in _OTHER:
        return OTHER
    try:
        return label_map([name], source).targets[0] or OTHER
    except LabelsError as error:
        raise DataError(
            f"{source}: unknown label {name!r}; known: {', '.join(VOTABLE)}, their usual other "
            "names, and the letters ACDFHNSU"
        ) from error


def read_csv(path: Path) -> list[Clip]:
    """Return the clips of a CSV file, or of the only CSV in a folder; audio paths start there.

    Raises DataError: no such file, no column with clip names, an unknown label or split, an
    attribute that is not a number from 0 to 1.
    """
    if path.is_dir():
        tables = sorted(path.glob("*.csv"))
        if len(tables) != 1:
            raise DataError(f"{path}: has {len(tables)} CSV files; name the one that lists clips")
        path = tables[0]
    rows = rows_of(path, "give the CSV that lists the clips")
    rows = [{_SAME.get(key, key): value for key, value in row.items()} for row in rows]
    if not rows:
        raise DataError(f"{path}: lists no clips; is it the right file?")
    if not {"path", "id"} & set(rows[0]):
        raise DataError(f"{path}: has neither a column `path` nor `id`; see docs/data.md")
    return [_clip(path, number, row) for number, row in enumerate(rows, 2)]


def _clip(source: Path, number: int, row: Row) -> Clip:
    here = Path(f"{source}:{number}")
    split, file = row.get("split", ""), row.get("path", "")
    if split not in SPLITS:
        known = ", ".join(s for s in SPLITS if s)
        raise DataError(f"{here}: unknown split {split!r}; known: {known}, or none")
    votes = _numbers(here, row, VOTABLE, "a count of votes")
    label = row.get("label", "")
    if not votes and label not in ("", "X"):
        votes = {known_label(here, label): 1.0}
    return Clip(
        id=row.get("id") or Path(file).with_suffix("").as_posix(),
        corpus=row.get("corpus") or source.stem,
        speaker=row.get("speaker", ""),
        votes={name: count for name, count in votes.items() if count},
        path=file,
        split=split,
        attributes=_numbers(here, row, ATTRIBUTES, "an attribute"),
        transcript=row.get("transcript", ""),
        transcript_source="gold" if row.get("transcript") else "",
        kind=row.get("kind") or ("speech" if file else "text"),
        gender=row.get("gender", ""),
        language=row.get("language", ""),
    )


def _numbers(here: Path, row: Row, names: Iterable[str], what: str) -> dict[str, float]:
    try:
        return {name: float(row[name]) for name in names if row.get(name)}
    except ValueError as error:
        raise DataError(f"{here}: {what} is not a number: {error}") from error


# --- acted corpora ------------------------------------------------------------------------------


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
            clips.append(_acted(corpus, naming, relative, match.groupdict(), label))
    if not clips:
        seen = f"found {', '.join(strange[:3])}" if strange else "no audio was found"
        raise DataError(f"{folder}: no file is named like those of {corpus}; {seen}")
    return clips


def _acted(corpus: str, naming: Naming, path: Path, groups: Mapping[str, str], label: str) -> Clip:
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
