"""`abhinaya eval curve`: emotions found against neutral speech called emotional, by threshold.

The threshold is `vote.min_confidence`: what is less confident is labelled `unknown`. False alarms
are counted on the neutral clips of the manifest, or on what `--neutral` names: every answer in it
is taken to be about neutral speech.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.models.base import Ballot
from abhinaya.models.vote.ensemble import Decision, Rule, decide
from abhinaya.train.data.clips import DataError
from abhinaya.train.eval.monitor import SUFFIXES, read_verdicts
from abhinaya.train.eval.predictions import VERDICT, System, read_predictions
from abhinaya.train.eval.report import figure, table
from abhinaya.train.eval.rules import NEUTRAL, alarms, guesses
from abhinaya.train.eval.tables import Scored, ballots_of
from abhinaya.train.metrics import Indices, unweighted_recall

STEPS: Final = tuple(round(0.05 * i, 2) for i in range(20))
MOST_ALARMS: Final = 0.15
"""What the project holds itself to."""


@dataclass(frozen=True, slots=True)
class Point:
    """What one threshold gives."""

    min_confidence: float
    recall: float
    """Mean over the emotions other than neutral of the share that is labelled right."""
    alarms: float
    """Share of the neutral items with another label than neutral."""
    answered: float
    """Share of all items with a label."""


def curve(
    decisions: Sequence[Decision],
    truth: Indices,
    neutral: Sequence[Decision],
    thresholds: Sequence[float] = STEPS,
) -> list[Point]:
    """Give one point a threshold; `neutral` is what was decided about neutral speech.

    Raises:
        DataError: nothing in `truth` is emotional, or `neutral` is empty.

    """
    emotions = sorted({int(c) for c in truth} - {NEUTRAL})
    if not emotions or not neutral:
        raise DataError(
            f"{len(emotions)} emotions and {len(neutral)} neutral items: a curve needs both; name "
            "neutral recordings with --neutral"
        )
    points = []
    for least in thresholds:
        guess, of_neutral = guesses(decisions, least), guesses(neutral, least)
        points.append(
            Point(
                min_confidence=least,
                recall=unweighted_recall(truth, guess, emotions),
                alarms=alarms(of_neutral, np.full(len(neutral), NEUTRAL)) or 0.0,
                answered=float(np.mean(np.concatenate([guess, of_neutral]) >= 0)),
            )
        )
    return points


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes beside the arguments of `abhinaya eval`."""
    parser.add_argument(
        "--neutral",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="predictions about neutral recordings, to count false alarms on; repeatable",
    )
    parser.add_argument(
        "--alarms",
        type=float,
        default=MOST_ALARMS,
        metavar="P",
        help="share of false alarms to hold (default: %(default)s)",
    )


def measure(
    voters: Sequence[System], on: Scored, rule: Rule, neutral: Sequence[str], most: float
) -> dict[str, Any]:
    """Give the curve and what holds the alarms, as plain values.

    Raises:
        DataError: there are no emotions, nothing neutral, or none of its voters.

    """
    names = [v.name for v in voters]
    decisions = [decide(ballots_of(voters, i), rule) for i in range(len(on.truth))]
    if neutral:
        quiet = [decide(votes, rule) for votes in neutral_votes(neutral, names)]
    else:
        quiet = [d for d, c in zip(decisions, on.truth, strict=True) if c == NEUTRAL]
    points = curve(decisions, on.truth, quiet)
    # each confidence of a false alarm is a place where the curve steps down
    steps = {np.nextafter(d.confidence, 2.0) for d in quiet if d.confidence is not None}
    exact = curve(decisions, on.truth, quiet, [0.0, *sorted(s for s in steps if s <= 1.0)])
    held = next((p for p in exact if p.alarms <= most), None)
    return {
        "schema": "abhinaya.curve/1",
        "rule": rule.method,
        "voters": names,
        "clips": len(on.truth),
        "neutral_items": len(quiet),
        "neutral_from": list(neutral) or ["the manifest"],
        "points": [asdict(p) for p in points],
        "most_alarms": most,
        "held": asdict(held) if held else None,
    }


def neutral_votes(files: Sequence[str], names: Sequence[str]) -> list[Mapping[str, Ballot]]:
    """Read votes on neutral recordings: of each segment of JSON lines, of each clip of CSV files.

    Raises:
        DataError: a file cannot be read, or has none of the voters.

    """
    found: list[Mapping[str, Ballot]] = []
    by_clip: dict[str, dict[str, Ballot]] = {}
    for item in files:
        name, _, file = item.rpartition("=")
        path = Path(file)
        if path.suffix.lower() in SUFFIXES and path.is_file():
            found += [verdict.votes for verdict in read_verdicts(path).values()]
            continue
        for system, ballots in read_predictions(path, name or path.stem).items():
            for clip, said in ballots.items():
                by_clip.setdefault(clip, {})[system] = said
    every = [*found, *by_clip.values()]
    known: list[Mapping[str, Ballot]] = []
    for votes in every:
        if chosen := {v: b for v, b in votes.items() if v in names}:
            known.append(chosen)
    if not known:
        there = sorted({v for votes in every for v in votes} - {VERDICT})
        raise DataError(
            f"--neutral: no votes of {', '.join(names)}; there are those of {', '.join(there)}"
        )
    return known


def as_text(found: Mapping[str, Any]) -> str:
    """Write the curve for a terminal."""
    rows = [["min_confidence", "recall of emotions", "neutral otherwise", "labelled"]]
    for p in found["points"]:
        rows.append(
            [
                f"{p['min_confidence']:.2f}",
                *(figure(p[name]) for name in ("recall", "alarms", "answered")),
            ]
        )
    who, held = "+".join(found["voters"]), found["held"]
    said = (
        f"{who} by {found['rule']}: emotions among {found['clips']} clips, false alarms among "
        f"{found['neutral_items']} neutral items of {', '.join(found['neutral_from'])}."
    )
    end = f"At most {found['most_alarms']:.0%} false alarms: at no threshold."
    if held:
        end = (
            f"At most {found['most_alarms']:.0%} false alarms: from min_confidence "
            f"{held['min_confidence']:.4f} on, with a recall of {held['recall']:.3f} "
            f"({found['points'][0]['recall']:.3f} without a threshold)."
        )
    return f"{said}\n\n{table(rows)}\n\n{end}"
