"""Scores predictions of arousal, valence and dominance by their concordance (CCC).

Ratings are a CSV with the columns `arousal`, `valence`, `dominance` from 0 to 1, or `EmoAct`,
`EmoVal`, `EmoDom` from 1 to 7 as in the challenge. It may have labels too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.labels import ATTRIBUTES
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.read_msp import ATTRIBUTES as CHALLENGE
from abhinaya.train.data.read_msp import HIGH, LOW
from abhinaya.train.data.tables import rows_of
from abhinaya.train.errors import DataError
from abhinaya.train.eval.intervals import Draws, Statistic, draws
from abhinaya.train.eval.predictions import HINT, by_clip, found_answers, labels_in
from abhinaya.train.metrics import Flags, Indices, concordance

Values = npt.NDArray[np.float64]
Rating = tuple[float, ...]
"""[3] arousal, valence, dominance, from 0 to 1; a linear model may exceed it a little."""
_FEWEST: Final = 2
"""Fewest clips for which the concordance is defined."""
_COLUMNS: Final = (
    (tuple(ATTRIBUTES), 0.0, 1.0),
    (tuple(CHALLENGE[name] for name in ATTRIBUTES), LOW, HIGH),
)
"""Column names in the order of ATTRIBUTES, and the ends of their scale."""
_BEYOND: Final = 0.5
"""How far a value may be outside its scale, in widths of it; farther, the scale is wrong."""


# --- reading --------------------------------------------------------------------------------------


def columns_of(path: Path) -> tuple[bool, bool]:
    """Return whether a file has ratings, and whether it has labels."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False, True
    rows = rows_of(path, HINT)
    columns = set(rows[0]) if rows else set()
    return any(columns.issuperset(names) for names, _, _ in _COLUMNS), labels_in(columns)


def read_ratings(path: Path) -> dict[str, Rating]:
    """Return the attributes by clip; a row with three empty cells is not an answer.

    Raises DataError: a value is not a number or far outside its scale, a clip is rated twice, or
    there is no column of clip names.
    """
    rows = rows_of(path, HINT)
    names, low, high = next(scale for scale in _COLUMNS if set(rows[0]).issuperset(scale[0]))
    return {
        clip: tuple(_value(here, name, row[name], low, high) for name in names)
        for clip, (here, row) in by_clip(path, rows).items()
        if any(row[name] for name in names)
    }


def _value(here: str, name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise DataError(f"{here}: {name} is {text!r}, not a number") from error
    slack = _BEYOND * (high - low)
    if not low - slack <= value <= high + slack:
        raise DataError(f"{here}: {name} is {text}; its scale is {low:g} to {high:g}")
    return (value - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Rater:
    """Ratings of N clips by one system."""

    name: str
    values: Values
    """[N, 3] on the scale 0 to 1; NaN without an answer."""

    @property
    def answered(self) -> Flags:
        """[N] whether the system rated the clip."""
        return np.array(np.isfinite(self.values).all(axis=1), np.bool_)


def join_ratings(name: str, ratings: Mapping[str, Rating], clips: Sequence[Clip]) -> Rater:
    """Return ratings in the order of `clips`. Raises DataError if fewer than two clips have one."""
    found = found_answers(name, ratings, clips, _FEWEST)
    nothing = (math.nan,) * len(ATTRIBUTES)
    return Rater(name, np.array([one or nothing for one in found], np.float64))


# --- scoring --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rated:
    """The truth: N clips whose attributes are all known."""

    clips: tuple[Clip, ...]
    truth: Values
    """[N, 3] from 0 to 1."""
    draws: Draws

    def ccc(self, rater: Rater, rows: Indices, columns: Sequence[int] = (0, 1, 2)) -> Statistic:
        """Return a function: places in `rows` -> mean CCC over `columns`.

        A CCC that is undefined, since both columns are constant and equal, counts as 0.
        """
        given, truth = rater.values[rows], self.truth[rows]

        def of(places: Indices) -> float:
            found = [concordance(given[places, k], truth[places, k]) for k in columns]
            return float(np.mean(np.nan_to_num(found, nan=0.0)))

        return of


def rated(
    clips: Sequence[Clip], by_speaker: bool = False, resamples: int = 1_000, seed: int = 0
) -> Rated:
    """Select the clips that have all three attributes.

    Raises DataError: there are fewer than two, or `by_speaker` is set and speakers are unknown.
    """
    chosen = tuple(clip for clip in clips if set(ATTRIBUTES) <= set(clip.attributes))
    if len(chosen) < _FEWEST:
        raise DataError(
            f"{len(clips)} clips: {len(chosen)} have {', '.join(ATTRIBUTES)}, so ratings cannot be "
            "scored; prepare a corpus that has them, or leave out the predictions of attributes"
        )
    truth = np.array([[clip.attributes[a] for a in ATTRIBUTES] for clip in chosen], np.float64)
    return Rated(chosen, truth, draws(chosen, by_speaker, resamples, seed))


def attribute_rows(raters: Sequence[Rater], on: Rated) -> Iterator[dict[str, Any]]:
    """Yield the row of table 6 of each system, in their order, on the clips that it rated.

    `gain` is the gain over the first system, on the clips that both rated; None for that one, or if
    both rated fewer than two clips.
    """
    first = raters[0]
    for rater in raters:
        rows = np.flatnonzero(rater.answered)
        both = np.flatnonzero(rater.answered & first.answered)
        gain = None
        if rater is not first and len(both) >= _FEWEST:
            compared = on.draws.compare(on.ccc(rater, both), on.ccc(first, both), both)
            gain = {"over": first.name, "comparison": compared, "clips": len(both)}
        yield {
            "name": rater.name,
            "mean": on.draws.interval(on.ccc(rater, rows), rows),
            "each": {
                name: on.draws.interval(on.ccc(rater, rows, [k]), rows)
                for k, name in enumerate(ATTRIBUTES)
            },
            "answered": len(rows),
            "gain": gain,
        }
