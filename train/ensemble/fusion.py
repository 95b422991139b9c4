"""Fits the fusion of arousal, valence and dominance of several systems: ridge regressions.

There is one for each subset of up to six systems. Folds of speakers choose the strength of L2, by
the mean concordance, and whether the spread that least squares shrinks is given back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final

import numpy as np
from sklearn.linear_model import Ridge

from abhinaya.models.labels import HIGH, LOW
from abhinaya.models.vote.fitted import MEAN, Fusion, Numbers
from abhinaya.train.ensemble.answers import LEAST_CLIPS, Voters, folds_of
from abhinaya.train.ensemble.chosen import subsets
from abhinaya.train.errors import DataError
from abhinaya.train.eval.attributes import Rated, Rater, fused
from abhinaya.train.metrics import Indices, concordance

Plan = tuple[float, bool]
"""Strength of L2, and whether the spread of the truth is given back."""
PLANS: Final[list[Plan]] = [*product((0.01, 0.1, 1.0, 10.0, 100.0), (False, True))]


def fit_fusion(
    raters: Sequence[Rater], on: Rated, seed: int = 0
) -> tuple[Fusion, Mapping[str, str], Mapping[str, Any]]:
    """Return the fusion of these systems, what was chosen, and its figures on held-out speakers.

    Raises DataError: too few clips or speakers.
    """
    raters = sorted(raters, key=lambda rater: rater.name)
    folds = list(
        folds_of([clip.speaker for clip in on.clips], np.zeros(len(on.clips), np.int64), seed)
    )
    truth = LOW + (HIGH - LOW) * on.truth
    inputs = {
        voters: LOW + (HIGH - LOW) * np.hstack([r.values for r in raters if r.name in voters])
        for voters in subsets([rater.name for rater in raters])
    }
    rows = {voters: np.flatnonzero(np.isfinite(x).all(axis=1)) for voters, x in inputs.items()}
    everyone = next(iter(rows))
    if (together := len(rows[everyone])) < LEAST_CLIPS:
        raise DataError(
            f"attributes: {together} clips are rated by all of {', '.join(everyone)}; "
            f"{LEAST_CLIPS} are needed"
        )

    def score(voters: Voters, plan: Plan) -> float:
        x, guess = inputs[voters], np.full(truth.shape, np.nan)
        for learnt, left in folds:
            known, here = np.intersect1d(learnt, rows[voters]), np.intersect1d(left, rows[voters])
            if len(known) and len(here):
                weights, bias = _ridge(x[known], truth[known], *plan)
                guess[here] = x[here] @ weights.T + bias
        there = np.isfinite(guess[:, 0])
        return float(np.mean([concordance(guess[there, k], truth[there, k]) for k in range(3)]))

    known = [voters for voters in rows if len(rows[voters]) >= LEAST_CLIPS]
    plans = {v: max(PLANS, key=lambda plan, v=v: score(v, plan)) for v in known}  # type: ignore[misc]

    def fit(learnt: Indices) -> Fusion:
        of = {voters: np.intersect1d(learnt, rows[voters]) for voters in plans}
        return Fusion({v: _ridge(inputs[v][i], truth[i], *plans[v]) for v, i in of.items()})

    values = np.full(truth.shape, np.nan)
    for learnt, left in folds:
        values[left] = fused("ridge", raters, fit(learnt)).values[left]
    own, mean = Rater("ridge", values), fused("mean", raters, MEAN)
    both = np.flatnonzero(own.answered)
    all_of = np.arange(len(both))
    gain = on.draws.compare(on.ccc(own, both), on.ccc(mean, both), both).difference
    metrics: dict[str, Any] = {f"ccc_{r.name}": on.ccc(r, both)(all_of) for r in (own, mean)}
    metrics["ccc_gain_over_mean"] = [gain.value, gain.low, gain.high]
    told = {"+".join(v): f"L2 {l2:g}{', spread' * spread}" for v, (l2, spread) in plans.items()}
    return (
        fit(np.arange(len(truth))),
        told,
        {k: np.round(v, 4).tolist() for k, v in metrics.items()},
    )


def _ridge(
    inputs: Numbers, truth: Numbers, strength: float, spread: bool
) -> tuple[Numbers, Numbers]:
    """Return weights [3, V * 3] and bias [3]."""
    model = Ridge(strength).fit(inputs, truth)
    weights, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if spread:
        scale = truth.std(axis=0) / np.maximum((inputs @ weights.T).std(axis=0), 1e-6)
        weights, bias = weights * scale[:, None], truth.mean(axis=0) * (1 - scale) + bias * scale
    return weights, bias
