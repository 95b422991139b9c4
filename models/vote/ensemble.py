"""Decides the label: votes and a vote rule give one label. Called by `stream/hub/aggregator.py`.

    majority   the label with the most votes; on a tie, the tie-breaker (the published rule)
    mean       the label with the highest mean probability
    weighted   the same with a weight for each voter
    logistic   the label with the highest probability by a fitted regression (models.combiner)

A decision that is less confident than the rule asks for is withheld: its label is `unknown`, and it
says which label was leading, with which confidence.

Nothing here depends on the order in which votes came in: sums are exact (`math.fsum`), and where
order must decide, `priority` does, then the voter's name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from abhinaya.models.base import Ballot
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.vote.combiner import Logistic, Method

TiePolicy = Literal["tiebreaker_label", "tiebreaker_within_tied"]

PRIORITY: Final = ("S2", "ST1", "S1", "T2", "T1")
"""Who breaks ties. The paper names S2, and ST1 where S2 is not in the line-up; the rest of the
order, by score alone, is this project's convention."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How to decide.

    Raises:
        ValueError: a weight is negative, a temperature not positive, the quorum below 1, or the
            least confidence no share; `logistic` is without its regressions; or a choice is
            among fewer than two labels.

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
    min_confidence: float = 0.0
    """Confidence below which the label is `unknown`; 0 withholds nothing. Voters that give just
    labels have no confidence, which is below any other threshold."""
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """By voter: what its log-probabilities are divided by before they count as confidence (Guo et
    al., 2017); 1 for a voter that is not named. The votes themselves stay as cast."""
    logistic: Logistic | None = None
    """Of the method `logistic`, which needs it. Where it was not fitted for the voters that
    answered, the mean decides."""
    refine_margin: float = 0.0
    """Margin below which a second opinion may choose another of the leading labels; 0 asks none."""
    refine_top: int = 2
    """How many of them it may choose among."""

    def __post_init__(self) -> None:
        for voter, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {voter} must be 0 or more, not {weight}")
        if self.quorum < 1:
            raise ValueError(f"the quorum must be at least 1, not {self.quorum}")
        if self.refine_top < 2:
            raise ValueError(f"a choice is among at least 2 labels, not {self.refine_top}")
        if self.method == "logistic" and self.logistic is None:
            raise ValueError("the method logistic needs its regressions")
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"min_confidence must be in [0, 1], not {self.min_confidence}")
        for voter, temperature in self.temperatures.items():
            if not (math.isfinite(temperature) and temperature > 0):
                raise ValueError(f"the temperature of {voter} must be above 0, not {temperature}")


@dataclass(frozen=True, slots=True)
class Decision:
    """What the ballots say together."""

    label: str
    """One of LABELS, or UNKNOWN."""
    leading: str
    """What the votes come to: the label, also where it is withheld; empty without a quorum. The
    figures below are about this one."""
    confidence: float | None
    """Mean probability, after the temperatures, that the voters present give to it, over those that
    give any; under `logistic` its probability. Never more than the highest probability that a voter
    gives to it as cast; None where no voter gives any."""
    agreement: float
    """Share of the votes cast that are for it."""
    margin: float
    """Its lead over the runner-up: share of votes (majority) or probability; 0 on a tie."""
    reason: str = ""
    """Why the label is `unknown`."""
    tie_breaker: str = ""
    """The voter that broke a tie; empty where there was none."""
    ranking: tuple[str, ...] = ()
    """Labels that anything speaks for, by vote or probability, the one that led first."""

    def contested(self, rule: Rule) -> tuple[str, ...]:
        """Give the labels that a second opinion may choose among; empty if it is not asked."""
        close = self.label != UNKNOWN and self.margin < rule.refine_margin
        return self.ranking[: rule.refine_top] if close and len(self.ranking) > 1 else ()


