"""Arousal, valence and dominance as systems give them, scored by their concordance (CCC)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.train.data.clips import ATTRIBUTES, Clip, DataError
from abhinaya.train.eval.intervals import (
    Comparison,
    Interval,
    Statistic,
    bootstrap,
    paired_bootstrap,
)
from abhinaya.train.eval.ratings import Rater, Values
from abhinaya.train.eval.tables import require_speakers
from abhinaya.train.metrics import Indices, concordance

_FEWEST: Final = 2
"""Clips below which there is no concordance."""


@dataclass(frozen=True, slots=True)
class Rated:
    """The N clips whose attributes are all known."""

    clips: tuple[Clip, ...]
    truth: Values
    """[N, 3] from 0 to 1."""
    by_speaker: bool = False
    """Resample speakers instead of clips."""
    resamples: int = 1_000
    seed: int = 0

    def groups(self, rows: Indices) -> tuple[Hashable, ...] | None:
        """Speakers of `rows`, if whole speakers are to be drawn."""
        return tuple(self.clips[i].speaker for i in rows) if self.by_speaker else None


def rated(
    clips: Sequence[Clip], by_speaker: bool = False, resamples: int = 1_000, seed: int = 0
) -> Rated:
    """Pick what ratings can be held against.

    Raises:
        DataError: fewer than two clips have all three attributes, or speakers are asked for and
            cannot be told apart.

    """
    chosen = tuple(clip for clip in clips if set(ATTRIBUTES) <= set(clip.attributes))
    if len(chosen) < _FEWEST:
        raise DataError(
            f"{len(clips)} clips: {len(chosen)} have {', '.join(ATTRIBUTES)}, so ratings cannot be "
            "scored; prepare a corpus that has them, or leave out the predictions of attributes"
        )
    if by_speaker:
        require_speakers(chosen)
    truth = np.array([[clip.attributes[a] for a in ATTRIBUTES] for clip in chosen], np.float64)
    return Rated(chosen, truth, by_speaker, resamples, seed)


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean CCC of a system minus that of another, on the clips that both answer."""

    over: str
    comparison: Comparison
    clips: int


@dataclass(frozen=True, slots=True)
class AttributeRow:
    """Table 6: one system, over the clips that it answered."""

    name: str
    mean: Interval
    """Of the three CCCs."""
    each: dict[str, Interval]
    answered: int
    gain: Gain | None
    """Over the first system; None for itself, or if they answer no two clips together."""


def attribute_rows(raters: Sequence[Rater], on: Rated) -> Iterator[AttributeRow]:
    """Score each system, in their order."""
    for rater in raters:
        rows = np.flatnonzero(rater.answered)
        yield AttributeRow(
            name=rater.name,
            mean=_interval(rater, on, rows, range(len(ATTRIBUTES))),
            each={name: _interval(rater, on, rows, [k]) for k, name in enumerate(ATTRIBUTES)},
            answered=len(rows),
            gain=None if rater is raters[0] else _gain(rater, raters[0], on),
        )


def _interval(rater: Rater, on: Rated, rows: Indices, columns: Sequence[int]) -> Interval:
    statistic = mean_ccc(rater.values[rows], on.truth[rows], columns)
    return bootstrap(statistic, len(rows), on.groups(rows), resamples=on.resamples, seed=on.seed)


def _gain(rater: Rater, other: Rater, on: Rated) -> Gain | None:
    rows = np.flatnonzero(rater.answered & other.answered)
    if len(rows) < _FEWEST:
        return None
    columns, truth = range(len(ATTRIBUTES)), on.truth[rows]
    comparison = paired_bootstrap(
        mean_ccc(rater.values[rows], truth, columns),
        mean_ccc(other.values[rows], truth, columns),
        len(rows),
        on.groups(rows),
        resamples=on.resamples,
        seed=on.seed,
    )
    return Gain(other.name, comparison, len(rows))


def mean_ccc(given: Values, truth: Values, columns: Sequence[int]) -> Statistic:
    """Mean CCC over `columns` of any rows of two tables [N, 3].

    Where a CCC is undefined, both being constant and equal, it counts as 0: nothing was shown.
    """

    def of(rows: Indices) -> float:
        found = [concordance(given[rows, k], truth[rows, k]) for k in columns]
        return float(np.mean(np.nan_to_num(found, nan=0.0)))

    return of
