"""Renders an evaluation as one HTML page: tables, and plots as inline SVG; no scripts, no links."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from abhinaya.models.labels import LABELS
from abhinaya.train.eval.report import Report, as_text, figure

SIDE: Final = 240
"""Side of a plot in pixels; its axes go from 0 to 1."""


def as_html(report: Report) -> str:
    """Return the page: the tables as text, then the plots of each system."""
    return _page(title="Evaluation", text=as_text(report), report=report)


def curve_page(text: str, found: Mapping[str, Any]) -> str:
    """Return the page of a curve: the table as text, then the plot."""
    return _page(title="Recall and false alarms", text=text, curve=found)


def _page(**values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure}
    template = environment.get_template("page.html")
    return template.render(columns=[*LABELS, "none"], side=SIDE, **values) + "\n"
