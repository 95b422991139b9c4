r"""`abhinaya bench cascade`: what a cascade saves, and what it costs in quality, on stored votes.

    abhinaya bench cascade clips.jsonl S1.csv T2.csv T1.csv --cascade T1 \
        --tune test1 --report dev --cost S1=40 --cost T1=900

The votes are those that `abhinaya eval --write` or `abhinaya bench quality --write` stores, or the
monitor's JSON lines. On the clips of --tune, the confidence below which the cascade is asked is
chosen: the lowest at which macro-F1 is at most --loss below that of all voters. Then it is measured
on those of --report, once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.report import Column, Report, parser, publish, settings_of, table_of
from abhinaya.models.vote.ensemble import Rule, defers
from abhinaya.train.command import guarded, pair_of
from abhinaya.train.data.manifest import read_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.intervals import Comparison, Interval
from abhinaya.train.eval.predictions import Predictions, System, join, read_all
from abhinaya.train.eval.rules import add_rule, rule_of, voters_of
from abhinaya.train.eval.tables import Scored, ballots_of, combine, scored

CONFIDENCES: Final = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""0: only where the others disagree; 1: nearly always."""
LOSS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Row:
    """The vote with one way of asking the cascade."""

    name: str
    confidence: float | None
    """Below it the cascade is asked; None: it is always or never asked."""
    asked: float
    """Share of the clips that the cascade is asked about."""
    ms: float
    """Time of the voters that are asked about a clip, on average."""
    saved: float
    """Share of the time of all voters that is saved."""
    accuracy: float
    macro_f1: Interval
    loss: Comparison
    """Macro-F1 of all voters minus that of this row, paired."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored votes of N labelled clips."""

    on: Scored
    systems: Sequence[System]
    rule: Rule
    costs: Mapping[str, float]
    """Milliseconds of a clip by voter; 0 for one that is not listed."""

    def row(self, name: str, rule: Rule, voters: Sequence[System] | None = None) -> Row:
        """Return the figures of a rule over these voters."""
        systems = self.systems if voters is None else voters
        names = [system.name for system in systems]
        votes = [ballots_of(systems, i) for i in range(len(self.on.truth))]
        cascade = [name for name in names if name in self.rule.cascade]
        asked = float(np.mean([not rule.cascade or defers(one, rule) for one in votes]))
        asked *= bool(cascade)
        of_cascade = sum(self.costs.get(name, 0.0) for name in cascade)
        all_ms = sum(self.costs.get(system.name, 0.0) for system in self.systems)
        ms = sum(self.costs.get(name, 0.0) for name in names) - (1 - asked) * of_cascade
        guess, _ = combine(systems, rule)
        everything, _ = combine(self.systems, replace(self.rule, cascade=()))
        return Row(
            name=name,
            confidence=rule.cascade_confidence if rule.cascade else None,
            asked=asked,
            ms=ms,
            saved=1 - ms / all_ms if all_ms else 0.0,
            accuracy=float(np.mean(guess == self.on.truth)),
            macro_f1=self.on.interval(guess),
            loss=self.on.compare(everything, guess),
        )

    def rows(self, confidences: Sequence[float]) -> list[Row]:
        """Return the rows: never, by confidence, always."""
        plain = replace(self.rule, cascade=())
        first = [system for system in self.systems if system.name not in self.rule.cascade]
        found = [self.row("never", plain, first)]
        for confidence in confidences:
            rule = replace(self.rule, cascade_confidence=confidence)
            found.append(self.row(f"below {confidence:g}", rule))
        return [*found, self.row("always", plain)]


def choose(rows: Sequence[Row], most: float = LOSS) -> float:
    """Return the lowest confidence that loses at most `most` of the macro-F1 of all voters.

    Without one: that with the smallest loss.
    """
    graded = [(row.loss.difference.value, row.confidence) for row in rows]
    fitting = [c for loss, c in graded if c is not None and loss <= most]
    return min(fitting, default=min((loss, c) for loss, c in graded if c is not None)[1])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print two tables, write JSON; return the exit code."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    return guarded("abhinaya bench cascade", lambda: _run(args))


