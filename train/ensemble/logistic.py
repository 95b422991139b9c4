"""Fits regressions on the log-probabilities of V voters, in one of two forms.

full: each label's score depends on all probabilities of all voters, as in EMOJUDGE. It can learn
that one voter's fear means sad, but with few speakers it overfits to them.
tied: score of label c = bias of c + sum over voters of scale of v x log-probability of c by v
"""

from __future__ import annotations

from itertools import product
from typing import Final, NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.convert import both_rows
from abhinaya.models.vote.fitted import Layers, Numbers
from abhinaya.train.metrics import Indices

GRID: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Values of C, the inverse strength of L2, to try."""
NEVER: Final = -50.0
"""Bias of a label that no clip of a fit has."""


class Regression(NamedTuple):
    """Settings of a regression."""

    form: str
    strength: float
    """C, the inverse strength of L2."""

    def __str__(self) -> str:
        return f"{self.form}, C {self.strength:g}"

    def fit(
        self, inputs: Numbers, truth: Indices, importance: FloatArray, labels: Indices
    ) -> Layers:
        """Fit it on inputs [N, V * C]; `truth` [N] and `labels` [K] are indices in LABELS."""
        known = np.unique(truth)
        weights, bias = np.zeros((len(labels), inputs.shape[1])), np.full(len(labels), NEVER)
        places = np.searchsorted(labels, known)
        bias[places] = 0.0
        if len(known) > 1:  # a fold may have one speaker's clips
            if self.form == "tied":
                found = fit_tied(inputs, truth, importance, self.strength)
            else:
                solver = LogisticRegression(C=self.strength, solver="newton-cholesky")
                solver.fit(inputs, truth, sample_weight=importance)
                found = both_rows(solver.coef_, solver.intercept_)
            weights[places], bias[places] = found
        return Layers((weights,), (bias,))


REGRESSIONS: Final = [Regression(*pair) for pair in product(("tied", "full"), GRID)]
"""Settings to try."""


def fit_tied(
    inputs: Numbers, truth: Indices, importance: FloatArray, strength: float
) -> tuple[Numbers, Numbers]:
    """Return weights [K, V * C] and bias [K] of the labels in `truth`; no scale is below 0."""
    voters = inputs.shape[1] // len(LABELS)
    labels, target = np.unique(truth, return_inverse=True)
    logs = inputs.reshape(len(inputs), voters, len(LABELS))[:, :, labels]  # [N, V, K]
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
    return weights.reshape(len(labels), -1), theta[voters:]
