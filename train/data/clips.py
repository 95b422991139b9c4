"""Emotional audio clips as an index file lists them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abhinaya.models.labels import LABELS


class DataError(ValueError):
    """Training data is missing or not as expected; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled recording of one speaker."""

    path: Path
    corpus: str
    speaker: str
    kind: str
    """`speech` or `vocal_burst`."""
    label: str
    """One of LABELS."""
    split: str
    """`train` or `dev`, by speaker."""


def read_clips(data: Path, corpora: Sequence[str]) -> list[Clip]:
    """Clips of `corpora` from `data`/speech.csv, in the order of the file.

    Raises:
        DataError: the index or a corpus is missing, a label is unknown, or a speaker is in two
            splits, which would make every figure measured on it worthless.

    """
    index = data / "speech.csv"
    if not index.is_file():
        raise DataError(f"{index}: no such index of clips; give its folder with --data")
    with index.open(newline="", encoding="utf-8") as lines:
        clips = [_clip(data, row) for row in csv.DictReader(lines) if row["corpus"] in corpora]
    missing = set(corpora) - {clip.corpus for clip in clips}
    if missing:
        raise DataError(f"{index}: has no clips of {', '.join(sorted(missing))}")
    unknown = {clip.label for clip in clips} - set(LABELS)
    if unknown:
        raise DataError(f"{index}: unknown labels {sorted(unknown)}; known: {', '.join(LABELS)}")
    _check_splits(index, clips)
    return clips


def _clip(data: Path, row: dict[str, str]) -> Clip:
    return Clip(
        path=data / row["path"],
        corpus=row["corpus"],
        speaker=row["speaker"],
        kind=row["kind"],
        label=row["label8"],
        split=row["suggested_split"],
    )


def _check_splits(index: Path, clips: Sequence[Clip]) -> None:
    splits: dict[str, set[str]] = {}
    for clip in clips:
        splits.setdefault(clip.speaker, set()).add(clip.split)
    torn = sorted(speaker for speaker, of in splits.items() if len(of) > 1)
    if torn:
        raise DataError(f"{index}: speakers in more than one split: {', '.join(torn[:5])}")
