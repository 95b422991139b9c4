"""Chooses the settings of a fit by folds of speakers, then fits on any clips.

There is a fit for each subset of up to six voters, so a missing voter needs no substitute; of more
voters, or for an `mlp`, only for all together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.fitted import Fitted, Layers
from abhinaya.train.ensemble.answers import LEAST_CLIPS, Answers, Voters
from abhinaya.train.ensemble.logistic import Regression
from abhinaya.train.ensemble.meta import Network
from abhinaya.train.metrics import Flags, Indices, fit_temperature

MOST_VOTERS: Final = 6
Settings = Regression | Network
Folds = Sequence[tuple[Indices, Indices]]
"""Rows to fit on and rows held out of each fold."""


class Chosen:
    """The settings with the lowest loss on held-out speakers, for each set of voters."""

    def __init__(
        self,
        answers: Answers,
        weights: FloatArray,
        folds: Folds,
        settings: Sequence[Settings],
        rated: bool = False,
    ) -> None:
        self._answers, self._weights, self._rated = answers, weights, rated
        self._labels = np.unique(answers.truth)
        sets = [tuple(sorted(answers.voters))] if rated else subsets(answers.voters)
        self._rows = {v: rows for v in sets if len(rows := answers.of(v)) >= LEAST_CLIPS}
        self._inputs = {v: answers.inputs(rows, v, rated) for v, rows in self._rows.items()}
        self._best = {
            voters: min((self._tried(voters, one, folds) for one in settings), key=lambda t: t[0])
            for voters in self._rows
        }
        self.plans = {"+".join(voters): str(one) for voters, (_, one, _) in self._best.items()}

    def __call__(self, rows: Indices) -> Fitted:
        """Fit all sets of voters on these rows."""
        models = {}
        for voters, (_, settings, temperature) in self._best.items():
            fit = self._fit(voters, settings, np.isin(self._rows[voters], rows))
            last = fit.weights[-1] / temperature, fit.biases[-1] / temperature
            models[voters] = Layers((*fit.weights[:-1], last[0]), (*fit.biases[:-1], last[1]))
        names = tuple(LABELS[c] for c in self._labels)
        rated = self._answers.rated if self._rated else frozenset()
        return Fitted(names, models, not self._rated, rated)

    def _fit(self, voters: Voters, settings: Settings, here: Flags) -> Layers:
        rows, inputs = self._rows[voters][here], self._inputs[voters][here]
        return settings.fit(inputs, self._answers.truth[rows], self._weights[rows], self._labels)

    def _tried(
        self, voters: Voters, settings: Settings, folds: Folds
    ) -> tuple[float, Settings, float]:
        """Return the loss on held-out speakers, the settings, and their temperature."""
        answered = self._rows[voters]
        logs = np.zeros((len(answered), len(self._labels)), np.float32)
        for learnt, left in folds:
            known, here = np.isin(answered, learnt), np.isin(answered, left)
            if known.any() and here.any():
                shares = self._fit(voters, settings, known)(self._inputs[voters][here])
                logs[here] = np.log(np.maximum(shares, 1e-6))
        truth = np.searchsorted(self._labels, self._answers.truth[answered])
        temperature = fit_temperature(logs, truth, self._weights[answered])
        scores = logs / temperature
        losses = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(truth)), truth]
        loss = np.average(losses, weights=self._weights[answered])
        return float(loss), settings, temperature


def subsets(voters: Sequence[str]) -> Iterator[Voters]:
    """Yield the subsets to fit, the largest first, each sorted by name."""
    everyone = sorted(voters)
    least = 1 if len(everyone) <= MOST_VOTERS else len(everyone)
    for size in range(len(everyone), least - 1, -1):
        yield from combinations(everyone, size)
