"""`abhinaya eval curve`: recall of emotions against false alarms, by threshold.

The threshold is `vote.min_confidence`: a verdict with less confidence is `unknown`. False alarms
are counted on the neutral clips of the manifest, or on the files of `--neutral`, where all
recordings are taken as neutral.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""The project's limit of false alarms."""
Point = dict[str, float]
"""Figures at one threshold, `min_confidence`."""


def curve(
    decisions: Sequence[Decision],
    truth: Indices,
    neutral: Sequence[Decision],
    thresholds: Sequence[float] = STEPS,
) -> list[Point]:
    """Return a point per threshold; `neutral` are the decisions on neutral speech.

    `recall` is the mean, over the emotions without neutral, of the share labelled correctly;
    `alarms` the share of the neutral items with another label; `answered` that of all items with a
    label. Raises DataError: `truth` has no emotion, or `neutral` is empty.
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
            {
                "min_confidence": float(least),
                "recall": unweighted_recall(truth, guess, emotions),
                "alarms": alarms(of_neutral, np.full(len(neutral), NEUTRAL)) or 0.0,
                "answered": float(np.mean(np.concatenate([guess, of_neutral]) >= 0)),
            }
        )
    return points


def measure(
    voters: Sequence[System], on: Scored, rule: Rule, neutral: Sequence[str], most: float
) -> dict[str, Any]:
    """Return the curve, and the first point with at most `most` false alarms, as plain data.

    Raises DataError: no emotional clip, no neutral one, or no vote of the voters.
    """
    names = [v.name for v in voters]
    decisions = [decide(ballots_of(voters, i), rule) for i in range(len(on.truth))]
    if neutral:
        quiet = [decide(votes, rule) for votes in neutral_votes(neutral, names)]
    else:
        quiet = [d for d, c in zip(decisions, on.truth, strict=True) if c == NEUTRAL]
    points = curve(decisions, on.truth, quiet)
    # the curve steps down just above the confidence of each false alarm
    steps = {np.nextafter(d.confidence, 2.0) for d in quiet if d.confidence is not None}
    exact = curve(decisions, on.truth, quiet, [0.0, *sorted(s for s in steps if s <= 1.0)])
    held = next((p for p in exact if p["alarms"] <= most), None)
    return {
        "schema": "abhinaya.curve/1",
        "rule": rule.method,
        "voters": names,
        "clips": len(on.truth),
        "neutral_items": len(quiet),
        "neutral_from": list(neutral) or ["the manifest"],
        "points": points,
        "most_alarms": most,
        "held": held,
    }


def neutral_votes(files: Sequence[str], names: Sequence[str]) -> list[Mapping[str, Ballot]]:
    """Read votes on neutral recordings: per segment of JSON lines, per clip of CSV files.

    Raises DataError: a file cannot be read, or no file has votes of `names`.
    """
    votes: list[dict[str, Ballot]] = []
    by_clip: dict[str, dict[str, Ballot]] = {}
    for name, path in map(named_file, files):
        if is_events(path) and path.is_file():
            votes += [{v.voter: v.ballot() for v in each.votes} for each in read_verdicts(path)]
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
    """Return the curve as text for a terminal."""
    rows = [["min_confidence", "recall of emotions", "neutral otherwise", "labelled"]]
    for p in found["points"]:
        shares = (figure(p[name]) for name in ("recall", "alarms", "answered"))
        rows.append([f"{p['min_confidence']:.2f}", *shares])
    who, held = "+".join(found["voters"]), found["held"]
    head = (
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
    return f"{head}\n\n{table(rows)}\n\n{end}"
