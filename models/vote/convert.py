"""Takes the arrays out of what scikit-learn has fitted, and averages them. Does not import it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from abhinaya.models.vote.fitted import Layers, Numbers, Trees


def both_rows(weights: Numbers, bias: Numbers) -> tuple[Numbers, Numbers]:
    """Return a row for each label: for two labels scikit-learn has one, second minus first."""
    if len(bias) > 1:
        return weights, bias
    return np.vstack([-weights, weights]) / 2, np.append(-bias, bias) / 2


def soup_of(runs: Sequence[Layers]) -> Layers:
    """Return the mean of the runs' weights."""
    layers = range(len(runs[0].weights))
    return Layers(
        tuple(np.mean([run.weights[i] for run in runs], axis=0) for i in layers),
        tuple(np.mean([run.biases[i] for run in runs], axis=0) for i in layers),
    )


def layers_of(network: Any) -> Layers:
    """Return the layers of a fitted network."""
    layers = [both_rows(w.T, b) for w, b in zip(network.coefs_, network.intercepts_, strict=True)]
    weights, biases = zip(*layers, strict=True)
    return Layers(weights, biases)


def trees_of(forests: Sequence[Any]) -> Trees:
    """Return the trees of fitted forests with the same classes, as one table."""
    trees = [one.tree_ for forest in forests for one in forest.estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    leaves = np.concatenate([tree.children_left < 0 for tree in trees])
    inputs = np.where(leaves, -1, np.concatenate([tree.feature for tree in trees]))
    others = np.concatenate([t.children_right + s for t, s in zip(trees, starts, strict=True)])
    others[leaves] = np.arange(int(leaves.sum()))
    thresholds = np.where(leaves, 0.0, np.concatenate([tree.threshold for tree in trees]))
    shares = np.concatenate([tree.value[:, 0] for tree in trees])[leaves]
    return Trees(starts, inputs, thresholds, others, shares / shares.sum(axis=1, keepdims=True))
