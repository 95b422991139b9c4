"""The report of a reproduction: the lab's figures beside the published ones, with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from abhinaya.bench.reproduce.plan import VALIDATION
from abhinaya.train.eval.report import as_text, page, plain
from abhinaya.train.recipes.system import FUSED, REFINED, VOTE, System

TEMPLATE: Final = Path(__file__).with_name("reproduction.html")
SCHEMA: Final = "abhinaya.reproduction/1"
_BY_FOLDS: Final = {(VOTE, "macro-F1"): "macro_f1", (FUSED, "mean CCC"): "ccc_ridge"}
"""Row and figure -> its name in the metrics of a fitted file."""
_PLAIN: Final = {"weighted-F1": "weighted_f1", "accuracy": "accuracy", "UAR": "recall"}
Figure = Mapping[str, float]
"""`value`, and its interval `low` and `high` where it has one."""


def figure_of(report: Mapping[str, Any], row: str, name: str) -> Figure | None:
    """Return a figure of the report of `abhinaya eval`; None if the report lacks it.

    `row` is a system or a combination A+B; `name` one of FIGURES.
    """
    rated = {of["name"]: of for of in report.get("attributes", {}).get("systems", ())}
    models = {of["name"]: of for of in report.get("models", ())}
    if "CCC" in name:
        found = rated.get(row) or (rated.get(VOTE) if row == FUSED else None)
        return found and (found["mean"] if name == "mean CCC" else found["each"][name.split()[1]])
    if name == "macro-F1":
        joint, wanted = report.get("combinations", ()), {*row.split("+")}
        found = models.get(row) or next((of for of in joint if {*of["voters"]} == wanted), None)
        return found and found["macro_f1"]
    if row not in models:
        return None
    if name in _PLAIN:
        return {"value": models[row][_PLAIN[name]]}
    scores = report["classes"][row].get(name.removeprefix("F1 "))
    return scores and {"value": scores["f1"]}


def compared(system: System, found: Mapping[str, Any], work: Path) -> list[dict[str, Any]]:
    """Return each published figure beside the lab's, on its set or the validation list.

    What was fitted on that list is measured by folds of speakers left out; if not, it is marked.
    """
    files = {VOTE: "combiner.json", REFINED: "combiner.json", FUSED: "fusion.json"}
    rows: list[dict[str, Any]] = []
    for published in system.published:
        on = published.split if published.split in found else VALIDATION
        lab = figure_of(found.get(on, {}), published.of, published.figure)
        file = work / files.get(published.of, "-")
        if on == VALIDATION and file.exists():
            metrics = json.loads(file.read_bytes())["metrics"]
            held_out = metrics.get(_BY_FOLDS.get((published.of, published.figure), ""))
            on = "validation, fitted on it" if held_out is None else "validation, by folds"
            lab = lab if held_out is None else {"value": held_out}
        whole = on == VALIDATION and published.split == "dev" and not system.data.balanced
        same = whole or on == published.split
        rows.append({**plain(published), "row": published.of, "lab": lab, "on": on, "same": same})
    return rows


def write_report(
    system: System, tables: Mapping[str, Path], seconds: Mapping[str, float], out: Path
) -> None:
    """Write the report of a system as `out` (HTML), and as JSON beside it.

    `tables` are files of `abhinaya eval` by set, `seconds` the times of finished steps.
    """
    found = {of: json.loads(path.read_bytes()) for of, path in tables.items()}
    rows = compared(system, found, out.parent)
    groups: dict[str, list[tuple[str, Figure]]] = {}
    for member in system.models:
        figure = figure_of(found.get("validation", {}), member.name, "macro-F1")
        if member.group and figure:
            groups.setdefault(member.group, []).append((member.name, figure))
    values = {"schema": SCHEMA, "system": system.name, "published": rows, "groups": groups}
    values |= {"sets": found, "seconds": seconds}
    fitted = any((out.parent / name).exists() for name in ("combiner.json", "fusion.json"))
    text = {of: as_text(report) for of, report in found.items()}
    whole = page(TEMPLATE, about=system, text=text, title=system.about, fitted=fitted, **values)
    for path, content in ((out.with_suffix(".json"), json.dumps(values, indent=1)), (out, whole)):
        half = path.with_name(f"{path.name}.half")
        half.write_text(f"{content}\n", "utf-8")
        half.replace(path)
