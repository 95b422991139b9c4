"""Decides the label: votes and a vote rule give one label. Called by `stream/hub/aggregator.py`.

    majority   the label with the most votes; on a tie, the tie-breaker (the published rule)
    mean       the label with the highest mean probability
    weighted   the label with the highest weighted mean probability
    uncertainty   the same, each voter weighted by its certainty in this case (as in MATER)
    logistic, mlp, forest   the label with the highest probability by a fitted model (`fitted`)

If the confidence is below the rule's minimum, the label is withheld: it becomes `unknown`, and the
decision still has the leading label and its confidence.

Ballots without a label do not vote. The attributes of the decision are the mean over the voters
that gave attributes, or a fitted fusion of them.

The order in which votes arrive has no effect: sums are exact (`math.fsum`), and ties are broken by
`priority`, then by the voter's name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from abhinaya.models.base import Ballot
from abhinaya.models.labels import LABELS, UNKNOWN, Attributes
from abhinaya.models.vote.combiner import FROM_FILE, Method
from abhinaya.models.vote.fitted import MEAN, Fitted, Fusion

TiePolicy = Literal["tiebreaker_label", "tiebreaker_within_tied"]

PRIORITY: Final = ("S2", "ST1", "S1", "T2", "T1")
"""Order of the tie-breakers. The paper names S2, and ST1 if S2 is missing; the rest of the order,
by score alone, is this project's convention."""
NOT_ASKED: Final = "not asked: the other voters agree and are sure"
"""Reason of a missing vote that is not a fault: the cascade was not needed."""
LEAST: Final = 1e-6
"""Least weight of a voter by its certainty: if all are as unsure as can be, they count alike."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The vote rule.

    Raises:
        ValueError: a weight is negative, a temperature not positive, the quorum below 1,
            `min_confidence` or `cascade_confidence` not in [0, 1] or `refine_top` below 2; or
            `fitted` is missing.

    """

    method: Method = "majority"
    tie_policy: TiePolicy = "tiebreaker_label"
    """For a tie of the majority. `tiebreaker_label`: the label of the first voter by `priority`,
    tied or not. `tiebreaker_within_tied`: the label of the first voter with a tied label."""
    priority: tuple[str, ...] = PRIORITY
    """Order of the tie-breakers. Voters that are not listed come last, by name."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights by voter, for `weighted`; 1 for a voter that is not listed."""
    quorum: int = 1
    """Number of votes below which the label is `unknown`."""
    min_confidence: float = 0.0
    """Confidence below which the label is `unknown`; 0: never. If no voter gives probabilities,
    the confidence is unknown, and any threshold above 0 withholds the label."""
    temperatures: Mapping[str, float] = field(default_factory=dict)
    """Divisors of the log-probabilities by voter, for the confidence and the weights of
    `uncertainty` (Guo et al., 2017); 1 for a voter that is not listed. Votes do not change."""
    fitted: Fitted | None = None
    """Models, for the methods of FROM_FILE. If none was fitted for the voters that answered, the
    mean decides."""
    fusion: Fusion = MEAN
    """How the attributes of several voters become one answer."""
    refine_margin: float = 0.0
    """Margin below which a second opinion may choose among the leading labels; 0: never."""
    refine_top: int = 2
    """Number of leading labels that the second opinion may choose among."""
    cascade: tuple[str, ...] = ()
    """Voters that are asked only if the others disagree or are not sure."""
    cascade_confidence: float = 0.7
    """Confidence of the others below which they are not sure; 0: only a disagreement counts."""

    def __post_init__(self) -> None:
        for voter, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {voter} must be 0 or more, not {weight}")
        if self.quorum < 1:
            raise ValueError(f"the quorum must be at least 1, not {self.quorum}")
        if self.refine_top < 2:
            raise ValueError(f"refine_top must be at least 2, not {self.refine_top}")
        if self.method in FROM_FILE and self.fitted is None:
            raise ValueError(f"the method {self.method} needs its fitted file")
        for name in ("min_confidence", "cascade_confidence"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ValueError(f"{name} must be in [0, 1], not {share}")
        for voter, temperature in self.temperatures.items():
            if not (math.isfinite(temperature) and temperature > 0):
                raise ValueError(f"the temperature of {voter} must be above 0, not {temperature}")


@dataclass(frozen=True, slots=True)
class Decision:
    """Result of the vote."""

    label: str
    """One of LABELS, or UNKNOWN."""
    leading: str
    """The winning label, even if it is withheld; empty without a quorum. `confidence`, `agreement`
    and `margin` are of this label."""
    confidence: float | None
    """Mean probability, after the temperatures, over the voters that give probabilities; None if
    none does. With a fitted model: its probability. At most the highest one of a voter."""
    agreement: float
    """Share of the votes for the leading label."""
    margin: float
    """Lead over the second label, as share of votes (majority) or probability; 0 on a tie."""
    reason: str = ""
    """Why the label is `unknown`; empty otherwise."""
    tie_breaker: str = ""
    """Voter that broke a tie; empty if there was no tie."""
    ranking: tuple[str, ...] = ()
    """Labels with a vote or a probability above 0, the leading label first."""
    attributes: Attributes | None = None
    """Mean over the voters that rated them; None if none did."""

    def contested(self, rule: Rule) -> tuple[str, ...]:
        """Return the labels that a second opinion may choose among; empty if none is needed."""
        close = self.label != UNKNOWN and self.margin < rule.refine_margin
        return self.ranking[: rule.refine_top] if close and len(self.ranking) > 1 else ()


def cast(ballots: Mapping[str, Ballot], rule: Rule) -> dict[str, Ballot]:
    """Return those of all voters' ballots that count: of the cascade only if it is asked."""
    asked = defers(ballots, rule) if rule.cascade else True
    return {v: ballot for v, ballot in ballots.items() if asked or v not in rule.cascade}


def defers(ballots: Mapping[str, Ballot], rule: Rule, complete: bool = True) -> bool:
    """Return whether the cascade must be asked after the ballots of the other voters.

    `complete`: whether all others have voted. Before that, only their disagreement is certain.
    """
    first = {voter: ballot for voter, ballot in ballots.items() if voter not in rule.cascade}
    if len({ballot.label for ballot in first.values() if ballot.label}) > 1:
        return True
    if not complete:
        return False
    decision = decide(first, rule)
    return decision.label == UNKNOWN or (decision.confidence or 0.0) < rule.cascade_confidence


def decide(ballots: Mapping[str, Ballot], rule: Rule, opinion: str = "") -> Decision:
    """Return the decision on the ballots, given by voter.

    `opinion` is the label of a second opinion. It counts only if the margin is below
    `rule.refine_margin`, and only for one of the leading labels. It does not change the confidence.

    In the means, a voter without probabilities counts as probability 1 for its label. It does not
    count in the confidence.

    Raises:
        ValueError: a ballot has an unknown label, a wrong number of probabilities, or neither label
            nor attributes.

    """
    for voter, ballot in ballots.items():
        _check(voter, ballot)
    voting = {voter: ballot for voter, ballot in ballots.items() if ballot.label}
    if ballots and not voting:
        decision = withheld("no vote for a label: the voters that answered give only attributes")
    else:
        decision = _decide_label(voting, rule, opinion)
    rated = {v: b.attributes for v, b in ballots.items() if b.attributes is not None}
    return replace(decision, attributes=rule.fusion(rated)) if rated else decision


def _decide_label(ballots: Mapping[str, Ballot], rule: Rule, opinion: str) -> Decision:
    if len(ballots) < rule.quorum:
        cast = "1 vote" if len(ballots) == 1 else f"{len(ballots)} votes"
        return withheld(f"{cast} of at least {rule.quorum}")
    fitted = rule.fitted if rule.method in FROM_FILE else None
    combined = None if fitted is None else fitted.probabilities(ballots)
    if combined is not None:
        scores = dict(zip(LABELS, combined, strict=True))
    else:
        scores = _shares(ballots) if rule.method == "majority" else _means(ballots, rule)
    if not scores:
        return withheld("every voter that answered has weight 0")
    leading, tie_breaker = _choose(scores, ballots, rule)
    ranking = _ranking(leading, scores)
    margin = _margin(scores)
    if margin < rule.refine_margin and opinion in ranking[: rule.refine_top]:
        # an overruling opinion has no lead
        leading, margin = opinion, 0.0 if opinion != leading else margin
    share = None if combined is None else scores[leading]
    confidence = _confidence(leading, ballots, rule, share)
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
    """Return voters in the order of `priority`; those that are not listed come last, by name."""
    rank = {voter: place for place, voter in enumerate(priority)}
    return sorted(voters, key=lambda voter: (rank.get(voter, len(rank)), voter))


def _shares(ballots: Mapping[str, Ballot]) -> dict[str, float]:
    """Return each label's share of the votes."""
    counts = Counter(ballot.label for ballot in ballots.values())
    return {label: count / len(ballots) for label, count in counts.items()}


def _means(ballots: Mapping[str, Ballot], rule: Rule) -> dict[str, float]:
    """Return each label's mean probability; empty if the weights of the voters sum to 0."""
    weights = dict.fromkeys(ballots, 1.0)
    if rule.method == "weighted":
        weights = {voter: rule.weights.get(voter, 1.0) for voter in ballots}
    elif rule.method == "uncertainty":
        weights = _certainties(ballots, rule)
    total = math.fsum(weights.values())
    if total == 0:
        return {}
    vectors = [(weights[voter], _distribution(ballot)) for voter, ballot in ballots.items()]
    return {
        label: math.fsum(weight * vector[c] for weight, vector in vectors) / total
        for c, label in enumerate(LABELS)
    }


def _certainties(ballots: Mapping[str, Ballot], rule: Rule) -> dict[str, float]:
    """Return 1 - entropy / log C of each voter, after its temperature, but at least LEAST.

    A voter without probabilities gets the mean of the others; without others it gets 1.
    """
    found = {}
    for voter, ballot in ballots.items():
        if ballot.probabilities is not None:
            calm = tempered(ballot.probabilities, rule.temperatures.get(voter, 1.0))
            entropy = -math.fsum(p * math.log(p) for p in calm if p > 0.0)
            found[voter] = max(LEAST, 1.0 - entropy / math.log(len(LABELS)))
    middle = math.fsum(found.values()) / len(found) if found else 1.0
    return {voter: found.get(voter, middle) for voter in ballots}


def _distribution(ballot: Ballot) -> tuple[float, ...]:
    """Return probabilities [C]; 1 for the label if the voter gave none."""
    if ballot.probabilities is not None:
        return ballot.probabilities
    return tuple(float(label == ballot.label) for label in LABELS)


def _choose(
    scores: Mapping[str, float], ballots: Mapping[str, Ballot], rule: Rule
) -> tuple[str, str]:
    """Return the label with the highest score, and the voter that broke a tie, or ""."""
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
    # means can tie on labels without a vote; then the order of LABELS decides
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
    """Return the confidence of a label, see `Decision`; `fitted` is None without a model."""
    column = LABELS.index(label)
    given = {v: b.probabilities for v, b in ballots.items() if b.probabilities is not None}
    if not given:
        return None
    if fitted is None:
        calm = [tempered(p, rule.temperatures.get(voter, 1.0)) for voter, p in given.items()]
        fitted = math.fsum(p[column] for p in calm) / len(calm)
    # a fit or a temperature below 1 must not exceed the most confident voter
    return min(fitted, max(p[column] for p in given.values()))


def tempered(probabilities: Sequence[float], temperature: float) -> Sequence[float]:
    """Return probabilities [C] with the logarithms divided by a temperature; above 1 is flatter."""
    if temperature == 1.0:
        return probabilities
    most = max(probabilities)
    powers = [(p / most) ** (1.0 / temperature) for p in probabilities]
    total = math.fsum(powers)
    return [power / total for power in powers]


def _too_unsure(leading: str, confidence: float | None, least: float) -> str:
    """Return why the label is withheld; empty if it is not."""
    if least == 0.0 or (confidence is not None and confidence >= least):
        return ""
    if confidence is None:
        return (
            f"no voter gives probabilities: {leading} has no confidence, and {least:g} is required"
        )
    shown = math.floor(1000 * confidence) / 1000  # rounded down: never shown as `least`
    return f"the confidence of {leading} is {shown:.3f}, below {least:g}"


def withheld(reason: str) -> Decision:
    """Return the decision without a label."""
    return Decision(UNKNOWN, "", confidence=None, agreement=0.0, margin=0.0, reason=reason)


def _check(voter: str, ballot: Ballot) -> None:
    if not ballot.label and ballot.attributes is not None and ballot.probabilities is None:
        return
    if ballot.label not in LABELS:
        raise ValueError(f"{voter} voted for {ballot.label!r}, which is not one of {LABELS}")
    if ballot.probabilities is not None and len(ballot.probabilities) != len(LABELS):
        raise ValueError(
            f"{voter} gave {len(ballot.probabilities)} probabilities for {len(LABELS)} labels"
        )
