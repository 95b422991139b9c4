"""A fitted combiner: logistic regression on the voters' log-probabilities.

There is one regression for each subset of voters that may answer, fitted on their answers alone.
So a missing voter needs no substitute. EMOJUDGE (Interspeech 2025) fits one regression on the
concatenated scores of its two models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import Ballot
from abhinaya.models.labels import LABELS

Method = Literal["majority", "mean", "weighted", "logistic"]
"""Name of a vote rule, see `ensemble`."""

Numbers = npt.NDArray[np.float64]

FLOOR: Final = 0.01
"""Lowest probability in a logarithm. Without it, one voter that gives a label probability 0 would
outvote all others; a voter without probabilities gives 0 to all labels but one."""


@dataclass(frozen=True, slots=True)
class Regression:
    """The regression of one subset of voters: V voters, K labels."""

    voters: tuple[str, ...]
    """[V] names, sorted, in the order of the columns."""
    weights: Numbers
    """[K, V * C] weights of the log-probabilities, voter by voter."""
    bias: Numbers
    """[K] bias of each label."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """Regressions by the voters that answered."""

    labels: tuple[str, ...]
    """[K] labels of the fit, some of LABELS. Other labels get probability 0."""
    regressions: Mapping[frozenset[str], Regression]

    def probabilities(self, ballots: Mapping[str, Ballot]) -> tuple[float, ...] | None:
        """Return probabilities [C]; None if no regression was fitted for these voters."""
        fitted = self.regressions.get(frozenset(ballots))
        if fitted is None:
            return None
        inputs = features([ballots[voter] for voter in fitted.voters])
        scores = (fitted.weights @ inputs + fitted.bias).tolist()
        most = max(scores)
        powers = [math.exp(score - most) for score in scores]
        total = math.fsum(powers)
        shares = dict.fromkeys(LABELS, 0.0)
        for label, power in zip(self.labels, powers, strict=True):
            shares[label] = power / total
        return tuple(shares.values())


def features(ballots: Sequence[Ballot]) -> Numbers:
    """Return log-probabilities [V * C] of V ballots; a bare label has probability 1."""
    given: list[float] = []
    for ballot in ballots:
        given += ballot.probabilities or [float(label == ballot.label) for label in LABELS]
    logs: Numbers = np.log(np.maximum(given, FLOOR))
    return logs


@dataclass(frozen=True, slots=True)
class Member:
    """A voter that a combiner was fitted on."""

    model: str = ""
    """Empty if the predictions did not name the model."""
    version: str = ""
    temperature: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Combiner:
    """A vote rule fitted on predictions for speakers that no voter was trained on."""

    method: Method
    members: Mapping[str, Member]
    """Members by voter name."""
    min_confidence: float = 0.0
    """Confidence below which the label is `unknown`; 0 never withholds a label."""
    logistic: Logistic | None = None
    """Regressions, for the method `logistic`."""
    made_by: str = ""
    """Command that wrote the file."""
    fitted_on: Mapping[str, object] = field(default_factory=dict)
    """Data, its hash and the chosen options, for information."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """Cross-validated figures on speakers left out of each fit, for information."""

    @property
    def temperatures(self) -> dict[str, float]:
        """Temperature of each voter."""
        return {name: member.temperature for name, member in self.members.items()}

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each voter in the weighted mean."""
        return {name: member.weight for name, member in self.members.items()}

    def fault(self, voter: str, model: str, version: str = "") -> str:
        """Return why the combiner cannot use this voter; empty if it can."""
        member = self.members.get(voter)
        if member is None:
            return f"it was fitted on {', '.join(sorted(self.members))}, not on {voter}"
        if member.model and model != member.model:
            return f"it was fitted on {voter} as {member.model}, which is now {model}"
        if member.version and version and version != member.version:
            return f"it was fitted on {member.model} {member.version} as {voter}, not {version}"
        return ""
