"""Rows of the tables of arXiv 2505.18217: systems, labels, combinations of voters, rules."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.base import Ballot
from abhinaya.models.errors import ModelError
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.vote.combiner import Combiner
from abhinaya.models.vote.combiner_file import read_combiner
from abhinaya.models.vote.ensemble import Decision, Rule, decide, order
from abhinaya.train.data.clips import Clip
from abhinaya.train.errors import DataError
from abhinaya.train.eval.intervals import (
    Comparison,
    Interval,
    bootstrap,
    macro_f1_of,
    paired_bootstrap,
)
from abhinaya.train.eval.predictions import Predictions, System
from abhinaya.train.metrics import (
    ClassScore,
    Indices,
    accuracy,
    calibration_error,
    confusion,
    per_class,
    selective_risk,
    unweighted_recall,
    weighted_f1,
)

NEUTRAL: Final = LABELS.index("neutral")
MOST_VOTERS: Final = 8
"""With more voters, table 4 would be too long to read."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The N clips that can be scored: those with a consensus among the eight."""

    clips: tuple[Clip, ...]
    truth: Indices
    """[N] indices in LABELS."""
    classes: tuple[int, ...]
    """Indices of the labels that occur; means are over these."""
    groups: tuple[Hashable, ...] | None
    """[N] speaker of each clip, to resample speakers; None resamples clips."""
    resamples: int = 1_000
    seed: int = 0

    def interval(self, guess: Indices) -> Interval:
        """Return macro-F1 with its 95 % interval."""
        statistic = macro_f1_of(self.truth, guess, self.classes)
        return bootstrap(
            statistic, len(self.truth), self.groups, resamples=self.resamples, seed=self.seed
        )

    def compare(self, first: Indices, second: Indices) -> Comparison:
        """Return macro-F1 of `first` minus that of `second`, paired."""
        one = macro_f1_of(self.truth, first, self.classes)
        other = macro_f1_of(self.truth, second, self.classes)
        return paired_bootstrap(
            one, other, len(self.truth), self.groups, resamples=self.resamples, seed=self.seed
        )


def scored(
    clips: Sequence[Clip], by_speaker: bool = False, resamples: int = 1_000, seed: int = 0
) -> Scored:
    """Select the clips with a label.

    Raises DataError: there are none, or `by_speaker` is set and speakers are unknown.
    """
    chosen = tuple(clip for clip in clips if clip.label)
    if not chosen:
        raise DataError(
            f"{len(clips)} clips: none has a consensus among the eight labels, so none can be "
            "scored; a hidden test set must be scored by its organisers"
        )
    if by_speaker:
        require_speakers(chosen)
    truth = np.array([LABELS.index(clip.label or "") for clip in chosen], np.int64)
    groups = tuple(clip.speaker for clip in chosen) if by_speaker else None
    return Scored(chosen, truth, tuple(sorted(set(truth.tolist()))), groups, resamples, seed)


def require_speakers(clips: Sequence[Clip]) -> None:
    """Raise DataError if a clip has no speaker, or all clips have the same."""
    if unnamed := sum(not clip.speaker for clip in clips):
        raise DataError(
            f"{unnamed} of {len(clips)} clips name no speaker; resample by clip (leave out "
            "--by-speaker)"
        )
    if len({clip.speaker for clip in clips}) < 2:
        raise DataError(
            f"{len(clips)} clips of one speaker: speakers cannot be resampled; resample "
            "by clip (leave out --by-speaker)"
        )


@dataclass(frozen=True, slots=True)
class ModelRow:
    """Row of table 1: one system alone."""

    name: str
    macro_f1: Interval
    recall: float
    """Unweighted mean over labels (UAR)."""
    weighted_f1: float
    accuracy: float
    calibration_error: float | None
    """Expected calibration error; None if not all answers have probabilities."""
    risk: float | None
    """Area under the risk-coverage curve by the largest probability; 0 is best. May be None."""
    answered: int
    """Number of answered clips; the others count as wrong."""


def model_row(system: System, on: Scored) -> ModelRow:
    """Return the row of one system."""
    truth, guess, p = on.truth, system.guess, system.probabilities
    there = guess >= 0
    error = risk = None
    if p is not None and there.any():
        error = calibration_error(p[there], truth[there])
        risk = selective_risk(p.max(axis=1), truth == guess)
    return ModelRow(
        name=system.name,
        macro_f1=on.interval(guess),
        recall=unweighted_recall(truth, guess, on.classes),
        weighted_f1=weighted_f1(truth, guess, on.classes),
        accuracy=accuracy(truth, guess),
        calibration_error=error,
        risk=risk,
        answered=system.answered,
    )


def class_rows(system: System, on: Scored) -> dict[str, ClassScore]:
    """Return the figures of table 3 for each label that occurs."""
    return {LABELS[c]: s for c, s in per_class(on.truth, system.guess, on.classes).items()}


def confusion_rows(system: System, on: Scored) -> list[list[int]]:
    """Return counts: a row per label that occurs, a column per guess, the last for no answer."""
    table: list[list[int]] = confusion(on.truth, system.guess, len(LABELS))[
        list(on.classes)
    ].tolist()
    return table


