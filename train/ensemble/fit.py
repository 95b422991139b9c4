"""Fits a combiner of voters, on predictions about speakers that no voter was trained on.

Each fold of speakers is measured with a fit on the other folds, by the monitor's own decision code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.combiner import FROM_FILE, Combiner, Member, Method
from abhinaya.models.vote.ensemble import Decision, Rule, decide
from abhinaya.models.vote.fitted import FLOOR
from abhinaya.train.ensemble.answers import (
    LEAST_CLIPS,
    NEUTRAL,
    Answers,
    Prior,
    folds_of,
    importance,
)
from abhinaya.train.ensemble.chosen import Chosen
from abhinaya.train.ensemble.logistic import REGRESSIONS
from abhinaya.train.ensemble.meta import SOUP, Forests, networks
from abhinaya.train.errors import DataError
from abhinaya.train.metrics import Indices

PRIOR: Final = "balanced"
"""The labels of the challenge's test set, and macro-F1, count alike."""


@dataclass(frozen=True)
class Fit:
    """A fitted combiner, and its decisions on held-out speakers."""

    rule: Rule
    plans: Mapping[str, str]
    """What was chosen for each set of voters."""
    held_out: tuple[Decision, ...]
    """[N] decisions, each by a fit on other speakers."""

    def into(self, combiner: Combiner, least: float) -> Combiner:
        """Return a combiner of these voters with what was fitted, and its threshold."""
        heat, weights, fitted = self.rule.temperatures, self.rule.weights, self.rule.fitted
        members = {
            name: Member(m.model, m.version, heat.get(name, 1.0), weights.get(name, 1.0))
            for name, m in combiner.members.items()
        }
        method = self.rule.method
        return replace(
            combiner, method=method, members=members, min_confidence=least, fitted=fitted
        )


def fit_ensemble(
    answers: Answers, method: Method, prior: Prior = PRIOR, seed: int = 0, soup: int = SOUP
) -> Fit:
    """Fit the parameters of `method`; `soup` is the number of runs of `mlp`.

    Raises DataError: too few clips, fewer than two speakers or labels, or a clip has no speaker.
    """
    _check(answers, method)
    weights = importance(answers.truth, prior)
    folds = list(folds_of(answers.speakers, answers.truth, seed))
    learner: Chosen | Forests | None = None
    if method == "logistic":
        learner = Chosen(answers, weights, folds, REGRESSIONS)
    elif method == "mlp":
        learner = Chosen(answers, weights, folds, networks(seed, soup), rated=True)
    elif method == "forest":
        learner = Forests(answers, weights, seed)

    def rule(rows: Indices) -> Rule:
        return Rule(
            method,
            weights=_mixture(answers, rows, weights) if method == "weighted" else {},
            temperatures={v: answers.temperature(v, rows, weights) for v in answers.voters},
            fitted=learner(rows) if learner else None,
        )

    held_out: dict[int, Decision] = {}
    for learnt, left in folds:
        there = rule(learnt)
        held_out |= {int(i): decide(answers.votes[i], there) for i in left}
    decisions = tuple(held_out[i] for i in sorted(held_out))
    plans = learner.plans if learner else {}
    return Fit(rule(np.arange(len(answers.truth))), plans, decisions)


def _check(answers: Answers, method: Method) -> None:
    if len(set(answers.truth.tolist())) < 2:
        raise DataError(f"all clips are {LABELS[int(answers.truth[0])]}: there is nothing to fit")
    needed = LEAST_CLIPS if method in (*FROM_FILE, "weighted") else 1
    if (together := len(answers.of(answers.voters))) < needed:
        fewest = min(answers.voters, key=lambda voter: len(answers.of([voter])))
        raise DataError(
            f"{together} clips are answered by all {len(answers.voters)} voters; {method} needs "
            f"{needed} (the fewest answers, {len(answers.of([fewest]))}, are of {fewest})"
        )


def _mixture(
    answers: Answers, rows: Indices, weights: FloatArray, rounds: int = 200
) -> dict[str, float]:
    """Return the voters' weights in a mixture of probabilities, by clips that all answered."""
    rows = np.intersect1d(rows, answers.of(answers.voters))
    shares = np.full(len(answers.voters), 1.0 / len(answers.voters))
    if len(rows):
        right = np.maximum(answers.shares[rows, :, answers.truth[rows]], FLOOR)  # [N, V]
        for _ in range(rounds):
            posterior = right * shares
            posterior /= posterior.sum(axis=1, keepdims=True)
            shares = np.average(posterior, axis=0, weights=weights[rows])
    return dict(zip(answers.voters, (shares * len(shares)).tolist(), strict=True))


def least_confidence(decisions: Sequence[Decision], truth: Indices, most_alarms: float) -> float:
    """Return the lowest threshold with at most this share of false alarms on neutral clips.

    Raises DataError: no clip is neutral.
    """
    neutral = [d for d, c in zip(decisions, truth, strict=True) if c == NEUTRAL]
    if not neutral:
        raise DataError("no clip is neutral, so false alarms cannot be counted; leave out --alarms")
    alarms = sorted(
        (d.confidence or 0.0 for d in neutral if d.leading not in ("", "neutral")), reverse=True
    )
    allowed = int(most_alarms * len(neutral) + 1e-9)
    if len(alarms) <= allowed:
        return 0.0
    # just above the most confident alarm that exceeds the allowed number
    return min(1.0, float(np.ceil(alarms[allowed] * 1e4 + 1e-6) / 1e4))