def decide(ballots: Mapping[str, Ballot], rule: Rule, opinion: str = "") -> Decision:
    """Decide on the ballots present, by voter.

    `opinion` is what somebody says who was asked about a close call. It counts only if the call is
    close by the rule, and only for one of the labels in front; the figures stay the voters' own.

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
    regressions = rule.logistic if rule.method == "logistic" else None
    combined = None if regressions is None else regressions.probabilities(ballots)
    if combined is not None:
        scores = dict(zip(LABELS, combined, strict=True))
    else:
        scores = _shares(ballots) if rule.method == "majority" else _means(ballots, rule)
    if not scores:
        return _unknown("no voter that answered has a weight")
    leading, tie_breaker = _choose(scores, ballots, rule)
    ranking = _ranking(leading, scores)
    margin = _margin(scores)
    if margin < rule.refine_margin and opinion in ranking[: rule.refine_top]:
        # it is level with those it overrules, at most
        leading, margin = opinion, 0.0 if opinion != leading else margin
    fitted = None if combined is None else scores[leading]
    confidence = _confidence(leading, ballots, rule, fitted)
    reason = _too_unsure(leading, confidence, rule.min_confidence)
    return Decision(
        label=UNKNOWN if reason else leading,
        leading=leading,
        confidence=confidence,
        agreement=sum(ballot.label == leading for ballot in ballots.values()) / len(ballots),
        margin=margin,
        reason=reason,
        tie_breaker=tie_breaker,
        ranking=ranking,
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


def _ranking(leading: str, scores: Mapping[str, float]) -> tuple[str, ...]:
    rest = [label for label, score in scores.items() if label != leading and score > 0]
    return (leading, *sorted(rest, key=lambda label: (-scores[label], LABELS.index(label))))


def _margin(scores: Mapping[str, float]) -> float:
    first, *rest = sorted(scores.values(), reverse=True)
    return first - (rest[0] if rest else 0.0)


def _confidence(
    label: str, ballots: Mapping[str, Ballot], rule: Rule, fitted: float | None
) -> float | None:
    """Give what is claimed for a label: `fitted`, or else the mean; at most what a voter claims."""
    column = LABELS.index(label)
    given = {v: b.probabilities for v, b in ballots.items() if b.probabilities is not None}
    if not given:
        return None
    if fitted is None:
        calm = [tempered(p, rule.temperatures.get(voter, 1.0)) for voter, p in given.items()]
        fitted = math.fsum(p[column] for p in calm) / len(calm)
    # neither a fit nor a temperature below 1 makes the verdict surer than its surest voter
    return min(fitted, max(p[column] for p in given.values()))


def tempered(probabilities: Sequence[float], temperature: float) -> Sequence[float]:
    """Divide the log-probabilities [C] by a temperature: above 1 flatter, below 1 sharper."""
    if temperature == 1.0:
        return probabilities
    most = max(probabilities)
    powers = [(p / most) ** (1.0 / temperature) for p in probabilities]
    total = math.fsum(powers)
    return [power / total for power in powers]


def _too_unsure(leading: str, confidence: float | None, least: float) -> str:
    """Say why the label is withheld, if it is."""
    if least == 0.0 or (confidence is not None and confidence >= least):
        return ""
    if confidence is None:
        return f"no voter gives probabilities, so {leading} is not known to be {least:g} sure"
    shown = math.floor(1000 * confidence) / 1000  # rounded up it could look like enough
    return f"the confidence of {leading} is {shown:.3f}, below {least:g}"


def _unknown(reason: str) -> Decision:
    return Decision(UNKNOWN, "", confidence=None, agreement=0.0, margin=0.0, reason=reason)


def _check(voter: str, ballot: Ballot) -> None:
    if ballot.label not in LABELS:
        raise ValueError(f"{voter} voted for {ballot.label!r}, which is not one of {LABELS}")
    if ballot.probabilities is not None and len(ballot.probabilities) != len(LABELS):
        raise ValueError(
            f"{voter} gave {len(ballot.probabilities)} probabilities for {len(LABELS)} labels"
        )
