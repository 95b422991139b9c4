"""The monitor's JSON lines as values: the last verdict on each segment, with its votes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abhinaya.models.base import Ballot
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.train.data.clips import DataError

SUFFIXES: Final = (".jsonl", ".json", ".ndjson")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One segment of one stream."""

    revision: int
    label: str
    """One of LABELS, or UNKNOWN."""
    seconds: float
    votes: Mapping[str, Ballot]
    """By voter."""


def read_verdicts(path: Path) -> dict[tuple[str, int], Verdict]:
    """Read the last revision of each final verdict, by stream and segment.

    Raises:
        DataError: a line is no event, or there is no verdict.

    """
    latest: dict[tuple[str, int], Verdict] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            event = json.loads(line)
            if event.get("type") != "verdict" or not event.get("final", True):
                continue
            key = (str(event["stream"]), int(event["segment"]))
            if key not in latest or latest[key].revision <= event["revision"]:
                latest[key] = _verdict(event)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"{path}:{number}: is no event of the monitor ({error}); see docs/events.md"
            ) from error
    if not latest:
        raise DataError(f"{path}: holds no verdict; write it with abhinaya-stream --format jsonl")
    return dict(sorted(latest.items()))


def _verdict(event: Mapping[str, Any]) -> Verdict:
    """Read one verdict.

    Raises:
        KeyError, TypeError, ValueError: it is not as `docs/events.md` says.

    """
    votes = {}
    for vote in event["votes"]:
        given, label = vote["probabilities"], LABELS[LABELS.index(vote["label"])]
        shares = None if given is None else tuple(float(given[name]) for name in LABELS)
        votes[str(vote["voter"])] = Ballot(label, shares)
    known = (*LABELS, UNKNOWN)
    return Verdict(
        revision=int(event["revision"]),
        label=known[known.index(event["label"])],
        seconds=float(event["end_s"]) - float(event["start_s"]),
        votes=votes,
    )
