"""How the votes of a run are put together: the settings, and the rule that they make."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from abhinaya.models.ensemble import Rule
from abhinaya.models.fields import near, setting


@dataclass(frozen=True, slots=True)
class VoteConfig:
    """How votes become one label."""

    method: Literal["majority", "mean", "weighted"] = setting(
        "majority", doc="majority of labels, mean or weighted mean of probabilities"
    )
    tie_policy: Literal["tiebreaker_label", "tiebreaker_within_tied"] = setting(
        "tiebreaker_label",
        doc="on a tie, the tie-breaker's label, or its label only if it is among the tied",
    )
    priority: tuple[str, ...] = setting(
        ("S2", "ST1", "S1", "T2", "T1"), doc="who breaks ties: the first of these that voted"
    )
    weights: Mapping[str, float] = dataclasses.field(
        default_factory=dict,
        metadata={"doc": "weight of each voter in the weighted mean", "least": None, "most": None},
    )
    quorum: int = setting(1, doc="votes below which the label is `unknown`", least=1, most=64)
    min_confidence: float = setting(
        0.0, doc="confidence below which the label is `unknown`; 0: never", least=0, most=1
    )
    temperatures: Mapping[str, float] = dataclasses.field(
        default_factory=dict,
        metadata={
            "doc": "what each voter's log-probabilities are divided by for the confidence",
            "least": None,
            "most": None,
        },
    )


def conflicts(vote: VoteConfig, voters: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Yield what is wrong between the settings and the voters, and which settings these are."""
    if vote.quorum > max(1, len(voters)):
        yield f"vote.quorum = {vote.quorum} is more than there are voters", "vote.quorum"
    for name, weight in vote.weights.items():
        path = f"vote.weights.{name}"
        if not (math.isfinite(weight) and weight >= 0):
            yield f"{path} = {weight!r} must be 0 or more", path
    for name, temperature in vote.temperatures.items():
        path = f"vote.temperatures.{name}"
        if not (math.isfinite(temperature) and temperature > 0):
            yield f"{path} = {temperature!r} must be above 0", path
    for table, names in (("weights", vote.weights), ("temperatures", vote.temperatures)):
        for name in names:
            if name not in voters:
                path = f"vote.{table}.{name}"
                yield f"{path} is no voter{near(name, voters)}", path


def rule_of(vote: VoteConfig) -> Rule:
    """Make the rule of a profile's [vote] table."""
    return Rule(
        method=vote.method,
        tie_policy=vote.tie_policy,
        priority=vote.priority,
        weights=vote.weights,
        quorum=vote.quorum,
        min_confidence=vote.min_confidence,
        temperatures=vote.temperatures,
    )
