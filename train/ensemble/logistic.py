"""Fits regressions on log-probabilities, in one of two forms.

    full   each label's score depends on all probabilities of all voters, as in EMOJUDGE
    tied   score of label c = bias of c + sum over voters of scale of v x log-probability of c by v

The full form has C times as many weights: it can learn that one voter's fear means sad, but with
few speakers it overfits to them. The tied form is a weighted product of the probabilities.

There is one regression for each subset of up to six voters, so a missing voter needs no
substitute; of more voters only for all together. Form and L2 are chosen by folds of speakers.
N clips, V voters, C labels, K labels that occur.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Final, Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.fitted import Fitted, Layers, Numbers
from abhinaya.train.ensemble.answers import LEAST_CLIPS, Answers, Voters
from abhinaya.train.metrics import Indices, fit_temperature

Form = Literal["tied", "full"]
Parts = tuple[tuple[int, ...], Numbers, Numbers]
"""Label indices [K], weights [K, V * C], bias [K]."""
GRID: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of C, the inverse strength of L2, to try."""
FORMS: Final[tuple[Form, ...]] = ("tied", "full")
NEVER: Final = -50.0
"""Bias of a label that no clip of a fit has."""
MOST_VOTERS: Final = 6
"""With more voters, only all together are fitted: subsets double with each."""


@dataclass(frozen=True)
class Plan:
    """Settings of one regression, chosen by cross-validation over speakers."""

    form: Form
    strength: float
    """C, the inverse strength of L2."""
    temperature: float = 1.0


class Regressions:
    """Chooses form and L2 of each subset of voters by `folds`, then fits them on any rows."""

    def __init__(
        self,
        answers: Answers,
        weights: FloatArray,
        folds: Sequence[tuple[Indices, Indices]],
    ) -> None:
        self._answers, self._weights = answers, weights
        self._plans = {
            voters: self._choose(voters, folds)
            for voters in subsets(answers.voters)
            if len(answers.of(voters)) >= LEAST_CLIPS
        }

    @property
    def plans(self) -> dict[str, str]:
        """Form and C of each subset."""
        return {"+".join(v): f"{p.form}, C {p.strength:g}" for v, p in self._plans.items()}

    def __call__(self, rows: Indices) -> Fitted:
        """Fit every subset on `rows`."""
        labels = sorted({int(c) for c in self._answers.truth})
        models = {}
        for voters, plan in self._plans.items():
            chosen = np.intersect1d(rows, self._answers.of(voters))
            known, found, offsets = self._one(voters, chosen, plan)
            weights = np.zeros((len(labels), found.shape[1]))
            bias = np.full(len(labels), NEVER)
            places = [labels.index(label) for label in known]
            weights[places], bias[places] = found, offsets
            models[voters] = Layers((weights / plan.temperature,), (bias / plan.temperature,))
        return Fitted(tuple(LABELS[c] for c in labels), models)

    def _choose(self, voters: Voters, folds: Sequence[tuple[Indices, Indices]]) -> Plan:
        """Return the settings with the lowest loss on held-out speakers, with their temperature."""
        answered = self._answers.of(voters)
        truth, weights = self._answers.truth[answered], self._weights[answered]
        best, loss = Plan("tied", GRID[0]), np.inf
        for form, strength in product(FORMS, GRID):
            plan = Plan(form, strength)
            logs = np.zeros((len(answered), len(LABELS)), np.float32)
            for learnt, left in folds:
                parts = self._one(voters, np.intersect1d(learnt, answered), plan)
                here = np.isin(answered, left)
                logs[here] = _log_shares(parts, self._answers.inputs(answered[here], voters))
            temperature = fit_temperature(logs, truth, weights)
            mean = mean_loss(logs / temperature, truth, weights)
            if mean < loss:
                best, loss = replace(plan, temperature=temperature), mean
        return best

    def _one(self, voters: Voters, rows: Indices, plan: Plan) -> Parts:
        inputs, truth = self._answers.inputs(rows, voters), self._answers.truth[rows]
        if len(set(truth.tolist())) < 2:  # nothing to learn: a fold may have one speaker's clips
            every = sorted({*truth.tolist()} or {*self._answers.truth.tolist()})
            return tuple(every), np.zeros((len(every), inputs.shape[1])), np.zeros(len(every))
        fit = fit_full if plan.form == "full" else fit_tied
        return fit(inputs, truth, self._weights[rows], plan.strength)


