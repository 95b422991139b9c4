"""Rows of the tables of arXiv 2505.18217: systems, labels, combinations of voters, rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.models.base import Ballot
from abhinaya.models.errors import ModelError
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.vote.combiner import Combiner
from abhinaya.models.vote.combiner_file import read_combiner
from abhinaya.models.vote.ensemble import Decision, Rule, cast, decide, order
from abhinaya.train.data.clips import Clip
from abhinaya.train.errors import DataError
from abhinaya.train.eval.intervals import Comparison, Draws, Interval, Statistic, draws, macro_f1_of
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
"""With more voters, table 4 has only all of them, and all but one."""
Row = dict[str, Any]
"""A row of a table: name of the figure -> value."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The N clips that can be scored: those with a consensus among the eight."""

    clips: tuple[Clip, ...]
    truth: Indices
    """[N] indices in LABELS."""
    classes: tuple[int, ...]
    """Indices of the labels that occur; means are over these."""
    draws: Draws

    def interval(self, guess: Indices) -> Interval:
        """Return macro-F1 with its 95 % interval."""
        return self.draws.interval(self.f1(guess), np.arange(len(self.truth)))

    def compare(self, first: Indices, second: Indices) -> Comparison:
        """Return macro-F1 of `first` minus that of `second`, paired."""
        rows = np.arange(len(self.truth))
        return self.draws.compare(self.f1(first), self.f1(second), rows)

    def f1(self, guess: Indices) -> Statistic:
        """Return a function from row numbers to macro-F1."""
        return macro_f1_of(self.truth, guess, self.classes)


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
    truth = np.array([LABELS.index(clip.label or "") for clip in chosen], np.int64)
    classes = tuple(sorted(set(truth.tolist())))
    return Scored(chosen, truth, classes, draws(chosen, by_speaker, resamples, seed))


def model_row(system: System, on: Scored) -> Row:
    """Return the row of one system alone in table 1.

    `calibration_error` and `risk` (area under the risk-coverage curve) are None if not all answers
    have probabilities.
    """
    truth, guess, p = on.truth, system.guess, system.probabilities
    there = guess >= 0
    error = risk = None
    if p is not None and there.any():
        error = calibration_error(p[there].max(axis=1), (p.argmax(axis=1) == truth)[there])
        risk = selective_risk(p.max(axis=1), truth == guess)
    return {
        "name": system.name,
        "macro_f1": on.interval(guess),
        "recall": unweighted_recall(truth, guess, on.classes),
        "weighted_f1": weighted_f1(truth, guess, on.classes),
        "accuracy": accuracy(truth, guess),
        "calibration_error": error,
        "risk": risk,
        "answered": system.answered,
    }


def class_rows(system: System, on: Scored) -> dict[str, ClassScore]:
    """Return the figures of table 3 for each label that occurs."""
    return {LABELS[c]: s for c, s in per_class(on.truth, system.guess, on.classes).items()}


def confusion_rows(system: System, on: Scored) -> list[list[int]]:
    """Return counts: a row per label that occurs, a column per guess, the last for no answer."""
    table = confusion(on.truth, system.guess, len(LABELS))
    return [table[c].tolist() for c in on.classes]


def combine(systems: Sequence[System], rule: Rule) -> tuple[Indices, int]:
    """Return the joint label index of each clip [N], -1 without one, and the number of ties."""
    votes = [cast(ballots_of(systems, i), rule) for i in range(len(systems[0].guess))]
    decisions = [decide(ballots, rule) for ballots in votes]
    labels = [-1 if d.label == UNKNOWN else LABELS.index(d.label) for d in decisions]
    return np.array(labels, np.int64), sum(bool(d.tie_breaker) for d in decisions)


def combination_rows(systems: Sequence[System], on: Scored, rule: Rule) -> Iterator[Row]:
    """Yield the row of table 4 of combinations of two or more voters, the largest first.

    `best` is the voter that is best alone, `gain` the gain over it.
    """
    by_name = {s.name: s for s in systems}
    names = order(by_name, rule.priority)
    everything = np.arange(len(on.truth))
    alone = {s.name: on.f1(s.guess)(everything) for s in systems}
    smallest = 2 if len(names) <= MOST_VOTERS else len(names) - 1
    for size in range(len(names), smallest - 1, -1):
        for voters in combinations(names, size):
            guess, ties = combine([by_name[v] for v in voters], rule)
            best = max(voters, key=alone.__getitem__)
            yield {
                "voters": voters,
                "tie_breaker": voters[0],
                "macro_f1": on.interval(guess),
                "ties": ties,
                "best": best,
                "gain": on.compare(guess, by_name[best].guess),
            }


def ballots_of(systems: Sequence[System], i: int) -> dict[str, Ballot]:
    """Return the answers of the systems to clip `i`."""
    found = {}
    for s in systems:
        if s.guess[i] >= 0:
            shares = None if s.probabilities is None else tuple(map(float, s.probabilities[i]))
            found[s.name] = Ballot(LABELS[int(s.guess[i])], shares)
    return found


# --- table 5: all voters, by rule -----------------------------------------------------------------


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
        fitted=combiner.fitted,
        fusion=combiner.fusion,
    )


def rule_rows(systems: Sequence[System], on: Scored, rules: Mapping[str, Rule]) -> Iterator[Row]:
    """Yield the row of table 5 of each rule, on all systems together; gains are over the first."""
    votes = [ballots_of(systems, i) for i in range(len(on.truth))]
    first: Indices | None = None
    for name, rule in rules.items():
        decisions = [decide(cast(ballots, rule), rule) for ballots in votes]
        guess = guesses(decisions)
        yield {
            "rule": name,
            "macro_f1": on.interval(guess),
            "alarms": alarms(guess, on.truth),
            "calibration_error": _calibration(decisions, guess, on.truth),
            "gain": None if first is None else on.compare(guess, first),
        }
        first = guess if first is None else first


def guesses(decisions: Sequence[Decision], least: float = 0.0) -> Indices:
    """Return the leading label's index [N]; -1 if none, or if its confidence is below `least`."""
    sure = [d.leading if (d.confidence or 0.0) >= least else "" for d in decisions]
    return np.array([LABELS.index(label) if label else -1 for label in sure], np.int64)


def alarms(guess: Indices, truth: Indices) -> float | None:
    """Return the share of neutral clips with another label; None if no clip is neutral."""
    of = guess[truth == NEUTRAL]
    return float(np.mean((of != NEUTRAL) & (of >= 0))) if len(of) else None


def _calibration(decisions: Sequence[Decision], guess: Indices, truth: Indices) -> float | None:
    rows = np.flatnonzero(guess >= 0)
    claims = [decisions[int(i)].confidence for i in rows]
    if not claims or any(claim is None for claim in claims):
        return None
    return calibration_error(np.array(claims, np.float32), guess[rows] == truth[rows])
