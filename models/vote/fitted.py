"""Fitted functions of the votes: from the answers of V voters to probabilities of K labels.

    Layers   multinomial logistic regression, or a network with one hidden layer
    Trees    the mean over decision trees

and from their attributes to fused ones (`Fusion`).

They need numpy alone; `abhinaya train ensemble` fits them with scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import Ballot
from abhinaya.models.labels import HIGH, LABELS, LOW, Attributes

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FLOOR: Final = 0.01
"""Lowest probability in a logarithm. Without it, one voter that gives a label probability 0 would
outvote all others; a voter without probabilities gives 0 to all labels but one."""


class Model(Protocol):
    """A function of inputs [I]."""

    def __call__(self, inputs: Numbers) -> Numbers:
        """Return probabilities [K]."""
        ...


@dataclass(frozen=True, slots=True)
class Layers:
    """Linear layers with rectified units between them, and a softmax at the end."""

    weights: tuple[Numbers, ...]
    """[outputs, inputs] of each layer; K outputs of the last."""
    biases: tuple[Numbers, ...]
    """[outputs] of each layer."""

    def __call__(self, inputs: Numbers) -> Numbers:
        """Return probabilities [..., K] of inputs [..., I]."""
        for weights, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            inputs = np.maximum(inputs @ weights.T + bias, 0.0)
        scores = inputs @ self.weights[-1].T + self.biases[-1]
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares: Numbers = powers / powers.sum(axis=-1, keepdims=True)
        return shares


@dataclass(frozen=True, slots=True)
class Trees:
    """Decision trees, their nodes in one table of M rows; after an inner node comes its left one.

    An inner node sends inputs with `input <= threshold` to the left.
    """

    roots: Integers
    """[T] row of the root of each tree."""
    inputs: Integers
    """[M] index of the input that an inner node looks at; -1 for a leaf."""
    thresholds: Numbers
    """[M] 0 for a leaf."""
    others: Integers
    """[M] row of the right node; of a leaf, its row in `shares`."""
    shares: Numbers
    """[leaves, K] probabilities."""

    def __call__(self, inputs: Numbers) -> Numbers:
        """Return probabilities [K] of inputs [I], in the precision of scikit-learn's trees."""
        given, at = inputs.astype(np.float32), self.roots
        while (inner := self.inputs[at] >= 0).any():
            left = given[self.inputs[at]] <= self.thresholds[at]
            at = np.where(inner, np.where(left, at + 1, self.others[at]), at)
        mean: Numbers = self.shares[self.others[at]].mean(axis=0)
        return mean


@dataclass(frozen=True, slots=True)
class Fitted:
    """Models by the voters that answered."""

    labels: tuple[str, ...]
    """[K] labels of the fit, some of LABELS. Other labels get probability 0."""
    models: Mapping[tuple[str, ...], Model]
    """By the names of voters, sorted, in the order of the inputs."""
    logs: bool = True
    """Whether the inputs are log-probabilities."""
    rated: frozenset[str] = frozenset()
    """Voters whose attributes are inputs too."""

    def probabilities(self, ballots: Mapping[str, Ballot]) -> tuple[float, ...] | None:
        """Return probabilities [C]; None if nothing was fitted for these answers."""
        voters = tuple(sorted(ballots))
        model = self.models.get(voters)
        if model is None or any(ballots[v].attributes is None for v in self.rated & {*voters}):
            return None
        shares = dict.fromkeys(LABELS, 0.0)
        given = np.concatenate(
            [features(ballots[v], self.logs, v in self.rated) for v in voters], dtype=np.float64
        )
        shares.update(zip(self.labels, model(given).tolist(), strict=True))
        return tuple(shares.values())


def features(ballot: Ballot, logs: bool = True, rated: bool = False) -> Numbers:
    """Return (log-)probabilities [C]; with `rated`, attributes from 0 to 1 behind them [C + 3].

    A bare label has probability 1.
    """
    given = ballot.probabilities or [float(label == ballot.label) for label in LABELS]
    shares = np.log(np.maximum(given, FLOOR)) if logs else np.array(given)
    if not rated or ballot.attributes is None:
        return shares
    return np.append(shares, (np.array(ballot.attributes) - LOW) / (HIGH - LOW))


@dataclass(frozen=True, slots=True)
class Fusion:
    """Linear functions of the attributes of several voters, by the voters that gave them."""

    models: Mapping[tuple[str, ...], tuple[Numbers, Numbers]]
    """By the names of V voters, sorted: weights [3, V * 3], bias [3], on the scale 1 to 7."""

    def __call__(self, given: Mapping[str, Sequence[float]]) -> Attributes:
        """Return the attributes; without a model of these voters, the mean."""
        voters = tuple(sorted(given))
        values = np.array([given[voter] for voter in voters])
        if voters not in self.models:
            return limited(values.mean(axis=0))
        weights, bias = self.models[voters]
        return limited(weights @ values.ravel() + bias)


MEAN: Final = Fusion({})


def limited(values: Numbers) -> Attributes:
    """Return attributes [3], cut off at the ends of their scale."""
    return Attributes(*np.clip(values, LOW, HIGH).tolist())
