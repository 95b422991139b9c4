"""Neutral voices of many people: half of them to learn neutral from, the other half to measure.

Actors are few and each has a neutral of his own; what a stranger sounds like who feels nothing in
particular can only be learnt from strangers. A reader is on one side by his number, whatever other
files are there, so that nobody who was learnt from is ever measured.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final, Literal

from abhinaya.train.data.clips import Clip
from abhinaya.train.errors import DataError

READERS: Final = "neutral_voices"
"""Corpus, and folder below the data: files are named after their reader, as 19-198-0000.opus."""


def read_readers(data: Path, side: Literal["train", "dev"]) -> list[Clip]:
    """One clip of each reader of one side of `data`/neutral_voices.

    Raises DataError: there is none.
    """
    folder = data / READERS
    files = sorted(path for path in folder.glob("*.opus") if _side(path) == side)
    if not files:
        raise DataError(f"{folder}: holds no voices of the side {side!r}; give another --data")
    return [_clip(path, side) for path in files]


def _side(path: Path) -> str:
    return ("train", "dev")[zlib.crc32(_reader(path).encode()) % 2]


def _reader(path: Path) -> str:
    return path.name.split("-")[0]


def _clip(path: Path, side: str) -> Clip:
    return Clip(
        id=path.name,
        path=str(path),
        corpus=READERS,
        speaker=f"{READERS}_{_reader(path)}",
        votes={"neutral": 1.0},
        split=side,
    )
