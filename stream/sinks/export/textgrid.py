"""TextGrid of Praat: for each stream, tiers for the label, the transcript and each voter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from abhinaya.models.text import distinct, one_line
from abhinaya.stream.sinks.reader import latest
from abhinaya.stream.sinks.rows import Began, Decided, Ended, Lost

Interval = tuple[float, float, str]
"""Start and end in seconds, and text."""

LABEL: Final = "label"
TRANSCRIPT: Final = "transcript"
RATED: Final = "attributes"
GAP: Final = "(gap)"
MISSING: Final = "(missing)"
NOT_ASKED: Final = "(not asked)"
SHORTEST_S: Final = 0.001
"""Minimum length of a file: Praat refuses length 0."""


@dataclass(slots=True)
class _Stream:
    duration_s: float = 0.0
    tiers: dict[str, list[Interval]] = field(default_factory=lambda: {LABEL: [], TRANSCRIPT: []})

    def add(self, row: Decided | Lost) -> None:
        self.duration_s = max(self.duration_s, row.end_s)
        for tier, text in _texts(row):
            self.tiers.setdefault(tier, []).append((row.start_s, row.end_s, text))


def export(source: Path, target: Path) -> None:
    """Write Praat's long text format."""
    streams: dict[str, _Stream] = {}
    for row in latest(source):
        match row:
            case Decided() | Lost():
                streams.setdefault(row.stream, _Stream()).add(row)
            case Ended():
                stream = streams.setdefault(row.stream, _Stream())
                stream.duration_s = max(stream.duration_s, row.duration_s)
            case Began():
                streams.setdefault(row.stream, _Stream())
            case _:
                pass
    with target.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(_lines(streams))


def _texts(row: Decided | Lost) -> Iterator[tuple[str, str]]:
    """Yield (name of the tier, text) for a segment."""
    if isinstance(row, Lost):
        yield LABEL, GAP
        return
    yield LABEL, row.label
    yield TRANSCRIPT, row.text
    if row.attributes is not None:
        yield RATED, str(row.attributes)
    for vote in row.votes:
        yield vote.voter, vote.text
    for missing in row.missing:
        yield missing.voter, MISSING if missing.fault else NOT_ASKED


def _lines(streams: dict[str, _Stream]) -> Iterator[str]:
    end_s = max([SHORTEST_S, *(s.duration_s for s in streams.values())])
    named = [
        (one_line(f"{name}: {tier}"), intervals)
        for name, stream in streams.items()
        for tier, intervals in stream.tiers.items()
    ] or [(LABEL, [])]
    names = distinct(name for name, _ in named)
    tiers = [(name, intervals) for name, (_, intervals) in zip(names, named, strict=True)]
    yield 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    yield f"xmin = 0\nxmax = {end_s:.3f}\ntiers? <exists>\nsize = {len(tiers)}\nitem []:\n"
    for number, (name, intervals) in enumerate(tiers, start=1):
        filled = list(_filled(sorted(intervals), end_s))
        yield f'    item [{number}]:\n        class = "IntervalTier"\n'
        yield f"        name = {_quoted(name)}\n        xmin = 0\n        xmax = {end_s:.3f}\n"
        yield f"        intervals: size = {len(filled)}\n"
        for i, (start_s, until_s, text) in enumerate(filled, start=1):
            yield f"        intervals [{i}]:\n            xmin = {start_s:.3f}\n"
            yield f"            xmax = {until_s:.3f}\n            text = {_quoted(text)}\n"


def _filled(intervals: list[Interval], end_s: float) -> Iterator[Interval]:
    """Yield intervals without holes or overlaps from 0 to the end, as Praat requires."""
    at = 0.0
    for start_s, until_s, text in intervals:
        start_s = max(start_s, at)
        if until_s <= start_s:
            continue
        if start_s > at:
            yield at, start_s, ""
        yield start_s, until_s, text
        at = until_s
    if at < end_s:
        yield at, end_s, ""


def _quoted(text: str) -> str:
    return '"' + one_line(text).replace('"', '""') + '"'
