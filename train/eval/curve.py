"""`abhinaya eval curve`: emotions found against neutral speech called emotional, by threshold.

The threshold is `vote.min_confidence`: what is less confident is labelled `unknown`. False alarms
are counted on the neutral clips of the manifest, or on what `--neutral` names: every answer in it
is taken to be about neutral speech.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from abhinaya.models.base import Ballot
from abhinaya.models.vote.ensemble import Decision, Rule, decide
from abhinaya.train.errors import DataError
from abhinaya.train.eval.predictions import (
    VERDICT,
    System,
    is_events,
    named_file,
    read_predictions,
    read_verdicts,
)
from abhinaya.train.eval.report import figure, table
from abhinaya.train.eval.tables import NEUTRAL, Scored, alarms, ballots_of, guesses
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
    """Return one point a threshold; `neutral` is what was decided about neutral speech.

    Raises DataError: nothing in `truth` is emotional, or `neutral` is empty.
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


def measure(
    voters: Sequence[System], on: Scored, rule: Rule, neutral: Sequence[str], most: float
) -> dict[str, Any]:
    """Return the curve and what holds the alarms, as plain values.

    Raises DataError: there are no emotions, nothing neutral, or none of its voters.
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

    Raises DataError: a file cannot be read, or has none of the voters.
    """
    votes: list[dict[str, Ballot]] = []
    by_clip: dict[str, dict[str, Ballot]] = {}
    for name, path in map(named_file, files):
        if is_events(path) and path.is_file():
            votes += [{v.voter: v.ballot() for v in said.votes} for said in read_verdicts(path)]
            continue
        for system, predictions in read_predictions(path, name).items():
            for clip, ballot in predictions.ballots.items():
                by_clip.setdefault(clip, {})[system] = ballot
    votes += by_clip.values()
    known = [chosen for cast in votes if (chosen := {v: b for v, b in cast.items() if v in names})]
    if not known:
        there = sorted({v for cast in votes for v in cast} - {VERDICT})
        raise DataError(
            f"--neutral: no votes of {', '.join(names)}; there are those of {', '.join(there)}"
        )
    return list(known)


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
