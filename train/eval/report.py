"""Makes the report of an evaluation, as data, text and HTML. Figures: `docs/evaluation.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.models.text import clean, for_page
from abhinaya.models.vote.ensemble import Rule
from abhinaya.train.eval.attributes import Rated, Rater, attribute_rows
from abhinaya.train.eval.intervals import Draws, Interval
from abhinaya.train.eval.predictions import System
from abhinaya.train.eval.tables import (
    Scored,
    class_rows,
    combination_rows,
    confusion_rows,
    model_row,
    rule_rows,
)
from abhinaya.train.metrics import reliability

SCHEMA: Final = "abhinaya.evaluation/1"
LOSS_MARK: Final = "/"
"""Separates model and loss in the name of a system, such as S1/WFL; see table 2."""
PAGE: Final = Path(__file__).with_name("page.html")
SIDE: Final = 240
"""Side of a plot in pixels; its axes go from 0 to 1."""
Report = dict[str, Any]


def measured(
    on: Scored,
    total: int,
    systems: Sequence[System],
    voters: Sequence[System],
    rule: Rule,
    rules: Mapping[str, Rule],
) -> Report:
    """Return all figures of tables 1 to 5, as plain data.

    `systems` are scored alone, `voters` combined: by `rule` in table 4, by each of `rules` in table
    5, with gains over the first. `total` is the number of all clips.
    """
    several = len(voters) > 1
    report = {
        "schema": SCHEMA,
        "clips": total,
        "scored": len(on.clips),
        "speakers": len({clip.speaker for clip in on.clips if clip.speaker}),
        "labels": [LABELS[c] for c in on.classes],
        "resampled": _drawn(on.draws),
        "resamples": on.draws.resamples,
        "rule": {
            "method": rule.method,
            "tie_policy": rule.tie_policy,
            "priority": list(rule.priority),
        },
        "models": [model_row(s, on) for s in systems],
        "classes": {s.name: class_rows(s, on) for s in systems},
        "confusion": {s.name: confusion_rows(s, on) for s in systems},
        "reliability": {
            s.name: reliability(p[there].max(axis=1), (p.argmax(axis=1) == on.truth)[there])
            for s in systems
            if (p := s.probabilities) is not None and (there := s.guess >= 0).any()
        },
        "combinations": list(combination_rows(voters, on, rule)) if several else [],
        "rules": list(rule_rows(voters, on, rules)) if several else [],
    }
    return plain(report)


def measured_attributes(on: Rated, total: int, raters: Sequence[Rater]) -> Report:
    """Return the figures of table 6, as plain data."""
    report = {
        "schema": SCHEMA,
        "clips": total,
        "resampled": _drawn(on.draws),
        "resamples": on.draws.resamples,
        "attributes": {"rated": len(on.clips), "systems": list(attribute_rows(raters, on))},
    }
    return plain(report)


def plain(report: Any) -> Report:
    """Return a report as JSON values: dataclasses as objects, tuples as lists."""
    found: Report = msgspec.to_builtins(report)
    return found


def _drawn(how: Draws) -> str:
    return "clips" if how.speakers is None else "speakers"


def as_text(report: Report) -> str:
    """Return the non-empty tables as text for a terminal."""
    drawn = f". 95 % intervals over {report['resampled']} ({report['resamples']} resamples)."
    parts = []
    if "models" in report:
        head = f"{report['scored']} clips of {report['speakers']} speakers"
        if left_out := report["clips"] - report["scored"]:
            head += f"; {left_out} without a consensus among the eight are left out"
        parts += [head + drawn, _models(report), *_losses(report), _classes(report)]
        parts += [_combinations(report)] if report["combinations"] else []
        parts += [_rules(report)] if report["rules"] else []
    if "attributes" in report:
        head = f"{report['attributes']['rated']} clips with arousal, valence and dominance"
        if left_out := report["clips"] - report["attributes"]["rated"]:
            head += f"; {left_out} without are left out"
        parts += [head + drawn, _attributes(report["attributes"])]
    return "\n\n".join(parts)


def _models(report: Report) -> str:
    keys = ("recall", "weighted_f1", "accuracy", "calibration_error", "risk")
    rows = [["system", "macro-F1", "UAR", "weighted F1", "accuracy", "ECE", "risk", "answered"]]
    for row in report["models"]:
        answered = f"{row['answered']}/{report['scored']}"
        macro = _interval(row["macro_f1"])
        rows.append([row["name"], macro, *(figure(row[k]) for k in keys), answered])
    return "Table 1. Systems\n" + table(rows)


def _losses(report: Report) -> list[str]:
    """Return table 2, models by training loss, if systems are called MODEL/LOSS."""
    found: dict[str, dict[str, str]] = {}
    for row in report["models"]:
        model, mark, loss = row["name"].partition(LOSS_MARK)
        if mark:
            found.setdefault(model, {})[loss] = _interval(row["macro_f1"])
    losses = list(dict.fromkeys(loss for of in found.values() for loss in of))
    rows = [["macro-F1", *losses]]
    rows += [[model, *(of.get(loss, "-") for loss in losses)] for model, of in found.items()]
    return ["Table 2. Losses\n" + table(rows)] if found else []


def _classes(report: Report) -> str:
    labels = report["labels"]
    some = next(iter(report["classes"].values()))
    rows = [["F1", *labels], ["clips", *(str(some[label]["n"]) for label in labels)]]
    for name, of in report["classes"].items():
        rows.append([name, *(figure(of[label]["f1"]) for label in labels)])
    return "Table 3. Labels\n" + table(rows)


def _combinations(report: Report) -> str:
    rows = [["voters", "tie-break", "macro-F1", "ties", "gain over the best alone", "p"]]
    for row in report["combinations"]:
        voters, macro, ties = "+".join(row["voters"]), _interval(row["macro_f1"]), str(row["ties"])
        gain, p = _gain(row["gain"])
        rows.append([voters, row["tie_breaker"], macro, ties, f"{row['best']} {gain}", p])
    return f"Table 4. Combinations, by {report['rule']['method']}\n" + table(rows)


def _rules(report: Report) -> str:
    first = report["rules"][0]["rule"]
    rows = [["rule", "macro-F1", "ECE", "neutral otherwise", f"gain over {first}", "p"]]
    for row in report["rules"]:
        shares = figure(row["calibration_error"]), figure(row["alarms"])
        rows.append([row["rule"], _interval(row["macro_f1"]), *shares, *_gain(row["gain"])])
    return "Table 5. All voters, by rule\n" + table(rows)


def _attributes(found: Mapping[str, Any]) -> str:
    rows = [["system", "mean CCC", *ATTRIBUTES, "answered", "gain over the first", "p"]]
    for row in found["systems"]:
        each = (_interval(row["each"][name]) for name in ATTRIBUTES)
        gain = _gain(row["gain"] and row["gain"]["comparison"])
        answered = f"{row['answered']}/{found['rated']}"
        rows.append([row["name"], _interval(row["mean"]), *each, answered, *gain])
    return "Table 6. Attributes\n" + table(rows)


def _gain(comparison: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return a difference with its interval, and p; dashes for None."""
    if comparison is None:
        return "-", "-"
    of = comparison["difference"]
    return f"{of['value']:+.3f} [{of['low']:+.3f}, {of['high']:+.3f}]", figure(comparison["p"])


def _interval(given: Mapping[str, float]) -> str:
    """Format a figure with its interval."""
    return str(Interval(given["value"], given["low"], given["high"], 0))


def figure(value: float | None) -> str:
    """Format a figure with three decimals; None is a dash."""
    return "-" if value is None else f"{value:.3f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows with aligned columns: the first to the left, the rest to the right."""
    rows = [[clean(cell) for cell in row] for row in rows]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        "  ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)]).rstrip() for row in rows
    )


# --- HTML -----------------------------------------------------------------------------------------


def as_html(report: Report) -> str:
    """Return the page: the tables as text, then the plots of each system."""
    return page(PAGE, title="Evaluation", text=as_text(report), report=report)


def page(template: Path, **values: Any) -> str:
    """Return a page made from a template, which may extend PAGE."""
    environment = Environment(
        loader=FileSystemLoader([template.parent, PAGE.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=for_page,
    )
    environment.filters |= {"figure": figure}
    values |= {"columns": [*LABELS, "none"], "side": SIDE}
    return environment.get_template(template.name).render(**values) + "\n"
