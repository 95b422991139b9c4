"""A fitted combiner: logistic regression on the voters' log-probabilities, for whoever answered.

One regression for each subset of the voters that may answer, each fitted on just their answers: a
missing voter then needs no stand-in, and what is left is weighed as it deserves without it. After
EMOJUDGE (Interspeech 2025), which fits one on the concatenated scores of its two models.
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
"""How votes become a label: see models.ensemble."""

Numbers = npt.NDArray[np.float64]

FLOOR: Final = 0.01
"""Probabilities count as at least this much: one voter's certainty that a label is impossible must
not outvote all others, and a voter that gives just a label gives the rest nothing."""


@dataclass(frozen=True, slots=True)
class Regression:
    """Of one subset of V voters, over K labels."""

    voters: tuple[str, ...]
    """[V] in the order of the columns, sorted by name."""
    weights: Numbers
    """[K, V * C] of the voters' log-probabilities, voter by voter."""
    bias: Numbers
    """[K]."""


@dataclass(frozen=True, slots=True)
class Logistic:
    """Regressions by who answered."""

    labels: tuple[str, ...]
    """[K] labels that it can give, some of LABELS: those that it was fitted on."""
    regressions: Mapping[frozenset[str], Regression]

    def probabilities(self, ballots: Mapping[str, Ballot]) -> tuple[float, ...] | None:
        """Give probabilities [C], or None if it was not fitted for these voters."""
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
    """Log-probabilities [V * C] of V ballots, floored; of a bare label, as if it were certain."""
    given: list[float] = []
    for ballot in ballots:
        given += ballot.probabilities or [float(label == ballot.label) for label in LABELS]
    logs: Numbers = np.log(np.maximum(given, FLOOR))
    return logs


@dataclass(frozen=True, slots=True)
class Member:
    """What is known of a voter that a combiner was fitted on."""

    model: str = ""
    """Empty if its predictions did not say."""
    version: str = ""
    temperature: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Combiner:
    """What was fitted on predictions of people whom no voter was trained on."""

    method: Method
    members: Mapping[str, Member]
    """By voter."""
    min_confidence: float = 0.0
    """Below it the label is withheld; 0 withholds nothing."""
    logistic: Logistic | None = None
    """Of the method `logistic`."""
    made_by: str = ""
    """The command."""
    fitted_on: Mapping[str, object] = field(default_factory=dict)
    """Data, its hash and what was chosen, for people."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """What it gave on speakers left out of each fit, for people."""

    @property
    def temperatures(self) -> dict[str, float]:
        """Temperature of each voter."""
        return {name: member.temperature for name, member in self.members.items()}

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each voter in the weighted mean."""
        return {name: member.weight for name, member in self.members.items()}

    def fault(self, voter: str, model: str, version: str = "") -> str:
        """Say why it cannot combine the votes of this voter, if so."""
        member = self.members.get(voter)
        if member is None:
            return f"it was fitted on {', '.join(sorted(self.members))}, not on {voter}"
        if member.model and model != member.model:
            return f"it was fitted on {voter} as {member.model}, which is now {model}"
        if member.version and version and version != member.version:
            return f"it was fitted on {member.model} {member.version} as {voter}, not {version}"
        return ""
