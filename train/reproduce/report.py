"""The report of a reproduction: the lab's figures beside the published ones, with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from abhinaya.train.eval.report import as_html, as_text, figure, interval, table
from abhinaya.train.recipes.system import FUSED, VOTE, Published, System

SCHEMA: Final = "abhinaya.reproduction-report/1"
_PLAIN: Final = {"weighted-F1": "weighted_f1", "accuracy": "accuracy", "UAR": "recall"}
Figure = Mapping[str, float]
"""`value`, and its interval `low` and `high` where it has one."""


def figure_of(report: Mapping[str, Any], row: str, name: str) -> Figure | None:
    """Return a figure of the report of `abhinaya eval`, None if it lacks the row.

    `row` is a system or a combination A+B; `name` one of FIGURES.
    """
    if "CCC" in name:
        systems = {s["name"]: s for s in report.get("attributes", {}).get("systems", ())}
        found = systems.get(row) or (systems.get(VOTE) if row == FUSED else None)
        if found is None:
            return None
        each: Figure = found["mean"] if name == "mean CCC" else found["each"][name.split()[1]]
        return each
    for combined in report.get("combinations", ()) if name == "macro-F1" else ():
        if {*combined["voters"]} == {*row.split("+")}:
            return dict(combined["macro_f1"])
    models = {model["name"]: model for model in report.get("models", ())}
    if row not in models:
        return None
    if name == "macro-F1":
        return dict(models[row]["macro_f1"])
    if name in _PLAIN:
        return {"value": models[row][_PLAIN[name]]}
    label = name.removeprefix("F1 ")
    scores = report["classes"][row].get(label)
    return None if scores is None else {"value": scores["f1"]}


def compared(
    system: System, reports: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[Published, Figure | None]]:
    """Yield each published figure with the lab's; `reports` are those of `eval`, by set."""
    for published in system.published:
        report = reports.get(published.split, {})
        yield published, figure_of(report, published.of, published.figure)


def write_report(
    system: System, reports: Mapping[str, Path], seconds: Mapping[str, float], out: Path
) -> None:
    """Write the report of a system as `out` (HTML), and as JSON beside it.

    `reports` are the files of `eval` by set, `seconds` the time of each finished step.
    """
    found = {of: json.loads(path.read_bytes()) for of, path in reports.items()}
    pairs = list(compared(system, found))
    groups = dict.fromkeys(member.group for member in system.variants if member.group)
    charts = [(group, _bars(system, group, found.get("validation", {}))) for group in groups]
    parts = [
        f"{system.about}\nSource: {system.source}",
        "The lab's figures beside the published ones\n" + table([*_rows(pairs)]),
        *(f"{group}\n" + table([*_shown(rows)]) for group, rows in charts),
        "Known from the paper or its code\n" + "\n".join(f"- {text}" for text in system.known),
        "Assumed, since it was not published\n" + "\n".join(f"- {text}" for text in system.assumed),
        *(f"Set {of}\n\n{as_text(report)}" for of, report in found.items()),
        "Time of the finished steps\n"
        + table([["step", "seconds"], *([n, f"{s:.0f}"] for n, s in seconds.items())]),
    ]
    values = {
        "schema": SCHEMA,
        "system": system.name,
        "published": [
            {"what": of.what, "row": of.of, "table": of.table, "value": of.value, "lab": lab}
            for of, lab in pairs
        ],
        "sets": found,
        "seconds": dict(seconds),
    }
    shown = [(group, [(name, given["value"]) for name, given, _ in rows]) for group, rows in charts]
    page = as_html(found.get("validation", {}), f"{system.name}: reproduction", parts, shown)
    for path, text in ((out.with_suffix(".json"), json.dumps(values, indent=1)), (out, page)):
        half = path.with_name(f"{path.name}.half")
        half.write_text(f"{text}\n", "utf-8")
        half.replace(path)


def _rows(pairs: Sequence[tuple[Published, Figure | None]]) -> Iterator[list[str]]:
    yield ["figure", "table", "row", "published", "lab", "published is in the interval"]
    for of, lab in pairs:
        inside = "-"
        if lab is not None and "low" in lab:
            inside = "yes" if lab["low"] <= of.value <= lab["high"] else "no"
        where = str(of.table) if of.table else "-"
        yield [of.what, where, of.of, f"{of.value:.3f}", _text(lab), inside]


def _bars(
    system: System, group: str, report: Mapping[str, Any]
) -> list[tuple[str, Figure, float | None]]:
    """Return name, lab's macro-F1 and published one of the variants of a group."""
    published = {p.of: p.value for p in system.published if p.what == "validation macro-F1"}
    names = [member.name for member in system.variants if member.group == group]
    given = ((name, figure_of(report, name, "macro-F1")) for name in names)
    return [(name, lab, published.get(name)) for name, lab in given if lab is not None]


def _shown(rows: Sequence[tuple[str, Figure, float | None]]) -> Iterator[list[str]]:
    yield ["macro-F1 on validation", "lab", "published"]
    for name, lab, published in rows:
        yield [name, _text(lab), figure(published)]


def _text(lab: Figure | None) -> str:
    if lab is None:
        return "-"
    return interval(lab) if "low" in lab else figure(lab["value"])
