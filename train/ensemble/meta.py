"""Meta-classifiers over the answers of all members: `mlp`, as MEDUSA's, and `forest`, as UNICAMP's.

An `mlp` is linear or has one hidden layer, and learns from mixtures of two clips. Its soup is
uniform: the mean of the weights of runs that begin with the same ones and see other mixtures.
"""

from __future__ import annotations

from itertools import product
from typing import Final, NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.convert import layers_of, soup_of, trees_of
from abhinaya.models.vote.fitted import Fitted, Layers, Numbers
from abhinaya.train.ensemble.answers import FOLDS, Answers
from abhinaya.train.errors import DataError
from abhinaya.train.metrics import Indices

SOUP: Final = 6
"""Runs whose weights are averaged."""
HIDDEN: Final = (0, 64)
EPOCHS: Final = (10, 30)
"""Units of the hidden layer (0: none), and epochs, to try."""
MIXUP: Final = 0.2
"""Both parameters of the beta distribution of the shares in a mixture."""
BATCH: Final = 128
RATE: Final = 3e-3
TREES: Final = 200


class Network(NamedTuple):
    """Settings of an `mlp`."""

    hidden: int
    epochs: int
    seed: int
    soup: int

    def __str__(self) -> str:
        layer = f"{self.hidden} hidden units" if self.hidden else "linear"
        return f"{layer}, {self.epochs} epochs, uniform soup of {self.soup} runs"

    def fit(
        self, inputs: Numbers, truth: Indices, importance: FloatArray, labels: Indices
    ) -> Layers:
        """Fit a soup on inputs [N, I]; `truth` [N] and `labels` [K] are indices in LABELS."""
        return soup_of([self._run(r, inputs, truth, importance, labels) for r in range(self.soup)])

    def _run(
        self, run: int, inputs: Numbers, truth: Indices, importance: FloatArray, labels: Indices
    ) -> Layers:
        network = MLPClassifier(
            (self.hidden,) if self.hidden else (), batch_size=min(BATCH, 2 * len(inputs)),
            learning_rate_init=RATE, shuffle=False, random_state=self.seed,
        )  # fmt: skip
        rng = np.random.default_rng((self.seed, run))
        for _ in range(self.epochs):
            first, second = rng.permutation(len(inputs)), rng.permutation(len(inputs))
            shares = rng.beta(MIXUP, MIXUP, len(inputs))
            mixed = (shares * inputs[first].T + (1.0 - shares) * inputs[second].T).T
            # the loss of a mixed label is the mean of the losses of both labels
            both = np.stack([first, second], axis=1).ravel()
            each = np.stack([shares, 1.0 - shares], axis=1).ravel() * importance[both]
            network.partial_fit(np.repeat(mixed, 2, axis=0), truth[both], each, labels)
        return layers_of(network)


def networks(seed: int, soup: int) -> list[Network]:
    """Return the settings to try."""
    return [Network(*pair, seed, soup) for pair in product(HIDDEN, EPOCHS)]


class Forests:
    """Fits FOLDS forests on any rows, each on the other folds of a subset with equal classes."""

    def __init__(self, answers: Answers, weights: FloatArray, seed: int) -> None:
        self._answers, self._weights, self._seed = answers, weights, seed
        self._voters = tuple(sorted(answers.voters))
        self._labels = np.unique(answers.truth)
        self.plans = {"+".join(self._voters): f"{FOLDS} forests of {TREES} trees"}

    def __call__(self, rows: Indices) -> Fitted:
        """Fit on these rows. Raises DataError: a label has fewer clips than there are forests."""
        inputs, truth, weights = self.balanced(rows)
        cut = StratifiedKFold(FOLDS, shuffle=True, random_state=self._seed)
        forests = []
        for fold, (learnt, _) in enumerate(cut.split(inputs, truth)):
            forest = RandomForestClassifier(
                TREES, max_depth=8, min_samples_split=10, min_samples_leaf=10,
                random_state=self._seed + fold, n_jobs=-1,
            )  # fmt: skip
            forests.append(forest.fit(inputs[learnt], truth[learnt], weights[learnt]))
        names = tuple(LABELS[c] for c in self._labels)
        return Fitted(names, {self._voters: trees_of(forests)})

    def balanced(self, rows: Indices) -> tuple[Numbers, Indices, FloatArray]:
        """Return inputs, truth and weights of equally many clips of each label."""
        rows = np.intersect1d(rows, self._answers.of(self._voters))
        groups = [rows[self._answers.truth[rows] == label] for label in self._labels]
        least = min(map(len, groups))
        if least < FOLDS:
            rare = next(c for c, g in zip(self._labels, groups, strict=True) if len(g) == least)
            raise DataError(
                f"{LABELS[rare]}: {least} clips are answered by all voters; forests need {FOLDS} "
                "of each label in every fit; leave the label out, or choose --method logistic"
            )
        rng = np.random.default_rng(self._seed)
        chosen = np.sort(np.concatenate([rng.permutation(group)[:least] for group in groups]))
        inputs = self._answers.inputs(chosen, self._voters)
        return inputs, self._answers.truth[chosen], self._weights[chosen]
