"""Logistic regression on log-probabilities of voters, in two forms.

    full   every label's score hears every probability of every voter: what EMOJUDGE fits
    tied   score of label c = bias of c + sum over voters of scale of v x log-probability of c by v

The full form has C times as many numbers and learns that one voter's fear means sad; with few
speakers it learns the speakers. The tied form is a weighted product of what the voters say.
N clips, V voters, C labels, K labels that occur.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.combiner import Numbers
from abhinaya.train.metrics import Indices

Form = Literal["tied", "full"]
Parts = tuple[tuple[int, ...], Numbers, Numbers]
"""Labels [K] by index, weights [K, V * C], bias [K]."""


def fit_full(inputs: Numbers, truth: Indices, importance: FloatArray, strength: float) -> Parts:
    """Fit every weight; `strength` is C, the inverse of the L2 penalty.

    Args:
        inputs: [N, V * C].
        truth: [N] index in LABELS; at least two labels occur.
        importance: [N] how much each clip counts.
        strength: C.

    """
    solver = LogisticRegression(C=strength, solver="newton-cholesky")
    solver.fit(inputs, truth, sample_weight=importance)
    weights, bias = np.asarray(solver.coef_), np.asarray(solver.intercept_)
    if len(weights) == 1:  # of two labels it keeps the second's lead over the first
        weights, bias = np.vstack([-weights, weights]) / 2, np.append(-bias, bias) / 2
    return tuple(int(c) for c in solver.classes_), weights, bias


def fit_tied(inputs: Numbers, truth: Indices, importance: FloatArray, strength: float) -> Parts:
    """Fit a scale of each voter, not below 0, and a bias of each label; arguments as `fit_full`."""
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
