"""Fits meta-classifiers over the answers of all members, as two systems of the challenge have.

    mlp      linear, or one hidden layer, over probabilities and attributes, with mixup (MEDUSA). A
             soup of several runs is uniform: the mean of the weights of runs that begin with the
             same weights and see other mixtures in another order.
    forest   random forests, one per fold of a class-balanced subset, on log-probabilities; the
             mean of their probabilities (UNICAMP)

They give probabilities only if all members have answered. N clips, V voters, K labels, I inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.fitted import Fitted, Integers, Layers, Numbers, Trees
from abhinaya.train.ensemble.answers import FOLDS, Answers
from abhinaya.train.ensemble.logistic import mean_loss
from abhinaya.train.errors import DataError
from abhinaya.train.metrics import Indices, fit_temperature

SOUP: Final = 6
"""Runs whose weights are averaged."""
HIDDEN: Final = ((), (64,))
"""Units of the hidden layers to try."""
MIXUP: Final = 0.2
"""Both parameters of the beta distribution of the shares in a mixture."""
BATCH: Final = 128
RATE: Final = 3e-3
MOST_EPOCHS: Final = 60
TREES: Final = 200


@dataclass(frozen=True)
class _Plan:
    hidden: tuple[int, ...]
    epochs: int
    temperature: float = 1.0


class Networks:
    """Chooses hidden layer and epochs by `folds`, then fits a soup on any rows."""

    def __init__(
        self,
        answers: Answers,
        weights: FloatArray,
        folds: Sequence[tuple[Indices, Indices]],
        seed: int,
        soup: int = SOUP,
    ) -> None:
        self._answers, self._weights, self._seed, self._soup = answers, weights, seed, soup
        self._voters = tuple(sorted(answers.voters))
        self._labels = np.unique(answers.truth)
        self._answered = answers.of(self._voters)
        self._inputs = answers.inputs(self._answered, self._voters, rated=True)
        self._plan = min((self._tried(hidden, folds) for hidden in HIDDEN), key=lambda t: t[0])[1]

    @property
    def plans(self) -> dict[str, str]:
        """Layers, epochs and runs."""
        hidden = f"{self._plan.hidden[0]} hidden units" if self._plan.hidden else "linear"
        about = f"{hidden}, {self._plan.epochs} epochs, uniform soup of {self._soup} runs"
        return {"+".join(self._voters): about}

    def __call__(self, rows: Indices) -> Fitted:
        """Fit on these rows."""
        rows = np.intersect1d(rows, self._answered)
        runs = []
        for run in range(self._soup):
            *_, network = self._epochs(rows, self._plan.hidden, self._plan.epochs, run)
            runs.append(layers_of(network))
        names = tuple(LABELS[c] for c in self._labels)
        mixed = soup_of(runs, self._plan.temperature)
        return Fitted(names, {self._voters: mixed}, False, self._answers.rated)

    def _tried(
        self, hidden: tuple[int, ...], folds: Sequence[tuple[Indices, Indices]]
    ) -> tuple[float, _Plan]:
        """Return the lowest loss on held-out speakers over the epochs, and its plan."""
        answered = self._answered
        truth = np.searchsorted(self._labels, self._answers.truth[answered])
        logs = np.zeros((MOST_EPOCHS, len(answered), len(self._labels)), np.float32)
        for learnt, left in folds:
            rows, here = np.intersect1d(learnt, answered), np.isin(answered, left)
            if not len(rows) or not here.any():
                continue
            for epoch, network in enumerate(self._epochs(rows, hidden, MOST_EPOCHS, 0)):
                logs[epoch, here] = np.log(np.maximum(layers_of(network)(self._inputs[here]), 1e-6))
        weights = self._weights[answered]
        losses = [mean_loss(each, truth, weights) for each in logs]
        best = int(np.argmin(losses))
        temperature = fit_temperature(logs[best], truth, weights)
        loss = mean_loss(logs[best] / temperature, truth, weights)
        return loss, _Plan(hidden, best + 1, temperature)

    def _epochs(
        self, rows: Indices, hidden: tuple[int, ...], epochs: int, run: int
    ) -> Iterator[MLPClassifier]:
        """Yield the network after each epoch; `run` is the seed of order and mixtures."""
        network = MLPClassifier(
            hidden, batch_size=min(BATCH, 2 * len(rows)), learning_rate_init=RATE, shuffle=False,
            random_state=self._seed,
        )  # fmt: skip
        inputs = self._inputs[np.searchsorted(self._answered, rows)]
        truth, weights = self._answers.truth[rows], self._weights[rows]
        rng = np.random.default_rng((self._seed, run))
        for _ in range(epochs):
            mixed, first, second, shares = mixtures(inputs, rng)
            # the loss of a mixed label is the mean of the losses of both labels
            both = np.stack([first, second], axis=1).ravel()
            each = np.stack([shares, 1.0 - shares], axis=1).ravel() * weights[both]
            network.partial_fit(np.repeat(mixed, 2, axis=0), truth[both], each, self._labels)
            yield network


def mixtures(
    inputs: Numbers, rng: np.random.Generator
) -> tuple[Numbers, Integers, Integers, Numbers]:
    """Return each clip mixed with another: inputs [N, I], both rows, share of the first.

    Shares follow Beta(MIXUP, MIXUP).
    """
    first, second = rng.permutation(len(inputs)), rng.permutation(len(inputs))
    shares = rng.beta(MIXUP, MIXUP, len(inputs))
    mixed = shares[:, None] * inputs[first] + (1.0 - shares[:, None]) * inputs[second]
    return mixed, first, second, shares


def soup_of(runs: Sequence[Layers], temperature: float = 1.0) -> Layers:
    """Return the mean of the runs' weights, the scores divided by a temperature."""
    weights = [np.mean(w, axis=0) for w in zip(*(run.weights for run in runs), strict=True)]
    biases = [np.mean(b, axis=0) for b in zip(*(run.biases for run in runs), strict=True)]
    weights[-1], biases[-1] = weights[-1] / temperature, biases[-1] / temperature
    return Layers(tuple(weights), tuple(biases))


