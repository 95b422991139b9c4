"""An evaluation as one HTML page: tables and plots as inline SVG, no script, nothing to load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from abhinaya.models.labels import LABELS
from abhinaya.train.eval.report import Report, as_text, figure

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #68707a; --bar: #3d6fb4; --back: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #9aa3ad; --bar: #7aa7e6; --back: #15181c } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; font-size: 13px } section { display: flex; flex-wrap: wrap; gap: 2rem }
h2 { margin-top: 2.5rem } figure { margin: 0 } figcaption { color: var(--soft) }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink) } svg .soft { fill: var(--soft) }
"""
CELL: Final = 38
SIDE: Final = 240


def as_html(report: Report) -> str:
    """Write the page: the tables as text, then each system's plots."""
    plots = "".join(_system(report, row["name"]) for row in report.get("models", ()))
    rated = report.get("attributes", {}).get("systems", ())
    plots += "".join(_attributes(row) for row in rated)
    return text_page("Evaluation", as_text(report), plots)


def curve_page(text: str, found: Mapping[str, Any]) -> str:
    """Write the page of a curve: the table as text, then the plot."""
    caption = f"Recall of emotions by false alarms; dashed: {found['most_alarms']:.0%} of neutral"
    plot = curve_plot(found["points"], found["most_alarms"])
    figures = f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>"
    return text_page("Recall and false alarms", text, f"<section>{figures}</section>")


def text_page(title: str, text: str, below: str = "") -> str:
    """Write a page of tables as text, with HTML below them."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>"
        f"<pre>{escape(text)}</pre>{below}</html>\n"
    )


def _system(report: Report, name: str) -> str:
    labels = report["labels"]
    plots = [
        ("Truth (rows) by guess", confusion_plot(labels, report["confusion"][name])),
        ("F1 by label", bars_plot({x: report["classes"][name][x]["f1"] for x in labels})),
    ]
    if bins := report["reliability"].get(name):
        plots.append(("Accuracy by confidence", reliability_plot(bins)))
    return _figures(name, plots)


def _attributes(row: Mapping[str, Any]) -> str:
    values = {name: found["value"] for name, found in row["each"].items()}
    return _figures(f"{row['name']}: attributes", [("CCC of each attribute", bars_plot(values))])


def _figures(title: str, plots: Iterable[tuple[str, str]]) -> str:
    figures = "".join(
        f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, svg in plots
    )
    return f"<h2>{escape(title)}</h2><section>{figures}</section>"


def confusion_plot(labels: Sequence[str], table: Sequence[Sequence[int]]) -> str:
    """Draw counts, each cell shaded by its share of the row; without guesses that nobody made."""
    columns = [*LABELS, "none"]
    shown = [c for c in range(len(columns)) if columns[c] in labels or any(r[c] for r in table)]
    left, top, parts = 70, 60, []
    for x, c in enumerate(shown):
        at = f"translate({left + x * CELL + CELL / 2 + 4},{top - 6}) rotate(-45)"
        parts.append(f'<text transform="{at}">{columns[c]}</text>')
    for y, (label, row) in enumerate(zip(labels, table, strict=True)):
        middle = top + y * CELL + CELL / 2 + 4
        parts.append(_text(left - 6, middle, label, "end"))
        for x, c in enumerate(shown):
            share = row[c] / max(1, sum(row))
            parts.append(
                f'<rect x="{left + x * CELL}" y="{top + y * CELL}" width="{CELL - 1}" '
                f'height="{CELL - 1}" fill="var(--bar)" fill-opacity="{0.05 + 0.7 * share:.3f}">'
                f"<title>{label} as {columns[c]}: {row[c]} ({share:.1%})</title></rect>"
            )
            parts.append(_text(left + x * CELL + CELL / 2, middle, str(row[c]), "middle"))
    return _svg(left + len(shown) * CELL + 20, top + len(labels) * CELL, parts)


def bars_plot(values: Mapping[str, float]) -> str:
    """Draw one bar a name, from 0 to 1; what is below 0 has its figure alone."""
    left, height, parts = 70, 24, []
    for y, (label, value) in enumerate(values.items()):
        middle, width = y * height + height / 2 + 4, max(0.0, value) * SIDE
        parts.append(_text(left - 6, middle, label, "end"))
        parts.append(
            f'<rect x="{left}" y="{y * height + 3}" width="{width:.1f}" '
            f'height="{height - 6}" fill="var(--bar)"/>'
        )
        parts.append(_text(left + width + 5, middle, figure(value)))
    return _svg(left + SIDE + 45, len(values) * height, parts)


def reliability_plot(bins: Iterable[Mapping[str, Any]]) -> str:
    """Draw accuracy by confidence; on the diagonal is what may be believed."""
    left, top, parts = 34, 8, []
    for tick in (0.0, 0.5, 1.0):
        parts.append(_text(left - 5, top + SIDE * (1 - tick) + 4, f"{tick:g}", "end"))
        parts.append(_text(left + SIDE * tick, top + SIDE + 16, f"{tick:g}", "middle"))
    for b in bins:
        high = b["accuracy"] * SIDE
        parts.append(
            f'<rect x="{left + b["low"] * SIDE:.1f}" y="{top + SIDE - high:.1f}" '
            f'width="{(b["high"] - b["low"]) * SIDE - 1:.1f}" height="{high:.1f}" '
            f'fill="var(--bar)" fill-opacity="{0.3 + 0.7 * b["share"]:.3f}">'
            f"<title>confidence {b['confidence']:.3f}, accuracy {b['accuracy']:.3f}, "
            f"{b['share']:.1%} of clips</title></rect>"
        )
    parts.append(
        f'<line x1="{left}" y1="{top + SIDE}" x2="{left + SIDE}" y2="{top}" '
        'stroke="var(--soft)" stroke-dasharray="4"/>'
    )
    return _svg(left + SIDE + 12, top + SIDE + 22, parts)


def curve_plot(points: Sequence[Mapping[str, float]], most_alarms: float) -> str:
    """Draw recall (up) by false alarms (right), a dot for each threshold, and the limit."""
    left, top, parts = 34, 12, []
    for tick in (0.0, 0.5, 1.0):
        parts.append(_text(left - 5, top + SIDE * (1 - tick) + 4, f"{tick:g}", "end"))
        parts.append(_text(left + SIDE * tick, top + SIDE + 16, f"{tick:g}", "middle"))
    places = [(left + SIDE * p["alarms"], top + SIDE * (1 - p["recall"])) for p in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    limit = left + SIDE * most_alarms
    parts.append(
        f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="none" '
        f'stroke="var(--soft)"/><line x1="{limit:.1f}" y1="{top}" x2="{limit:.1f}" '
        f'y2="{top + SIDE}" stroke="var(--soft)" stroke-dasharray="4"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--bar)" stroke-width="2"/>'
    )
    for p, (x, y) in zip(points, places, strict=True):
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="var(--bar)"><title>min_confidence '
            f"{p['min_confidence']:.2f}: recall {p['recall']:.3f}, alarms {p['alarms']:.3f}, "
            f"labelled {p['answered']:.1%}</title></circle>"
        )
    return _svg(left + SIDE + 12, top + SIDE + 22, parts)


def _text(x: float, y: float, said: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(parts)}</svg>'
