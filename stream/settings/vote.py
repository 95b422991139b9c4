"""How the votes of a run are put together: the settings, and the rule that they make.

A combiner that `abhinaya train ensemble` fitted lies in a file beside the profile. It is read when
the profile is loaded, so that a wrong one is refused before anything starts, and again by the hub.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from abhinaya.models.errors import ModelError
from abhinaya.models.fields import near, setting
from abhinaya.models.vote.combiner import Combiner, Method
from abhinaya.models.vote.combiner_file import read_combiner
from abhinaya.models.vote.ensemble import Rule, TiePolicy
from abhinaya.stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class VoteConfig:
    """How votes become one label."""

    method: Method = setting(
        "majority",
        doc="majority of labels, mean or weighted mean of probabilities, or logistic: a fitted one",
    )
    combiner: str = setting(
        "",
        doc="file that `abhinaya train ensemble` fitted for this method, from the profile's folder",
    )
    tie_policy: TiePolicy = setting(
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
    min_confidence: float | None = setting(
        None,
        doc="confidence below which the label is `unknown`, 0 for never; if not given, what the "
        "combiner says, and never without one",
        least=0,
        most=1,
    )
    refine_margin: float = setting(
        0.2,
        doc="margin below which [refiner], if there is one, is asked to choose again",
        least=0,
        most=1,
    )
    refine_top: int = setting(2, doc="leading labels that it may choose among", least=2, most=8)
    temperatures: Mapping[str, float] = dataclasses.field(
        default_factory=dict,
        metadata={
            "doc": "what each voter's log-probabilities are divided by for the confidence",
            "least": None,
            "most": None,
        },
    )


def conflicts(vote: VoteConfig, voters: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield what is wrong between the settings and the voters, and which settings these are.

    Args:
        vote: the settings.
        voters: model of each voter, by name.

    """
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
                yield f"{path} is not a voter{near(name, voters)}", path
    yield from _conflicts_of_combiner(vote, voters)


def _conflicts_of_combiner(
    vote: VoteConfig, voters: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    setting = "vote.combiner"
    if not vote.combiner:
        if vote.method == "logistic":
            yield f"vote.method = 'logistic' needs {setting}, a fitted file", "vote.method"
        return
    try:
        combiner = read_combiner(Path(vote.combiner))
    except ModelError as error:
        yield f"{setting}: {error.subject}: {error.reason}", setting
        return
    said = f"{setting} = {vote.combiner!r}"
    remedy = f"To vote without it: {setting}= and vote.method=majority"
    if combiner.method != vote.method:
        what = f"was fitted for {combiner.method}, not {vote.method}"
        yield f"{said} {what}. {remedy}", setting, "vote.method"
    for name, model in voters.items():
        if fault := combiner.fault(name, model):
            yield f"{said}: {fault}. {remedy}", setting, f"voters.{name}"


def load_combiner(vote: VoteConfig) -> Combiner | None:
    """Read the combiner of a profile, if it has one.

    Raises:
        ConfigError: it has gone or changed since the profile was loaded.

    """
    if not vote.combiner:
        return None
    try:
        return read_combiner(Path(vote.combiner))
    except ModelError as error:
        raise ConfigError(f"vote.combiner {vote.combiner}", error.reason, error.remedy) from error


def rule_of(vote: VoteConfig, combiner: Combiner | None = None, refined: bool = False) -> Rule:
    """Make the rule of a profile's [vote] table; what that says goes before what was fitted.

    `refined` says whether somebody is there to be asked about close calls.
    """
    least = vote.min_confidence
    if least is None:
        least = combiner.min_confidence if combiner else 0.0
    return Rule(
        method=vote.method,
        tie_policy=vote.tie_policy,
        priority=vote.priority,
        weights=(combiner.weights if combiner else {}) | dict(vote.weights),
        quorum=vote.quorum,
        min_confidence=least,
        temperatures=(combiner.temperatures if combiner else {}) | dict(vote.temperatures),
        logistic=combiner.logistic if combiner else None,
        refine_margin=vote.refine_margin if refined else 0.0,
        refine_top=vote.refine_top,
    )
