"""The settings of the vote, and the vote rule made from them.

A combiner fitted by `abhinaya train ensemble` is a file next to the profile. It is read when the
profile is loaded, so that errors are found before the run starts, and again by the hub.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from abhinaya.models.errors import ModelError
from abhinaya.models.fields import near, setting
from abhinaya.models.vote.combiner import FROM_FILE, Combiner, Method
from abhinaya.models.vote.combiner_file import read_combiner
from abhinaya.models.vote.ensemble import Rule, TiePolicy
from abhinaya.models.vote.fitted import MEAN
from abhinaya.stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class VoteConfig:
    """How the votes are combined to one label."""

    method: Method = setting(
        "majority",
        doc="majority of labels; mean of probabilities, also weighted or by their uncertainty; "
        "or, with a fitted file, logistic, mlp or forest",
    )
    combiner: str = setting(
        "",
        doc="file fitted by `abhinaya train ensemble` for this method; relative to the profile",
    )
    tie_policy: TiePolicy = setting(
        "tiebreaker_label",
        doc="on a tie, take the tie-breaker's label always, or only if it is among the tied ones",
    )
    priority: tuple[str, ...] = setting(
        ("S2", "ST1", "S1", "T2", "T1"), doc="tie-breaker: the first of these voters that voted"
    )
    shed: tuple[str, ...] = setting(
        (),
        doc="voters in the order in which live streams lose them if the nodes do not keep up; "
        "others follow, the slowest first",
    )
    weights: Mapping[str, float] = dataclasses.field(
        default_factory=dict,
        metadata={"doc": "weight of each voter in the weighted mean", "least": None, "most": None},
    )
    quorum: int = setting(1, doc="votes below which the label is `unknown`", least=1, most=64)
    min_confidence: float | None = setting(
        None,
        doc="confidence below which the label is `unknown`; if not given, the combiner's value, "
        "or 0 without a combiner",
        least=0,
        most=1,
    )
    refine_margin: float = setting(
        0.2,
        doc="margin of the vote below which the refiner, if there is one, chooses again",
        least=0,
        most=1,
    )
    refine_top: int = setting(
        2, doc="number of leading labels that the refiner chooses from", least=2, most=8
    )
    cascade: tuple[str, ...] = setting(
        (),
        doc="voters that are asked only where the others disagree or are not sure",
    )
    cascade_confidence: float = setting(
        Rule().cascade_confidence,
        doc="confidence of the other voters, where they agree, below which the cascade is asked",
        least=0,
        most=1,
    )
    temperatures: Mapping[str, float] = dataclasses.field(
        default_factory=dict,
        metadata={
            "doc": "divisor of each voter's log-probabilities, for the confidence",
            "least": None,
            "most": None,
        },
    )


def conflicts(vote: VoteConfig, voters: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield (message, settings concerned, ...) for each conflict between settings and voters.

    `voters` has the model of each voter, by its name.
    """
    if vote.quorum > max(1, len(voters)):
        yield f"vote.quorum = {vote.quorum} is more than the number of voters", "vote.quorum"
    for name, weight in vote.weights.items():
        path = f"vote.weights.{name}"
        if not (math.isfinite(weight) and weight >= 0):
            yield f"{path} = {weight!r} must be 0 or more", path
    for name, temperature in vote.temperatures.items():
        path = f"vote.temperatures.{name}"
        if not (math.isfinite(temperature) and temperature > 0):
            yield f"{path} = {temperature!r} must be above 0", path
    tables: dict[str, Iterable[str]] = {"weights": vote.weights, "temperatures": vote.temperatures}
    for table, names in (tables | {"shed": vote.shed, "cascade": vote.cascade}).items():
        for name in names:
            if name not in voters:
                path = f"vote.{table}.{name}" if table in tables else f"vote.{table}"
                what = path if table in tables else f"{path}: {name}"
                yield f"{what} is not a voter{near(name, voters)}", path
    yield from _conflicts_of_cascade(vote, voters)
    for name in {*vote.priority} - {*voters} - {*VoteConfig().priority}:
        yield f"vote.priority: {name} is not a voter{near(name, voters)}", "vote.priority"
    yield from _conflicts_of_combiner(vote, voters)


def _conflicts_of_cascade(vote: VoteConfig, voters: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    first, setting = {*voters} - {*vote.cascade}, "vote.cascade"
    if vote.cascade and voters and not first:
        yield f"{setting} names every voter: leave one out, which is asked first", setting
    elif vote.cascade and vote.quorum > len(first):
        what = f"{setting}: with vote.quorum = {vote.quorum} and {len(first)} other voters"
        yield f"{what} the cascade would always be asked; lower the quorum", setting, "vote.quorum"


def _conflicts_of_combiner(
    vote: VoteConfig, voters: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    setting = "vote.combiner"
    if not vote.combiner:
        if vote.method in FROM_FILE:
            yield f"vote.method = {vote.method!r} needs {setting}, a fitted file", "vote.method"
        return
    try:
        combiner = read_combiner(Path(vote.combiner))
    except ModelError as error:
        yield f"{setting}: {error.subject}: {error.reason}", setting
        return
    subject = f"{setting} = {vote.combiner!r}"
    remedy = f"To vote without it: {setting}= and vote.method=majority"
    if combiner.method != vote.method:
        what = f"was fitted for {combiner.method}, not {vote.method}"
        yield f"{subject} {what}. {remedy}", setting, "vote.method"
    # a voter that it was not fitted on may give only attributes: the hub checks what it announces
    for name, model in {v: m for v, m in voters.items() if v in combiner.members}.items():
        if fault := combiner.fault(name, model):
            yield f"{subject}: {fault}. {remedy}", setting, f"voters.{name}"


def load_combiner(vote: VoteConfig) -> Combiner | None:
    """Return the combiner of a profile; None if it has none.

    Raises:
        ConfigError: the file was removed or damaged after the profile was loaded.

    """
    if not vote.combiner:
        return None
    try:
        return read_combiner(Path(vote.combiner))
    except ModelError as error:
        raise ConfigError(f"vote.combiner {vote.combiner}", error.reason, error.remedy) from error


def rule_of(vote: VoteConfig, combiner: Combiner | None = None, refined: bool = False) -> Rule:
    """Return the vote rule of a profile; its [vote] table overrides the fitted combiner.

    `refined`: whether the profile has a refiner.
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
        fitted=combiner.fitted if combiner else None,
        fusion=combiner.fusion if combiner else MEAN,
        refine_margin=vote.refine_margin if refined else 0.0,
        refine_top=vote.refine_top,
        cascade=vote.cascade,
        cascade_confidence=vote.cascade_confidence,
    )
