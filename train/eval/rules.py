"""Table 5: the same voters put together by different rules, and what each rule calls of neutral."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.errors import ModelError
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.combiner import Combiner
from abhinaya.models.vote.combiner_file import read_combiner
from abhinaya.models.vote.ensemble import Decision, Rule, decide
from abhinaya.train.data.clips import DataError
from abhinaya.train.eval.intervals import Comparison, Interval
from abhinaya.train.eval.predictions import System
from abhinaya.train.eval.sources import Source
from abhinaya.train.eval.tables import Scored, ballots_of
from abhinaya.train.metrics import Indices, calibration_error

NEUTRAL: Final = LABELS.index("neutral")


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule on all voters together."""

    rule: str
    macro_f1: Interval
    alarms: float | None
    """Share of the neutral clips that it calls otherwise; None without neutral clips."""
    calibration_error: float | None
    """Of its confidence in its labels; None where it has none for some."""
    gain: Comparison | None
    """Over the first rule; None for that one itself."""


def open_combiner(path: Path, sources: Mapping[str, Source]) -> Combiner:
    """Read a combiner for these voters.

    Raises:
        DataError: it cannot be read, or was fitted on other voters, models or versions.

    """
    try:
        combiner = read_combiner(path)
    except ModelError as error:
        raise DataError(f"--combiner {error}") from error
    for name, source in sources.items():
        model = source.model or combiner.members[name].model if name in combiner.members else ""
        if fault := combiner.fault(name, model, source.version):
            raise DataError(f"--combiner {path}: {fault}; choose with --voters, or fit it again")
    return combiner


def with_combiner(rule: Rule, combiner: Combiner) -> Rule:
    """Give the rule that a combiner makes of another one's priorities."""
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
    """Score each rule, by name, on all systems together."""
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
    """Index of each leading label [N]; -1 where there is none, or it is less sure than `least`."""
    return np.array(
        [
            LABELS.index(d.leading) if d.leading and (d.confidence or 0.0) >= least else -1
            for d in decisions
        ],
        np.int64,
    )


def alarms(guess: Indices, truth: Indices) -> float | None:
    """Give the share of neutral clips with another label; None if no clip is neutral."""
    of = guess[truth == NEUTRAL]
    return float(np.mean((of != NEUTRAL) & (of >= 0))) if len(of) else None


def _calibration(decisions: Sequence[Decision], guess: Indices, truth: Indices) -> float | None:
    rows = np.flatnonzero(guess >= 0)
    claims = [decisions[int(i)].confidence for i in rows]
    if not claims or any(claim is None for claim in claims):
        return None
    shares = np.zeros((len(rows), 2), np.float32)  # right by the claim, or not
    shares[:, 0] = [claim or 0.0 for claim in claims]
    return calibration_error(shares, np.where(guess[rows] == truth[rows], 0, 1))
