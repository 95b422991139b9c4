"""The timeline of a stream: a row for each label, so that its place tells it and not just colour.

Few segments are drawn one by one; many are drawn as bins, darker where the label has more of the
time, so that eight hours need no more shapes than ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.report.bins import LOST
from abhinaya.stream.report.gather import StreamAccount
from abhinaya.stream.report.html import clock, kind, percent, text
from abhinaya.stream.sinks.rows import Decided

SEGMENTS: Final = 600
"""More than this are drawn as bins."""
WIDTH: Final = 1000
ROW: Final = 20
BAR: Final = 12
TICKS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
"""Seconds that may lie between two ticks."""


def timeline(stream: StreamAccount, until_s: float) -> str:
    """Give the timeline of a stream on an axis from 0 to `until_s`."""
    until_s = max(until_s, 1.0)
    rows: list[str] = [label for label in LABELS if label in stream.shares.seconds]
    rows += [UNKNOWN] * (UNKNOWN in stream.shares.seconds) + [LOST] * bool(stream.gaps)
    if not rows:
        return '<p class="quiet">No speech was found.</p>'
    shapes = "".join(_shapes(stream, rows, until_s))
    names = "".join(f'<li class="{kind(row)}">{text(row)}</li>' for row in rows)
    said = ", ".join(f"{label} {percent(stream.shares.share(label))}" for label in stream.labels)
    return (
        f'<div class="timeline"><ul class="rows">{names}</ul><div class="plot">'
        f'<svg viewBox="0 0 {WIDTH} {ROW * len(rows)}" style="height:{ROW * len(rows)}px" '
        f'preserveAspectRatio="none" role="img" '
        f'aria-label="Timeline of {text(stream.name)}: {text(said)}">{shapes}</svg>'
        f'<div class="axis" aria-hidden="true">{"".join(_ticks(until_s))}</div></div></div>'
    )


def _shapes(stream: StreamAccount, rows: list[str], until_s: float) -> Iterator[str]:
    scale = WIDTH / until_s
    for i in range(len(rows)):
        y = ROW * i + ROW / 2
        yield f'<line class="rule" x1="0" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
    yield from _track(stream, rows, scale)
    if len(stream.segments) > SEGMENTS:
        yield from _binned(stream, rows, scale)
        return
    for row in stream.segments:
        label = row.label if isinstance(row, Decided) else LOST
        if label not in rows:
            continue
        title = f"{clock(row.start_s)} {label}"
        if isinstance(row, Decided) and row.text:
            title += f": {row.text[:120]}"
        elif row.reason:
            title += f": {row.reason[:120]}"
        x, width = row.start_s * scale, max((row.end_s - row.start_s) * scale, 0.8)
        y = ROW * rows.index(label) + (ROW - BAR) / 2
        yield (
            f'<rect class="{kind(label)}" x="{x:.1f}" y="{y:g}" width="{width:.1f}" '
            f'height="{BAR}"><title>{text(title)}</title></rect>'
        )


def _binned(stream: StreamAccount, rows: list[str], scale: float) -> Iterator[str]:
    width = stream.bins.width_s
    for i, bin_ in enumerate(stream.bins.bins):
        for label, seconds in bin_.items():
            if seconds <= 0 or label not in rows:
                continue
            y = ROW * rows.index(label) + (ROW - BAR) / 2
            yield (
                f'<rect class="{kind(label)}" x="{i * width * scale:.1f}" y="{y:g}" '
                f'width="{max(width * scale, 0.8):.1f}" height="{BAR}" '
                f'opacity="{0.25 + 0.75 * min(seconds / width, 1):.2f}"/>'
            )


def _track(stream: StreamAccount, rows: list[str], scale: float) -> Iterator[str]:
    """Shade the smoothed label behind what was decided segment by segment."""
    changes = stream.track.changes
    for i, change in enumerate(changes):
        if change.after not in rows:
            continue
        end_s = changes[i + 1].at_s if i + 1 < len(changes) else stream.duration_s
        yield (
            f'<rect class="{kind(change.after)} track" x="{change.at_s * scale:.1f}" '
            f'y="{ROW * rows.index(change.after) + 1}" '
            f'width="{max((end_s - change.at_s) * scale, 0.5):.1f}" height="{ROW - 2}"/>'
        )


def _ticks(until_s: float) -> Iterator[str]:
    step = next((s for s in TICKS if until_s / s <= 8), TICKS[-1])
    for i in range(int(until_s / step) + 1):
        share = i * step / until_s
        if share < 0.97:  # the last would be cut off
            yield f'<span style="left:{100 * share:.2f}%">{clock(i * step)}</span>'
