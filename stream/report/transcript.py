"""The transcript with labels and votes, in parts that open one by one where it is long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.report.bins import LOST
from abhinaya.stream.report.gather import Account
from abhinaya.stream.report.html import clock, count, kind, mark, percent, text
from abhinaya.stream.sinks.rows import Decided, Segment

PART_S: Final = 900.0
"""Seconds in one part."""


def transcript(account: Account) -> str:
    """Give what was said in all streams, in the order of its start."""
    rows = [row for one in account.streams.values() for row in one.segments]
    rows.sort(key=lambda row: (row.start_s, row.stream))
    if not rows:
        return '<p class="quiet">No speech was found.</p>'
    parts = [(n, list(part)) for n, part in groupby(rows, lambda row: int(row.start_s // PART_S))]
    shown = []
    for i, (number, part) in enumerate(parts):
        title = f"{clock(number * PART_S)} to {clock((number + 1) * PART_S)}"
        shown.append(
            f"<details{' open' if i == 0 else ''}><summary>{title} "
            f'<span class="quiet">{count(len(part), "segment")}</span></summary>'
            f"<ol>{''.join(map(_row, part))}</ol></details>"
        )
    return _filters(account) + "".join(shown)


def _filters(account: Account) -> str:
    labels = "".join(
        f'<option value="{kind(label)}">{text(label)}</option>'
        for label in (*LABELS, UNKNOWN, LOST)
    )
    streams = "".join(
        f'<option value="{i}">{text(name)}</option>' for i, name in enumerate(account.streams)
    )
    return (
        '<form class="filters" hidden><label>Words <input type="search" id="words"></label>'
        f'<label>Emotion <select id="label"><option value="">all</option>{labels}</select></label>'
        f'<label>Stream <select id="stream"><option value="">all</option>{streams}</select>'
        '</label><output id="found" aria-live="polite"></output></form>'
    )


def _row(row: Segment) -> str:
    name = text(row.stream)
    head = f'<time>{clock(row.start_s)}</time><span class="who">{name}</span>'
    if not isinstance(row, Decided):
        said = f'<span class="said quiet">not heard: {text(row.reason)}</span>'
        return f'<li class="{kind(LOST)}">{head}{mark(LOST)}{said}</li>'
    if row.text:
        said = f'<span class="said">{text(row.text)}</span>'
    else:
        why = row.transcript.reason if row.transcript and row.transcript.reason else "no words"
        said = f'<span class="said quiet">{text(why)}</span>'
    notes = " · ".join(_notes(row))
    return f'<li class="{kind(row.label)}">{head}{mark(row.label)}{said}<small>{notes}</small></li>'


def _notes(row: Decided) -> Iterator[str]:
    if row.confidence is not None:
        yield percent(row.confidence)
    if not row.final:
        yield "provisional"
    if row.revision:
        yield "revised"
    if row.reason:
        yield text(row.reason)
    for vote in row.votes:
        claim = "" if vote.claim is None else f" {percent(vote.claim)}"
        yield f"{text(vote.voter)} {text(vote.label)}{claim}"
    for missing in row.missing:
        yield f'<b class="missing">{text(missing.voter)} missing: {text(missing.reason)}</b>'
