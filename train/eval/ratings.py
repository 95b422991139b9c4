"""What systems say of arousal, valence and dominance, joined to the clips of a manifest.

CSV with a column for each: `arousal`, `valence`, `dominance` from 0 to 1, or `EmoAct`, `EmoVal`,
`EmoDom` from 1 to 7 as the challenge wants them. Labels may stand in the same file.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.train.data.clips import ATTRIBUTES, Clip, DataError
from abhinaya.train.data.read_msp import ATTRIBUTES as CHALLENGE
from abhinaya.train.data.read_msp import HIGH, LOW
from abhinaya.train.eval.predictions import NAMES, found_answers, labels_in

Values = npt.NDArray[np.float64]
Rating = tuple[float, ...]
"""[3] arousal, valence, dominance, from 0 to 1."""
_COLUMNS: Final = (
    (tuple(ATTRIBUTES), 0.0, 1.0),
    (tuple(CHALLENGE[name] for name in ATTRIBUTES), LOW, HIGH),
)
"""Names in the order of ATTRIBUTES, and their scale."""
BEYOND: Final = 0.5
"""Widths of its scale that a value may lie outside it: a linear model may, another scale does."""


@dataclass(frozen=True, slots=True)
class Rater:
    """What one system says of the N clips that are rated."""

    name: str
    values: Values
    """[N, 3], the scale is 0 to 1; NaN where it gave no answer."""

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """[N] whether it gave an answer."""
        return np.array(np.isfinite(self.values).all(axis=1), np.bool_)


def columns_of(path: Path) -> set[str]:
    """Columns of a CSV; none of a file that is no CSV or cannot be read."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return set()
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            return set(csv.DictReader(lines).fieldnames or ())
    except (UnicodeDecodeError, csv.Error, OSError):
        return set()


def rates(path: Path) -> bool:
    """Whether a file of predictions has all three attributes."""
    columns = columns_of(path)
    return any(columns.issuperset(names) for names, _, _ in _COLUMNS)


def only_rates(path: Path) -> bool:
    """Whether it has them and no labels."""
    return rates(path) and not labels_in(columns_of(path))


def read_ratings(path: Path) -> dict[str, Rating]:
    """Read the attributes of each clip; a row that leaves all three empty is no answer.

    Raises:
        DataError: a value is no number or far outside its scale, a clip is rated twice, or no
            column names the clips.

    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}; is it the file?") from error
    columns = set(rows[0]) if rows else set()
    named = next((c for c in NAMES if c in columns), None)
    if named is None:
        raise DataError(f"{path}: names no clips: needs a column {' or '.join(NAMES)}")
    names, low, high = next(scale for scale in _COLUMNS if columns.issuperset(scale[0]))
    found: dict[str, Rating] = {}
    for number, row in enumerate(rows, 2):
        here = f"{path}:{number}"
        clip = (row[named] or "").strip()
        if clip in found:
            raise DataError(f"{here}: {clip!r} is rated twice; remove one of the answers")
        said = [(row[name] or "").strip() for name in names]
        if any(said):
            found[clip] = tuple(
                _value(here, *one, low, high) for one in zip(names, said, strict=True)
            )
    return found


def join_ratings(name: str, ratings: Mapping[str, Rating], clips: Sequence[Clip]) -> Rater:
    """Bring the answers of a system into the order of `clips`.

    Raises:
        DataError: fewer than two are about any of them: there is no concordance of one.

    """
    found = found_answers(ratings, clips)
    if sum(one is not None for one in found) < 2:
        told = next(iter(ratings), "nothing")
        raise DataError(
            f"ratings of {name}: fewer than two are about clips of this manifest (the first is "
            f"about {told!r}, a clip is called {clips[0].id!r}); are they of another corpus or "
            "split?"
        )
    nothing = (math.nan,) * len(ATTRIBUTES)
    return Rater(name, np.array([one or nothing for one in found], np.float64))


def _value(here: str, name: str, said: str, low: float, high: float) -> float:
    try:
        value = float(said)
    except ValueError as error:
        raise DataError(f"{here}: {name} is {said!r}, no number") from error
    slack = BEYOND * (high - low)
    if not low - slack <= value <= high + slack:
        raise DataError(f"{here}: {name} is {said}; its scale is {low:g} to {high:g}")
    return (value - low) / (high - low)
