"""Scores predictions of arousal, valence and dominance by their concordance (CCC)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.labels import ATTRIBUTES, HIGH, LOW, Attributes
from abhinaya.models.vote.fitted import Fusion
from abhinaya.train.data.clips import Clip
from abhinaya.train.errors import DataError
from abhinaya.train.eval.intervals import Draws, Statistic, draws
from abhinaya.train.eval.predictions import Predictions, found_answers
from abhinaya.train.metrics import Flags, Indices, concordance

Values = npt.NDArray[np.float64]
_FEWEST: Final = 2
"""Fewest clips for which the concordance is defined."""


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


def rater(name: str, predictions: Predictions, clips: Sequence[Clip]) -> Rater:
    """Return ratings in the order of `clips`. Raises DataError if fewer than two clips have one."""
    rated = {clip: of.attributes for clip, of in predictions.ballots.items() if of.attributes}
    found = found_answers(name, rated, clips, _FEWEST)
    nothing = (math.nan,) * len(ATTRIBUTES)
    values = np.array([one or nothing for one in found], np.float64)
    return Rater(name, (values - LOW) / (HIGH - LOW))


def fused(name: str, raters: Sequence[Rater], fusion: Fusion) -> Rater:
    """Return the fused ratings of the systems that rated each clip."""
    values = np.full(raters[0].values.shape, np.nan)
    for i in np.flatnonzero(np.any([rater.answered for rater in raters], axis=0)):
        given = {r.name: Attributes.from_unit(r.values[i]) for r in raters if r.answered[i]}
        values[i] = fusion(given)
    return Rater(name, (values - LOW) / (HIGH - LOW))


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
