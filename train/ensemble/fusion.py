"""Fits the fusion of arousal, valence and dominance of several systems: ridge regressions.

Each attribute is a linear function of all attributes of all systems, for each subset of up to six
systems. Folds of speakers choose the strength of L2, by the mean concordance (CCC), and whether
the fused values get the spread of the truth: least squares shrinks them, and concordance counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from abhinaya.models.labels import HIGH, LOW
from abhinaya.models.vote.fitted import MEAN, Fusion, Numbers
from abhinaya.train.ensemble.answers import FOLDS, LEAST_CLIPS
from abhinaya.train.ensemble.chosen import subsets
from abhinaya.train.errors import DataError
from abhinaya.train.eval.attributes import Rated, Rater, fused
from abhinaya.train.metrics import Indices, concordance


class Plan(NamedTuple):
    """Settings of a fit."""

    strength: float
    """Of L2."""
    spread: bool
    """Whether the spread of the truth is given back."""

    def fit(self, inputs: Numbers, truth: Numbers) -> tuple[Numbers, Numbers]:
        """Return weights [3, V * 3] and bias [3]."""
        model = Ridge(self.strength).fit(inputs, truth)
        weights, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
        if self.spread:
            guess = inputs @ weights.T + bias
            scale = truth.std(axis=0) / np.maximum(guess.std(axis=0), 1e-6)
            weights, bias = weights * scale[:, None], truth.mean(0) * (1 - scale) + bias * scale
        return weights, bias


PLANS: Final = [Plan(*pair) for pair in product((0.01, 0.1, 1.0, 10.0, 100.0), (False, True))]


def fit_fusion(
    raters: Sequence[Rater], on: Rated, seed: int = 0
) -> tuple[Fusion, Mapping[str, str], Mapping[str, Any]]:
    """Return the fusion of these systems, what was chosen, and its figures on held-out speakers.

    Raises DataError: too few clips or speakers.
    """
    raters = sorted(raters, key=lambda rater: rater.name)
    speakers = [str(clip.speaker) for clip in on.clips]
    if not all(speakers) or len(set(speakers)) < 2:
        raise DataError("attributes: folds need clips with speakers, of at least two")
    cut = GroupKFold(min(FOLDS, len(set(speakers))), shuffle=True, random_state=seed)
    folds = list(cut.split(speakers, groups=speakers))
    truth = LOW + (HIGH - LOW) * on.truth
    inputs = {
        voters: LOW + (HIGH - LOW) * np.hstack([r.values for r in raters if r.name in voters])
        for voters in subsets([rater.name for rater in raters])
    }
    rows = {voters: np.flatnonzero(np.isfinite(x).all(axis=1)) for voters, x in inputs.items()}
    everyone = next(iter(rows))
    if len(rows[everyone]) < LEAST_CLIPS:
        raise DataError(
            f"attributes: {len(rows[everyone])} clips are rated by all of {', '.join(everyone)}; "
            f"{LEAST_CLIPS} are needed"
        )

    def score(voters: tuple[str, ...], plan: Plan) -> float:
        x, guess = inputs[voters], np.full(truth.shape, np.nan)
        for learnt, left in folds:
            known, here = np.intersect1d(learnt, rows[voters]), np.intersect1d(left, rows[voters])
            if len(known) and len(here):
                weights, bias = plan.fit(x[known], truth[known])
                guess[here] = x[here] @ weights.T + bias
        there = np.isfinite(guess[:, 0])
        return float(np.mean([concordance(guess[there, k], truth[there, k]) for k in range(3)]))

    plans = {
        voters: max(PLANS, key=lambda plan: score(voters, plan))
        for voters, answered in rows.items()
        if len(answered) >= LEAST_CLIPS
    }

    def fit(learnt: Indices) -> Fusion:
        known = {voters: np.intersect1d(learnt, rows[voters]) for voters in plans}
        return Fusion({v: p.fit(inputs[v][known[v]], truth[known[v]]) for v, p in plans.items()})

    values = np.full(truth.shape, np.nan)
    for learnt, left in folds:
        values[left] = fused("ridge", raters, fit(learnt)).values[left]
    own, mean = Rater("ridge", values), fused("mean", raters, MEAN)
    both = np.flatnonzero(own.answered)
    of = on.draws.compare(on.ccc(own, both), on.ccc(mean, both), both)
    metrics: dict[str, Any] = {
        f"ccc_{r.name}": round(on.ccc(r, both)(np.arange(len(both))), 4) for r in (own, mean)
    }
    gain = of.difference
    metrics["ccc_gain_over_mean"] = [round(x, 4) for x in (gain.value, gain.low, gain.high)]
    told = {"+".join(v): f"L2 {p.strength:g}{', spread' * p.spread}" for v, p in plans.items()}
    return fit(np.arange(len(truth))), told, metrics | {"ccc_gain_over_mean_p": round(of.p, 4)}