def layers_of(network: MLPClassifier) -> Layers:
    """Return the layers of a fitted network."""
    weights = [np.array(w.T) for w in network.coefs_]
    biases = [np.array(b) for b in network.intercepts_]
    if len(network.classes_) == 2:  # one output: second minus first
        weights[-1] = np.vstack([-weights[-1], weights[-1]]) / 2
        biases[-1] = np.append(-biases[-1], biases[-1]) / 2
    return Layers(tuple(weights), tuple(biases))


class Forests:
    """Fits FOLDS forests on any rows, each on the other folds of a subset with equal classes."""

    def __init__(self, answers: Answers, weights: FloatArray, seed: int) -> None:
        self._answers, self._weights, self._seed = answers, weights, seed
        self._voters = tuple(sorted(answers.voters))
        self._labels = np.unique(answers.truth)

    @property
    def plans(self) -> dict[str, str]:
        """Number of forests and trees."""
        return {"+".join(self._voters): f"{FOLDS} forests of {TREES} trees"}

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
        truth = self._answers.truth[rows]
        counts = [int(np.sum(truth == label)) for label in self._labels]
        least = min(counts)
        if least < FOLDS:
            rare = LABELS[self._labels[counts.index(least)]]
            raise DataError(
                f"{rare}: {least} clips are answered by all voters; forests need {FOLDS} of each "
                "label in every fit; leave the label out, or choose --method logistic"
            )
        rng = np.random.default_rng(self._seed)
        chosen = np.sort(
            np.concatenate([rng.permutation(rows[truth == c])[:least] for c in self._labels])
        )
        inputs = self._answers.inputs(chosen, self._voters)
        return inputs, self._answers.truth[chosen], self._weights[chosen]


def trees_of(forests: Sequence[RandomForestClassifier]) -> Trees:
    """Return the trees of fitted forests with the same classes, as one table."""
    trees = [one.tree_ for forest in forests for one in forest.estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    inner = [tree.children_left >= 0 for tree in trees]
    inputs = np.concatenate([np.where(i, t.feature, -1) for i, t in zip(inner, trees, strict=True)])
    others = np.concatenate(
        [t.children_right + start for t, start in zip(trees, starts[:-1], strict=True)]
    )
    values = np.concatenate([tree.value[:, 0] for tree in trees])
    leaves = inputs < 0
    others[leaves] = np.arange(int(leaves.sum()))
    shares = values[leaves] / values[leaves].sum(axis=1, keepdims=True)
    thresholds = np.concatenate([tree.threshold for tree in trees])
    return Trees(
        starts[:-1].astype(np.int64), inputs, np.where(leaves, 0.0, thresholds), others, shares
    )