@dataclass(frozen=True, slots=True)
class Combination:
    """Row of table 4: several voters together, against the best of them alone."""

    voters: tuple[str, ...]
    tie_breaker: str
    """The voter that decides a tie first."""
    macro_f1: Interval
    ties: int
    """Number of clips with a tie."""
    best: str
    """The voter that is best alone."""
    gain: Comparison
    """Gain over the voter `best`."""


def combine(systems: Sequence[System], rule: Rule) -> tuple[Indices, int]:
    """Return the joint label index of each clip [N], -1 without one, and the number of ties."""
    labels, ties = [], 0
    for i in range(len(systems[0].guess)):
        decision = decide(ballots_of(systems, i), rule)
        labels.append(-1 if decision.label == UNKNOWN else LABELS.index(decision.label))
        ties += bool(decision.tie_breaker)
    return np.array(labels, np.int64), ties


def combination_rows(systems: Sequence[System], on: Scored, rule: Rule) -> Iterator[Combination]:
    """Yield the row of every combination of two or more voters, the largest first.

    Raises DataError: there are too many voters.
    """
    if len(systems) > MOST_VOTERS:
        raise DataError(
            f"{len(systems)} voters have {2 ** len(systems)} combinations; give at most "
            f"{MOST_VOTERS} with --voters"
        )
    by_name = {s.name: s for s in systems}
    names = order(by_name, rule.priority)
    alone = {s.name: macro_f1_of(on.truth, s.guess, on.classes) for s in systems}
    everything = np.arange(len(on.truth))
    for size in range(len(names), 1, -1):
        for voters in combinations(names, size):
            guess, ties = combine([by_name[v] for v in voters], rule)
            best = max(voters, key=lambda v: alone[v](everything))
            yield Combination(
                voters=voters,
                tie_breaker=voters[0],
                macro_f1=on.interval(guess),
                ties=ties,
                best=best,
                gain=on.compare(guess, by_name[best].guess),
            )


def ballots_of(systems: Sequence[System], i: int) -> dict[str, Ballot]:
    """Return the answers of the systems to clip `i`."""
    found = {}
    for s in systems:
        if s.guess[i] >= 0:
            shares = None if s.probabilities is None else tuple(map(float, s.probabilities[i]))
            found[s.name] = Ballot(LABELS[int(s.guess[i])], shares)
    return found


# --- table 5: all voters, by rule -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleRow:
    """Row of table 5: one rule on all voters together."""

    rule: str
    macro_f1: Interval
    alarms: float | None
    """Share of the neutral clips with another label; None without neutral clips."""
    calibration_error: float | None
    """Calibration error of the confidence; None if a decision has no confidence."""
    gain: Comparison | None
    """Gain over the first rule; None for that rule."""


def open_combiner(path: Path, voters: Mapping[str, Predictions]) -> Combiner:
    """Read a combiner, and check that it fits these voters.

    Raises DataError: it cannot be read, or was fitted on other voters, models or versions.
    """
    try:
        combiner = read_combiner(path)
    except ModelError as error:
        raise DataError(f"--combiner {error}") from error
    for name, predictions in voters.items():
        given, version = predictions.model(name)
        model = given or combiner.members[name].model if name in combiner.members else ""
        if fault := combiner.fault(name, model, version):
            raise DataError(f"--combiner {path}: {fault}; choose with --voters, or fit it again")
    return combiner


def with_combiner(rule: Rule, combiner: Combiner) -> Rule:
    """Return `rule` with the method and fitted parameters of `combiner`."""
    return replace(
        rule,
        method=combiner.method,
        weights=combiner.weights,
        temperatures=combiner.temperatures,
        logistic=combiner.logistic,
    )


def rule_rows(
    systems: Sequence[System], on: Scored, rules: Mapping[str, Rule]
) -> Iterator[RuleRow]:
    """Yield the row of each rule, on all systems together."""
    votes = [ballots_of(systems, i) for i in range(len(on.truth))]
    first: Indices | None = None
    for name, rule in rules.items():
        decisions = [decide(cast, rule) for cast in votes]
        guess = guesses(decisions)
        yield RuleRow(
            rule=name,
            macro_f1=on.interval(guess),
            alarms=alarms(guess, on.truth),
            calibration_error=_calibration(decisions, guess, on.truth),
            gain=None if first is None else on.compare(guess, first),
        )
        first = guess if first is None else first


def guesses(decisions: Sequence[Decision], least: float = 0.0) -> Indices:
    """Return the leading label's index [N]; -1 if none, or if its confidence is below `least`."""
    return np.array(
        [
            LABELS.index(d.leading) if d.leading and (d.confidence or 0.0) >= least else -1
            for d in decisions
        ],
        np.int64,
    )


def alarms(guess: Indices, truth: Indices) -> float | None:
    """Return the share of neutral clips with another label; None if no clip is neutral."""
    of = guess[truth == NEUTRAL]
    return float(np.mean((of != NEUTRAL) & (of >= 0))) if len(of) else None


def _calibration(decisions: Sequence[Decision], guess: Indices, truth: Indices) -> float | None:
    rows = np.flatnonzero(guess >= 0)
    claims = [decisions[int(i)].confidence for i in rows]
    if not claims or any(claim is None for claim in claims):
        return None
    shares = np.zeros((len(rows), 2), np.float32)  # probability of right and of wrong
    shares[:, 0] = [claim or 0.0 for claim in claims]
    return calibration_error(shares, np.where(guess[rows] == truth[rows], 0, 1))