def subsets(voters: Sequence[str]) -> Iterator[Voters]:
    """Yield the subsets to fit, the largest first, each sorted by name."""
    everyone = sorted(voters)
    for size in range(len(everyone), 0 if len(everyone) <= MOST_VOTERS else len(everyone) - 1, -1):
        yield from combinations(everyone, size)


def mean_loss(scores: FloatArray, truth: Indices, weights: FloatArray) -> float:
    """Return the weighted mean of -log softmax of the true label."""
    right = np.take_along_axis(scores, truth[:, None], axis=1)[:, 0]
    return float(np.average(np.logaddexp.reduce(scores, axis=1) - right, weights=weights))


def _log_shares(parts: Parts, inputs: Numbers) -> FloatArray:
    """Return log-probabilities [N, C]; labels that no fitted clip has get the floor 1e-6."""
    labels, weights, bias = parts
    scores = inputs @ weights.T + bias
    found = np.full((len(inputs), len(LABELS)), 1e-6, np.float32)
    found[:, list(labels)] = np.maximum(softmax(scores.astype(np.float32), axis=1), 1e-6)
    logs: FloatArray = np.log(found)
    return logs


def fit_full(inputs: Numbers, truth: Indices, importance: FloatArray, strength: float) -> Parts:
    """Fit the full form.

    Inputs [N, V * C] are log-probabilities, `truth` [N] indices in LABELS, of which at least two
    occur, `importance` [N] weights of the clips, `strength` the inverse of the L2 penalty.
    """
    solver = LogisticRegression(C=strength, solver="newton-cholesky")
    solver.fit(inputs, truth, sample_weight=importance)
    weights, bias = np.asarray(solver.coef_), np.asarray(solver.intercept_)
    if len(weights) == 1:  # for two labels scikit-learn has one row: second minus first
        weights, bias = np.vstack([-weights, weights]) / 2, np.append(-bias, bias) / 2
    return tuple(int(c) for c in solver.classes_), weights, bias


def fit_tied(inputs: Numbers, truth: Indices, importance: FloatArray, strength: float) -> Parts:
    """Fit the tied form, with scales of at least 0; arguments as for `fit_full`."""
    voters = inputs.shape[1] // len(LABELS)
    labels = sorted({int(c) for c in truth})
    logs = inputs.reshape(len(inputs), voters, len(LABELS))[:, :, labels]  # [N, V, K]
    target = np.array([labels.index(int(c)) for c in truth])
    right = np.eye(len(labels))[target]

    def loss(theta: Numbers) -> tuple[float, Numbers]:
        scores = np.tensordot(logs, theta[:voters], axes=(1, 0)) + theta[voters:]
        scores -= scores.max(axis=1, keepdims=True)
        powers = np.exp(scores)
        shares = powers / powers.sum(axis=1, keepdims=True)
        wrong = (shares - right) * importance[:, None]
        likely = np.log(shares[np.arange(len(target)), target])
        slope = np.append(np.einsum("nvk,nk->v", logs, wrong), wrong.sum(axis=0))
        value = -float(importance @ likely) + float(theta @ theta) / (2.0 * strength)
        return value, slope + theta / strength

    start = np.append(np.full(voters, 1.0 / voters), np.zeros(len(labels)))
    bounds = [(0.0, None)] * voters + [(None, None)] * len(labels)
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = np.zeros((len(labels), voters, len(LABELS)))
    for k, label in enumerate(labels):
        weights[k, :, label] = theta[:voters]
    return tuple(labels), weights.reshape(len(labels), -1), theta[voters:]
