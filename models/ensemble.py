"""How votes become one label: pure functions of the ballots and a rule.

    majority   the label with the most votes; on a tie, the tie-breaker (the published rule)
    mean       the label with the highest mean probability
    weighted   the same with a weight for each voter

Nothing here depends on the order in which votes came in: sums are exact (`math.fsum`), and where
order must decide, `priority` does, then the voter's name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from abhinaya.models.base import Ballot
from abhinaya.models.labels import LABELS, UNKNOWN

Method = Literal["majority", "mean", "weighted"]
TiePolicy = Literal["tiebreaker_label", "tiebreaker_within_tied"]

PRIORITY: Final = ("S2", "ST1", "S1", "T2", "T1")
"""Who breaks ties. The paper names S2, and ST1 where S2 is not in the line-up; the rest of the
order, by score alone, is this project's convention."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How to decide.

    Raises:
        ValueError: a weight is negative or not a number, or the quorum is below 1.

    """

    method: Method = "majority"
    tie_policy: TiePolicy = "tiebreaker_label"
    """On a tie of the majority: `tiebreaker_label` takes the label of the first voter present,
    whether or not it is among the tied labels; `tiebreaker_within_tied` that of the first voter
    present whose label is."""
    priority: tuple[str, ...] = PRIORITY
    """Who comes first on a tie. Voters that are not named here come last, in the order of their
    names."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of `weighted`: by voter; 1 for a voter that is not named."""
    quorum: int = 1
    """Votes below which the label is `unknown`."""

    def __post_init__(self) -> None:
        for voter, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {voter} must be 0 or more, not {weight}")
        if self.quorum < 1:
            raise ValueError(f"the quorum must be at least 1, not {self.quorum}")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the ballots say together."""

    label: str
    """One of LABELS, or UNKNOWN."""
    confidence: float | None
    """Mean probability that the voters present give to the label, over those that give any; None
    where none does. The same measure under every rule, so never more than the voters claim."""
    agreement: float
    """Share of the votes cast that are for the label; 0 for `unknown`."""
    margin: float
    """Lead over the runner-up: share of votes (majority) or mean probability; 0 on a tie."""
    reason: str = ""
    """Why the label is `unknown`."""
    tie_breaker: str = ""
    """The voter that broke a tie; empty where there was none."""


def decide(ballots: Mapping[str, Ballot], rule: Rule) -> Decision:
    """Decide on the ballots present, by voter.

    A voter that gives just a label counts in the means as if it gave that label probability 1
    (a weight tames it) and has no say in the confidence.

    Raises:
        ValueError: a ballot carries a label that is none of LABELS, or not one probability a label.

    """
    for voter, ballot in ballots.items():
        _check(voter, ballot)
    if len(ballots) < rule.quorum:
        cast = "1 vote" if len(ballots) == 1 else f"{len(ballots)} votes"
        return _unknown(f"{cast} of at least {rule.quorum}")
    scores = _shares(ballots) if rule.method == "majority" else _means(ballots, rule)
    if not scores:
        return _unknown("no voter that answered has a weight")
    label, tie_breaker = _choose(scores, ballots, rule)
    return Decision(
        label=label,
        confidence=_confidence(label, ballots.values()),
        agreement=sum(ballot.label == label for ballot in ballots.values()) / len(ballots),
        margin=_margin(scores),
        tie_breaker=tie_breaker,
    )


def order(voters: Iterable[str], priority: tuple[str, ...]) -> list[str]:
    """Sort voters as a tie asks them: by `priority`, then those it does not name, by name."""
    rank = {voter: place for place, voter in enumerate(priority)}
    return sorted(voters, key=lambda voter: (rank.get(voter, len(rank)), voter))


def _shares(ballots: Mapping[str, Ballot]) -> dict[str, float]:
    """Give each label's share of the votes; equal counts give equal shares."""
    counts = Counter(ballot.label for ballot in ballots.values())
    return {label: count / len(ballots) for label, count in counts.items()}


def _means(ballots: Mapping[str, Ballot], rule: Rule) -> dict[str, float]:
    """Give each label's mean probability; empty if the voters present weigh nothing."""
    weights = {
        voter: rule.weights.get(voter, 1.0) if rule.method == "weighted" else 1.0
        for voter in ballots
    }
    total = math.fsum(weights.values())
    if total == 0:
        return {}
    vectors = [(weights[voter], _distribution(ballot)) for voter, ballot in ballots.items()]
    return {
        label: math.fsum(weight * vector[c] for weight, vector in vectors) / total
        for c, label in enumerate(LABELS)
    }


def _distribution(ballot: Ballot) -> tuple[float, ...]:
    """Give probabilities [C], all on the label where the voter gives no others."""
    if ballot.probabilities is not None:
        return ballot.probabilities
    return tuple(float(label == ballot.label) for label in LABELS)


def _choose(
    scores: Mapping[str, float], ballots: Mapping[str, Ballot], rule: Rule
) -> tuple[str, str]:
    """Give the label with the highest score, and who broke the tie if there was one."""
    best = max(scores.values())
    tied = {label for label, score in scores.items() if score == best}
    if len(tied) == 1:
        return tied.pop(), ""
    voters = order(ballots, rule.priority)
    if rule.method == "majority" and rule.tie_policy == "tiebreaker_label":
        return ballots[voters[0]].label, voters[0]
    for voter in voters:
        if ballots[voter].label in tied:
            return ballots[voter].label, voter
    # Only means can tie on labels that nobody voted for; then the order of LABELS is as good.
    return min(tied, key=LABELS.index), ""


def _margin(scores: Mapping[str, float]) -> float:
    first, *rest = sorted(scores.values(), reverse=True)
    return first - (rest[0] if rest else 0.0)


def _confidence(label: str, ballots: Iterable[Ballot]) -> float | None:
    column = LABELS.index(label)
    given = [b.probabilities[column] for b in ballots if b.probabilities is not None]
    return math.fsum(given) / len(given) if given else None


def _unknown(reason: str) -> Decision:
    return Decision(UNKNOWN, confidence=None, agreement=0.0, margin=0.0, reason=reason)


def _check(voter: str, ballot: Ballot) -> None:
    if ballot.label not in LABELS:
        raise ValueError(f"{voter} voted for {ballot.label!r}, which is none of {LABELS}")
    if ballot.probabilities is not None and len(ballot.probabilities) != len(LABELS):
        raise ValueError(
            f"{voter} gave {len(ballot.probabilities)} probabilities for {len(LABELS)} labels"
        )
