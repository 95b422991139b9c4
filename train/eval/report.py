"""An evaluation as JSON, and as text for a terminal. What a figure means: `docs/evaluation.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.ensemble import Rule
from abhinaya.train.data.clips import ATTRIBUTES
from abhinaya.train.eval.attributes import AttributeRow, Rated
from abhinaya.train.eval.intervals import Interval
from abhinaya.train.eval.rules import RuleRow
from abhinaya.train.eval.tables import Combination, ModelRow, Scored
from abhinaya.train.metrics import ClassScore, reliability

SCHEMA: Final = "abhinaya.evaluation/1"
LOSS_MARK: Final = "/"
"""Between model and loss in the name of a system, as in S1/WFL: they make table 2."""
Report = dict[str, Any]


def as_json(
    on: Scored,
    total: int,
    models: Sequence[ModelRow],
    classes: Mapping[str, Mapping[str, ClassScore]],
    confusions: Mapping[str, list[list[int]]],
    probabilities: Mapping[str, FloatArray | None],
    combinations: Sequence[Combination],
    rules: Sequence[RuleRow],
    rule: Rule,
) -> Report:
    """Everything that was measured, as plain values."""
    speakers = {clip.speaker for clip in on.clips if clip.speaker}
    return {
        "schema": SCHEMA,
        "clips": total,
        "scored": len(on.clips),
        "speakers": len(speakers),
        "labels": [LABELS[c] for c in on.classes],
        "resampled": "clips" if on.groups is None else "speakers",
        "resamples": on.resamples,
        "rule": {
            "method": rule.method,
            "tie_policy": rule.tie_policy,
            "priority": list(rule.priority),
        },
        "models": [asdict(row) for row in models],
        "classes": {
            name: {label: asdict(score) for label, score in of.items()}
            for name, of in classes.items()
        },
        "confusion": confusions,
        "reliability": {
            name: [
                asdict(b) for b in reliability(p[p.max(axis=1) > 0], on.truth[p.max(axis=1) > 0])
            ]
            for name, p in probabilities.items()
            if p is not None
        },
        "combinations": [asdict(row) for row in combinations],
        "rules": [asdict(row) for row in rules],
    }


def attributes_as_json(on: Rated, total: int, rows: Sequence[AttributeRow]) -> Report:
    """Give what was measured of attributes alone; `as_json` has the rest."""
    return {
        "schema": SCHEMA,
        "clips": total,
        "resampled": "speakers" if on.by_speaker else "clips",
        "resamples": on.resamples,
        "attributes": {"rated": len(on.clips), "systems": [asdict(row) for row in rows]},
    }


def as_text(report: Report) -> str:
    """Give the tables for a terminal, those that there is something to say in."""
    parts = []
    if "models" in report:
        left_out = report["clips"] - report["scored"]
        said = f"{report['scored']} clips of {report['speakers']} speakers"
        if left_out:
            said += f"; {left_out} without a consensus among the eight are left out"
        parts += [said + _drawn(report), _models(report), *_losses(report), _classes(report)]
        if report["combinations"]:
            parts.append(_combinations(report))
        if report["rules"]:
            parts.append(_rules(report))
    if "attributes" in report:
        said = f"{report['attributes']['rated']} clips with arousal, valence and dominance"
        if left_out := report["clips"] - report["attributes"]["rated"]:
            said += f"; {left_out} without are left out"
        parts += [said + _drawn(report), _attributes(report)]
    return "\n\n".join(parts)


def _drawn(report: Report) -> str:
    return f". 95 % intervals over {report['resampled']} ({report['resamples']} resamples)."


def _models(report: Report) -> str:
    rows = [["system", "macro-F1", "UAR", "weighted F1", "accuracy", "ECE", "risk", "answered"]]
    for row in report["models"]:
        rows.append(
            [
                row["name"],
                told(row["macro_f1"]),
                *(figure(row[k]) for k in ("recall", "weighted_f1", "accuracy")),
                *(figure(row[k]) for k in ("calibration_error", "risk")),
                f"{row['answered']}/{report['scored']}",
            ]
        )
    return "Table 1. Systems\n" + table(rows)


def _losses(report: Report) -> list[str]:
    """Table 2: models by the loss they were trained with, where systems are called MODEL/LOSS."""
    found: dict[str, dict[str, str]] = {}
    for row in report["models"]:
        model, mark, loss = row["name"].partition(LOSS_MARK)
        if mark:
            found.setdefault(model, {})[loss] = told(row["macro_f1"])
    if not found:
        return []
    losses = list(dict.fromkeys(loss for of in found.values() for loss in of))
    rows = [["macro-F1", *losses]]
    rows += [[model, *(of.get(loss, "-") for loss in losses)] for model, of in found.items()]
    return ["Table 2. Losses\n" + table(rows)]


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
        gain = row["gain"]["difference"]
        rows.append(
            [
                "+".join(row["voters"]),
                row["tie_breaker"],
                told(row["macro_f1"]),
                str(row["ties"]),
                f"{row['best']} {gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]",
                figure(row["gain"]["p"]),
            ]
        )
    return f"Table 4. Combinations, by {report['rule']['method']}\n" + table(rows)


def _rules(report: Report) -> str:
    first = report["rules"][0]["rule"]
    rows = [["rule", "macro-F1", "ECE", "neutral otherwise", f"gain over {first}", "p"]]
    for row in report["rules"]:
        gain = row["gain"] and row["gain"]["difference"]
        lead = gain and f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        rows.append(
            [
                row["rule"],
                told(row["macro_f1"]),
                figure(row["calibration_error"]),
                figure(row["alarms"]),
                lead or "-",
                figure(row["gain"]["p"] if row["gain"] else None),
            ]
        )
    return "Table 5. All voters, by rule\n" + table(rows)


def _attributes(report: Report) -> str:
    found = report["attributes"]
    rows = [["system", "mean CCC", *ATTRIBUTES, "answered", "gain over the first", "p"]]
    for row in found["systems"]:
        gain = row["gain"] and row["gain"]["comparison"]
        lead = gain and gain["difference"]
        rows.append(
            [
                row["name"],
                told(row["mean"]),
                *(told(row["each"][name]) for name in ATTRIBUTES),
                f"{row['answered']}/{found['rated']}",
                f"{lead['value']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]" if lead else "-",
                figure(gain["p"] if gain else None),
            ]
        )
    return "Table 6. Attributes\n" + table(rows)


def told(interval: Mapping[str, float]) -> str:
    """Write a figure with its interval."""
    return str(Interval(interval["value"], interval["low"], interval["high"], 0))


def figure(value: float | None) -> str:
    """Write a figure with three decimals; a dash for none."""
    return "-" if value is None else f"{value:.3f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the rest to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
