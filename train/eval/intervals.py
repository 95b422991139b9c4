"""How sure a figure is: the bootstrap, over clips or over speakers, of one system or of two.

Resampling clips tells how a figure would vary over other clips of the same people. Clips of one
speaker resemble each other: over other people it varies more, and only resampling whole speakers
shows that (given enough of them; with two, nothing can).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abhinaya.train.metrics import Indices, confusion

Statistic = Callable[[Indices], float]
"""A figure of the rows it is given; a row may come several times."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and where it may lie."""

    value: float
    """On all rows, each once."""
    low: float
    high: float
    units: int
    """What was resampled: clips, or speakers."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same rows: the first minus the second."""

    difference: Interval
    p: float
    """Two-sided: twice the share of resamples on the far side of no difference, at most 1; never
    below 2 / (resamples + 1)."""


def bootstrap(
    statistic: Statistic,
    n: int,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of `statistic` over `n` rows.

    Args:
        statistic: the figure, of an array of row numbers.
        n: rows.
        groups: [n] the speaker of each row; whole speakers are drawn then. None draws clips.
        resamples: how often.
        level: share of resamples within the interval.
        seed: of the drawing; equal seeds draw equal rows, which is what pairs two systems.

    Raises:
        ValueError: no rows, or not one group a row.

    """
    drawn, units = _drawn(n, groups, resamples, seed)
    found = np.array([statistic(rows) for rows in drawn])
    return _interval(statistic(np.arange(n)), found, level, units)


def paired_bootstrap(
    first: Statistic,
    second: Statistic,
    n: int,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two systems on the same resamples of the same rows: `first` minus `second`."""
    drawn, units = _drawn(n, groups, resamples, seed)
    differences = np.array([first(rows) - second(rows) for rows in drawn])
    everything = np.arange(n)
    value = first(everything) - second(everything)
    aside = min(int(np.sum(differences <= 0.0)), int(np.sum(differences >= 0.0)))
    p = min(1.0, 2.0 * (aside + 1) / (len(differences) + 1))
    return Comparison(_interval(value, differences, level, units), p)


def macro_f1_of(truth: Indices, guess: Indices, classes: Sequence[int]) -> Statistic:
    """Macro-F1 of any rows of two series [N].

    A class that a resample neither holds nor guesses is left out of that resample's mean: it is
    not known there, and counting it as 0 would pull the whole interval down.
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
    """Return the rows of each resample, and how many clips or speakers they are drawn of."""
    if n < 1:
        raise ValueError("a bootstrap of no rows: give at least one")
    rng = np.random.default_rng(seed)
    if groups is None:
        return (rng.integers(n, size=n) for _ in range(resamples)), n
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} rows: give one a row")
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    of = [np.array(rows, np.int64) for rows in members.values()]
    draws = (rng.integers(len(of), size=len(of)) for _ in range(resamples))
    return (np.concatenate([of[g] for g in draw]) for draw in draws), len(of)


def _interval(value: float, found: npt.NDArray[np.float64], level: float, units: int) -> Interval:
    low, high = np.quantile(found, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(value, float(low), float(high), units)