def _parser() -> argparse.ArgumentParser:
    made = parser("cascade", __doc__)
    add = made.add_argument
    add("manifest", type=Path, help="the truth: made by abhinaya data prepare")
    add("predictions", nargs="+", metavar="[NAME=]FILE", help="as for abhinaya eval")
    add("--tune", required=True, metavar="A,B,...", help="splits or speakers to choose on")
    add("--report", required=True, metavar="C,D,...", help="splits or speakers to report")
    add("--loss", type=float, default=LOSS, help="of macro-F1 that is allowed (%(default)s)")
    about = "milliseconds of a voter for a clip; may be repeated"
    add("--cost", action="append", default=[], metavar="VOTER=MS", help=about)
    add("--by-speaker", action="store_true", help="resample speakers instead of clips")
    add("--resamples", type=int, default=1_000, help="default: %(default)s")
    add_rule(made)
    return made


def _run(args: argparse.Namespace) -> int:
    if not args.cascade:
        raise DataError("--cascade is missing: name the voters that are to be asked second")
    if both := {*args.tune.split(",")} & {*args.report.split(",")}:
        raise DataError(f"{', '.join(both)}: in --tune and --report; report what nothing chose on")
    if args.resamples < 1:
        raise DataError(f"--resamples {args.resamples}: must be at least 1")
    found = read_all(args.predictions)
    tune, dev = (_stored(args, split, found) for split in (args.tune, args.report))
    tuned = tune.rows(CONFIDENCES)
    confidence = choose(tuned, args.loss)
    reported = dev.rows([confidence])
    figures = {"confidence": confidence, "tune": tuned, "report": reported}
    tables = [
        table_of(f"{split}: {len(of.on.clips)} clips", COLUMNS, rows)
        for split, of, rows in ((args.tune, tune, tuned), (args.report, dev, reported))
    ]
    publish(Report("cascade", settings_of(args), figures), tables, args.json)
    return 0


COLUMNS: Final[Mapping[str, Column]] = {
    "asked": "{0.name}",
    "of the clips": "{0.asked:.3f}",
    "ms a clip": "{0.ms:.0f}",
    "saved": "{0.saved:.0%}",
    "accuracy": "{0.accuracy:.3f}",
    "macro-F1": lambda row: _short(row.macro_f1),
    "lost": lambda row: _short(row.loss.difference),
}


def _short(interval: Interval) -> str:
    """Return an interval without the zeros before the point, which fits in a column."""
    return str(interval).replace("0.", ".")


def _stored(args: argparse.Namespace, split: str, found: Mapping[str, Predictions]) -> Stored:
    """Return the stored votes on a split. Raises DataError: a flag does not fit the files."""
    names, clips = set(split.split(",")), read_manifest(args.manifest).clips
    there = {name for clip in clips for name in (clip.split, clip.speaker)}
    if unknown := names - there:
        known = ", ".join(sorted(there - {""}))
        raise DataError(f"{', '.join(sorted(unknown))}: not a split or a speaker; known: {known}")
    own = [clip for clip in clips if names & {clip.split, clip.speaker}]
    on = scored(own, args.by_speaker, args.resamples)
    voters = voters_of(args, found)
    rule = rule_of(args, voters)
    if not {*voters} - {*rule.cascade}:
        raise DataError("--cascade names every voter: leave one out, which is asked first")
    costs = dict(_cost(pair, voters) for pair in args.cost)
    return Stored(on, [join(name, of, on.clips) for name, of in voters.items()], rule, costs)


def _cost(pair: str, voters: Mapping[str, Predictions]) -> tuple[str, float]:
    name, text = pair_of("--cost", pair)
    if name not in voters:
        raise DataError(f"--cost {pair}: no votes of {name}; found: {', '.join(voters)}")
    try:
        ms = float(text)
    except ValueError:
        ms = -1.0
    if not 0 <= ms < float("inf"):
        raise DataError(f"--cost {pair}: give milliseconds, such as {name}=40")
    return name, ms
