"""An evaluation as one HTML page: tables and plots as inline SVG, no script, nothing to load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from abhinaya.models.labels import LABELS
from abhinaya.train.eval_report import Report, as_text, figure

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
    plots = "".join(_system(report, row["name"]) for row in report["models"])
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Evaluation</title><style>{STYLE}</style><h1>Evaluation</h1>"
        f"<pre>{escape(as_text(report))}</pre>{plots}</html>\n"
    )


def _system(report: Report, name: str) -> str:
    labels = report["labels"]
    plots = [
        ("Truth (rows) by guess", confusion_plot(labels, report["confusion"][name])),
        ("F1 by label", bars_plot({x: report["classes"][name][x]["f1"] for x in labels})),
    ]
    if bins := report["reliability"].get(name):
        plots.append(("Accuracy by confidence", reliability_plot(bins)))
    figures = "".join(
        f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, svg in plots
    )
    return f"<h2>{escape(name)}</h2><section>{figures}</section>"


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
    """Draw one bar a label, from 0 to 1."""
    left, height, parts = 70, 24, []
    for y, (label, value) in enumerate(values.items()):
        middle = y * height + height / 2 + 4
        parts.append(_text(left - 6, middle, label, "end"))
        parts.append(
            f'<rect x="{left}" y="{y * height + 3}" width="{value * SIDE:.1f}" '
            f'height="{height - 6}" fill="var(--bar)"/>'
        )
        parts.append(_text(left + value * SIDE + 5, middle, figure(value)))
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


def _text(x: float, y: float, said: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(parts)}</svg>'
