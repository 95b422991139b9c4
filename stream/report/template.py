"""Makes the HTML page of a report from `page.html`. The page loads nothing and sends nothing.

All values are cleaned (`models/text.py`), then escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.text import for_page
from abhinaya.stream.report.gather import Account, StreamAccount
from abhinaya.stream.report.shares import LOST, parts
from abhinaya.stream.sinks.palette import COLOURS
from abhinaya.stream.sinks.rows import Decided, Lost

HERE: Final = Path(__file__).parent
NAMES: Final[tuple[str, ...]] = (*LABELS, UNKNOWN, LOST)

SEGMENTS: Final = 600
"""A stream with more segments is drawn in bins; the opacity is the label's share of the bin."""
BINS: Final = 1024
PART_S: Final = 900.0
"""Seconds of the transcript in one section of the page."""

WIDTH: Final = 1000
"""Width of a timeline, in units of its SVG picture."""
ROW: Final = 20
"""Height of a label's row, in pixels."""
BAR: Final = 12
TICKS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
"""Possible seconds between two ticks."""


class Shape(NamedTuple):
    """A rectangle on a timeline."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    opacity: float = 1.0
    title: str = ""


def page(account: Account) -> str:
    """Return the report as HTML."""
    script = (HERE / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    gaps = [gap for one in account.streams.values() for gap in one.gaps]
    rows = [row for one in account.streams.values() for row in one.segments]
    rows.sort(key=lambda row: (row.start_s, row.stream))
    return (
        _environment()
        .get_template("page.html")
        .render(
            account=account,
            style=Markup((HERE / "page.css").read_text("utf-8")),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704
            digest=digest,
            colours=COLOURS,
            labels=LABELS,
            names=NAMES,
            timelines={name: _timeline(account, one) for name, one in account.streams.items()},
            facts=list(_facts(account, gaps)),
            gaps=gaps,
            share_in=_share_in,
            transcript=[
                (number * PART_S, (number + 1) * PART_S, list(part))
                for number, part in groupby(rows, lambda row: int(row.start_s // PART_S))
            ],
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=for_page,
    )
    environment.filters |= {
        "clock": _clock,
        "duration": _duration,
        "percent": _percent,
        "counted": _counted,
        "kind": _kind,
    }
    environment.tests["decided"] = lambda row: isinstance(row, Decided)
    return environment


def _facts(account: Account, gaps: list[Lost]) -> Iterator[tuple[str, str]]:
    streams, lost_s = account.streams.values(), sum(gap.end_s - gap.start_s for gap in gaps)
    yield "length", _duration(account.duration_s)
    yield "streams", str(len(streams))
    yield "speech", _duration(sum(stream.speech_s for stream in streams))
    yield "segments", f"{sum(len(stream.segments) for stream in streams):,}"
    yield "not heard", _duration(lost_s) if lost_s else "nothing"
    if account.latencies_ms:
        yield "median latency", f"{median(account.latencies_ms) / 1000:.1f} s"


def _share_in(part: Counter[str], label: str) -> float | None:
    """Return a label's fraction of the speech in a part, from 0 to 1; None without speech."""
    total = part.total() - part[LOST]
    return part[label] / total if total else None


def _timeline(account: Account, stream: StreamAccount) -> dict[str, Any]:
    """Return the timeline of a stream. Each label has its own row, so colours are not needed."""
    until_s = max(account.duration_s, 1.0)
    rows = [label for label in NAMES if label in stream.shares or (label == LOST and stream.gaps)]
    step = next((s for s in TICKS if until_s / s <= 8), TICKS[-1])
    ticks = [(i * step, i * step / until_s) for i in range(int(until_s / step) + 1)]
    drawn = _binned if len(stream.segments) > SEGMENTS else _segments
    scale = WIDTH / until_s
    return {
        "rows": rows,
        "height": ROW * len(rows),
        "lines": [ROW * i + ROW // 2 for i in range(len(rows))],
        "shapes": [*_mood(stream, rows, scale), *drawn(stream, rows, scale)],
        "ticks": [tick for tick in ticks if tick[1] < 0.97],  # a later one would be cut off
        "quarters": parts(stream.segments, stream.duration_s, 4) if stream.duration_s else [],
    }


def _mood(stream: StreamAccount, rows: list[str], scale: float) -> Iterator[Shape]:
    """Yield the shapes of the smoothed label, which lie behind those of the segments."""
    ends_s = [change.at_s for change in stream.changes[1:]] + [stream.duration_s]
    for change, end_s in zip(stream.changes, ends_s, strict=False):
        if change.after not in rows:  # a label of another version
            continue
        y, width = ROW * rows.index(change.after) + 1, (end_s - change.at_s) * scale
        kind = f"{_kind(change.after)} track"
        yield Shape(kind, change.at_s * scale, y, max(width, 0.5), ROW - 2)


def _segments(stream: StreamAccount, rows: list[str], scale: float) -> Iterator[Shape]:
    for row in stream.segments:
        label = row.label if isinstance(row, Decided) else LOST
        if label not in rows:
            continue
        text = row.text if isinstance(row, Decided) and row.text else row.reason
        title = f"{_clock(row.start_s)} {label}" + (f": {text[:120]}" if text else "")
        width = max((row.end_s - row.start_s) * scale, 0.8)
        yield Shape(_kind(label), row.start_s * scale, _bar(rows, label), width, BAR, 1.0, title)


def _binned(stream: StreamAccount, rows: list[str], scale: float) -> Iterator[Shape]:
    width_s = stream.duration_s / BINS
    for i, seconds in enumerate(parts(stream.segments, stream.duration_s, BINS)):
        for label in seconds.keys() & set(rows):
            opacity = 0.25 + 0.75 * min(seconds[label] / width_s, 1)
            x, width = i * width_s * scale, max(width_s * scale, 0.8)
            yield Shape(_kind(label), x, _bar(rows, label), width, BAR, opacity)


def _bar(rows: list[str], label: str) -> float:
    return ROW * rows.index(label) + (ROW - BAR) / 2


# --- formats --------------------------------------------------------------------------------------


def _clock(seconds: float) -> str:
    """Return a time as h:mm:ss, or m:ss within the first hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else _clock(seconds)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _kind(label: str) -> str:
    """Return the CSS class that gives a label its colour."""
    return f"e-{label}" if label in NAMES else "e-unknown"
