"""Confidence intervals by bootstrap over clips or speakers, for one system or a pair.

Resampling clips shows how a figure varies over other clips of the same speakers. It varies more
over other speakers, since clips of one speaker are alike: only resampling whole speakers shows
that, and only if there are many.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abhinaya.train.data.clips import Clip
from abhinaya.train.errors import DataError
from abhinaya.train.metrics import Indices, confusion

Statistic = Callable[[Indices], float]
"""A function from row numbers, which may repeat, to a figure."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its confidence interval."""

    value: float
    """The figure on all rows."""
    low: float
    high: float
    units: int
    """Number of resampled units: clips or speakers."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference of a figure between two systems on the same rows: first minus second."""

    difference: Interval
    p: float
    """Two-sided: twice the share of resamples with the opposite sign, from 2 / (resamples + 1)
    to 1."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How the clips of an evaluation are resampled."""

    speakers: tuple[Hashable, ...] | None
    """[N] speaker of each clip, to draw whole speakers; None draws clips."""
    resamples: int = 1_000
    seed: int = 0

    def interval(self, statistic: Statistic, rows: Indices) -> Interval:
        """Return the interval of `statistic`, which gets places in `rows`."""
        return bootstrap(statistic, len(rows), self._of(rows), self.resamples, self.seed)

    def compare(self, first: Statistic, second: Statistic, rows: Indices) -> Comparison:
        """Return `first` minus `second` on `rows`, paired."""
        return paired_bootstrap(first, second, len(rows), self._of(rows), self.resamples, self.seed)

    def _of(self, rows: Indices) -> list[Hashable] | None:
        return None if self.speakers is None else [self.speakers[i] for i in rows]


def draws(
    clips: Sequence[Clip], by_speaker: bool = False, resamples: int = 1_000, seed: int = 0
) -> Draws:
    """Return how to resample `clips`. Raises DataError: `by_speaker`, and speakers are unknown."""
    if not by_speaker:
        return Draws(None, resamples, seed)
    if unnamed := sum(not clip.speaker for clip in clips):
        raise DataError(
            f"{unnamed} of {len(clips)} clips name no speaker; resample by clip (leave out "
            "--by-speaker)"
        )
    speakers = tuple(clip.speaker for clip in clips)
    if len({*speakers}) < 2:
        raise DataError(
            f"{len(clips)} clips of one speaker: speakers cannot be resampled; resample "
            "by clip (leave out --by-speaker)"
        )
    return Draws(speakers, resamples, seed)


def bootstrap(
    statistic: Statistic,
    n: int,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1_000,
    seed: int = 0,
) -> Interval:
    """Return the 95 % percentile interval of `statistic` over `n` rows.

    `groups` [n] names the speaker of each row, to draw whole speakers; None draws rows. Equal seeds
    draw equal rows. Raises ValueError: no rows, or not one group per row.
    """
    return _resampled(statistic, n, groups, resamples, seed)[0]


def paired_bootstrap(
    first: Statistic,
    second: Statistic,
    n: int,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1_000,
    seed: int = 0,
) -> Comparison:
    """Compare two systems on the same resamples of the same rows: `first` minus `second`."""
    interval, differences = _resampled(
        lambda rows: first(rows) - second(rows), n, groups, resamples, seed
    )
    aside = min(int(np.sum(differences <= 0.0)), int(np.sum(differences >= 0.0)))
    return Comparison(interval, min(1.0, 2.0 * (aside + 1) / (len(differences) + 1)))


def macro_f1_of(truth: Indices, guess: Indices, classes: Sequence[int]) -> Statistic:
    """Return a function: rows of two series [N] -> macro-F1.

    A class that is in neither truth nor guess of a resample is left out of that resample's mean;
    counting it as 0 would lower the whole interval.
    """
    width, chosen = int(max(*classes, truth.max(), guess.max())) + 1, list(classes)

    def of(rows: Indices) -> float:
        table = confusion(truth[rows], guess[rows], width)
        both = (table.sum(axis=1) + table[:, :width].sum(axis=0))[chosen]
        known = both > 0
        hits = np.diagonal(table)[chosen]
        return float(np.mean(2.0 * hits[known] / both[known])) if known.any() else 0.0

    return of


def _drawn(
    n: int, groups: Sequence[Hashable] | None, resamples: int, seed: int
) -> tuple[Iterator[Indices], int]:
    """Return the rows of each resample, and the number of clips or speakers to draw from."""
    if n < 1:
        raise ValueError("a bootstrap of no rows: give at least one")
    rng = np.random.default_rng(seed)
    if groups is None:
        return (rng.integers(n, size=n) for _ in range(resamples)), n
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} rows: give one per row")
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    of = [np.array(rows, np.int64) for rows in members.values()]
    draws = (rng.integers(len(of), size=len(of)) for _ in range(resamples))
    return (np.concatenate([of[g] for g in draw]) for draw in draws), len(of)


def _resampled(
    statistic: Statistic, n: int, groups: Sequence[Hashable] | None, resamples: int, seed: int
) -> tuple[Interval, npt.NDArray[np.float64]]:
    """Return the interval of a figure, and the figure of each resample."""
    drawn, units = _drawn(n, groups, resamples, seed)
    found = np.array([statistic(rows) for rows in drawn])
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(statistic(np.arange(n)), float(low), float(high), units), found
