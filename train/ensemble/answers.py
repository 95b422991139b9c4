"""The answers of several voters, and what each fit needs: weights of clips, folds, temperatures."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils.class_weight import compute_sample_weight

from abhinaya.models.base import Ballot, FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.fitted import Numbers, features
from abhinaya.train.errors import DataError
from abhinaya.train.metrics import Indices, fit_temperature

Prior = str | float
"""How frequent labels are where a fit is used: balanced, corpus, or the share of neutral."""
LEAST_CLIPS: Final = 50
"""Fewest clips that all voters of a fit have answered."""
FOLDS: Final = 5
NEUTRAL: Final = LABELS.index("neutral")
Voters = tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """Answers of V voters about N clips."""

    votes: tuple[dict[str, Ballot], ...]
    """[N] vote by voter; a voter without an answer is absent."""
    truth: Indices
    """[N] indices in LABELS."""
    speakers: tuple[Hashable, ...]
    """[N] speaker of each clip."""
    voters: Voters

    @cached_property
    def shares(self) -> Numbers:
        """[N, V, C] probabilities; NaN without an answer."""
        found = np.full((len(self.votes), len(self.voters), len(LABELS)), np.nan)
        for i, votes in enumerate(self.votes):
            for v, voter in enumerate(self.voters):
                if voter in votes:
                    found[i, v] = features(votes[voter], logs=False)
        return found

    @cached_property
    def rated(self) -> frozenset[str]:
        """Voters that gave attributes with each answer."""
        given = {v: [b for votes in self.votes if (b := votes.get(v))] for v in self.voters}
        return frozenset(v for v, of in given.items() if of and all(b.attributes for b in of))

    def of(self, voters: Sequence[str]) -> Indices:
        """Return the rows of clips that all of `voters` answered."""
        columns = [self.voters.index(voter) for voter in voters]
        return np.flatnonzero(~np.isnan(self.shares[:, columns, 0]).any(axis=1))

    def inputs(self, rows: Indices, voters: Sequence[str], rated: bool = False) -> Numbers:
        """Return the inputs [len(rows), I] of a model of these voters: log-probabilities.

        With `rated` they are probabilities, and the attributes of the voters that give some.
        """
        known = self.rated if rated else frozenset()
        whole = [[features(self.votes[i][v], not rated, v in known) for v in voters] for i in rows]
        return np.array([np.concatenate(of) for of in whole])

    def temperature(self, voter: str, rows: Indices, weights: FloatArray) -> float:
        """Return the temperature of a voter's probabilities; 1 if it gives none."""
        known = [i for i in rows if (b := self.votes[i].get(voter)) and b.probabilities is not None]
        if not known:
            return 1.0
        logs = np.log(np.maximum(self.shares[known, self.voters.index(voter)], 1e-6))
        return fit_temperature(logs.astype(np.float32), self.truth[known], weights[known])


def importance(truth: Indices, prior: Prior) -> FloatArray:
    """Return clip weights [N], 1 on average, with which labels have the frequencies of `prior`."""
    if prior == "corpus":
        return np.ones(len(truth), np.float32)
    weights, labels = compute_sample_weight("balanced", truth), len(np.unique(truth))
    if isinstance(prior, float) and NEUTRAL in truth and labels > 1:
        rest = (1.0 - prior) / (labels - 1)
        weights *= labels * np.where(truth == NEUTRAL, prior, rest)
    return np.asarray(weights, np.float32)


def prior_of(text: str) -> Prior:
    """Return the prior that --prior names. Raises DataError if it names none."""
    if text in ("balanced", "corpus"):
        return text
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise DataError(
            f"--prior {text}: give balanced, corpus, or the share of neutral between 0 and 1"
        )
    return share


def folds_of(
    speakers: Sequence[Hashable], truth: Indices, seed: int
) -> Iterator[tuple[Indices, Indices]]:
    """Yield (rows to fit on, rows held out) of each fold; no speaker is in both.

    Raises DataError: a clip has no speaker, or there is only one.
    """
    if not all(speakers):
        raise DataError("some clips have no speaker, so folds cannot be made; leave them out")
    names, groups = np.unique([str(s) for s in speakers], return_inverse=True)
    if len(names) < 2:
        raise DataError("clips of one speaker: a fit on them could not be measured on another")
    cut = StratifiedGroupKFold(min(FOLDS, len(names)), shuffle=True, random_state=seed)
    yield from cut.split(groups, truth, groups)
