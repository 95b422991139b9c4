"""Fits the fusion of arousal, valence and dominance of several systems, as a ridge regression.

Each attribute is a linear function of all attributes of all systems, fitted on predictions about
speakers that no system was trained on. The strength of L2 is chosen by folds of speakers, by the
mean concordance (CCC); so is whether the fused values get the spread of the truth: least squares
shrinks them, and concordance counts that. There is a regression for each subset of up to six
systems; for others the mean decides. N clips, V systems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from abhinaya.models.labels import HIGH, LOW
from abhinaya.models.vote.fitted import MEAN, Fusion, Numbers
from abhinaya.train.ensemble.answers import FOLDS, LEAST_CLIPS, Voters
from abhinaya.train.ensemble.logistic import subsets
from abhinaya.train.errors import DataError
from abhinaya.train.eval.attributes import Rated, Rater, fused
from abhinaya.train.metrics import Indices, concordance

GRID: Final = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Strengths of L2 to try."""
Plan = tuple[float, bool]
"""Strength of L2, and whether the spread of the truth is given back."""


@dataclass(frozen=True)
class FusionFit:
    """A fitted fusion, and how it does on held-out speakers."""

    fusion: Fusion
    plans: Mapping[str, str]
    metrics: Mapping[str, Any]


def fit_fusion(raters: Sequence[Rater], on: Rated, seed: int = 0) -> FusionFit:
    """Fit the fusion of these systems. Raises DataError: too few clips or speakers."""
    raters = sorted(raters, key=lambda rater: rater.name)
    names = [rater.name for rater in raters]
    speakers = [str(clip.speaker) for clip in on.clips]
    if not all(speakers) or len(set(speakers)) < 2:
        raise DataError("attributes: folds need clips with speakers, of at least two")
    cut = GroupKFold(min(FOLDS, len(set(speakers))), shuffle=True, random_state=seed)
    folds = list(cut.split(speakers, groups=speakers))
    rows = {voters: _answered(raters, voters) for voters in subsets(names)}
    if (together := len(rows[tuple(names)])) < LEAST_CLIPS:
        raise DataError(
            f"attributes: {together} clips are rated by all of {', '.join(names)}; {LEAST_CLIPS} "
            "are needed"
        )
    plans = {
        voters: _chosen(raters, voters, of, on.truth, folds)
        for voters, of in rows.items()
        if len(of) >= LEAST_CLIPS
    }

    def fit(learnt: Indices) -> Fusion:
        return Fusion(
            {
                voters: _ridge(
                    *_inputs(raters, voters, np.intersect1d(learnt, rows[voters]), on.truth), plan
                )
                for voters, plan in plans.items()
            }
        )

    values = np.full(on.truth.shape, np.nan)
    for learnt, left in folds:
        values[left] = fused("ridge", raters, fit(learnt)).values[left]
    own, mean = Rater("ridge", values), fused("mean", raters, MEAN)
    everyone = np.flatnonzero(own.answered)
    gain = on.draws.compare(on.ccc(own, everyone), on.ccc(mean, everyone), everyone)
    of = gain.difference
    metrics = {
        **{f"ccc_{r.name}": round(on.ccc(r, everyone)(np.arange(len(everyone))), 4)
           for r in (own, mean)},
        "ccc_gain_over_mean": [round(x, 4) for x in (of.value, of.low, of.high)],
        "ccc_gain_over_mean_p": round(gain.p, 4),
    }  # fmt: skip
    told = {
        "+".join(voters): f"L2 {strength:g}{', spread of the truth' if spread else ''}"
        for voters, (strength, spread) in plans.items()
    }
    return FusionFit(fit(np.arange(len(on.truth))), told, metrics)


def _answered(raters: Sequence[Rater], voters: Voters) -> Indices:
    there = [rater.answered for rater in raters if rater.name in voters]
    return np.flatnonzero(np.all(there, axis=0))


def _inputs(
    raters: Sequence[Rater], voters: Voters, rows: Indices, truth: Numbers
) -> tuple[Numbers, Numbers]:
    """Return inputs [rows, V * 3] and truth [rows, 3], from 1 to 7."""
    given = [rater.values[rows] for rater in raters if rater.name in voters]
    return LOW + (HIGH - LOW) * np.hstack(given), LOW + (HIGH - LOW) * truth[rows]


def _ridge(inputs: Numbers, truth: Numbers, plan: Plan) -> tuple[Numbers, Numbers]:
    """Return weights [3, V * 3] and bias [3]."""
    strength, spread = plan
    model = Ridge(strength).fit(inputs, truth)
    weights, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if spread:
        guess = inputs @ weights.T + bias
        scale = truth.std(axis=0) / np.maximum(guess.std(axis=0), 1e-6)
        weights, bias = weights * scale[:, None], truth.mean(axis=0) * (1.0 - scale) + bias * scale
    return weights, bias


def _chosen(
    raters: Sequence[Rater],
    voters: Voters,
    rows: Indices,
    truth: Numbers,
    folds: Sequence[tuple[Indices, Indices]],
) -> Plan:
    """Return the plan with the highest concordance on held-out speakers."""

    def score(plan: Plan) -> float:
        guess = np.full(truth.shape, np.nan)
        for learnt, left in folds:
            known, here = np.intersect1d(learnt, rows), np.intersect1d(left, rows)
            if len(known) and len(here):
                weights, bias = _ridge(*_inputs(raters, voters, known, truth), plan)
                guess[here] = _inputs(raters, voters, here, truth)[0] @ weights.T + bias
        there = np.isfinite(guess[:, 0])
        right = LOW + (HIGH - LOW) * truth[there]
        return float(np.mean([concordance(guess[there, k], right[:, k]) for k in range(3)]))

    return max(product(GRID, (False, True)), key=score)
