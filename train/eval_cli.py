"""`abhinaya eval`: files of predictions and a manifest give the paper's tables, with intervals.

Table 1 scores each system alone, table 3 each label, table 4 every combination of voters with its
tie-break against the best voter alone, table 5 rules for all of them. Nothing is fitted here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from abhinaya.models.combiner import Method
from abhinaya.models.ensemble import PRIORITY, Rule, TiePolicy
from abhinaya.train.data.clips import DataError
from abhinaya.train.data.manifest import read_manifest
from abhinaya.train.eval_html import as_html
from abhinaya.train.eval_predictions import VERDICT, System, join, read_predictions
from abhinaya.train.eval_report import as_json, as_text
from abhinaya.train.eval_rules import open_combiner, rule_rows, with_combiner
from abhinaya.train.eval_sources import Source, read_sources
from abhinaya.train.eval_tables import (
    Scored,
    class_rows,
    combination_rows,
    confusion_rows,
    model_row,
    scored,
)

RULES: Final[tuple[Method, ...]] = ("majority", "mean")
"""Rules that nothing is fitted for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; 0, or 1 with one line on standard error about what was wrong."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        report = _report(args)
        if args.html is not None:
            args.html.write_text(as_html(report), encoding="utf-8")
        if args.json is not None:
            args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except DataError as error:
        print(f"abhinaya eval: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"abhinaya eval: cannot write: {error}; write elsewhere", file=sys.stderr)
        return 1
    print(as_text(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="abhinaya eval",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", type=Path, help="the truth: see abhinaya data prepare")
    parser.add_argument(
        "predictions",
        nargs="+",
        metavar="[NAME=]FILE",
        help="CSV of one system (its name is NAME, or the file's), or JSON lines of the monitor",
    )
    parser.add_argument("--split", help="score one split only, for example dev")
    parser.add_argument(
        "--by-speaker", action="store_true", help="resample speakers instead of clips"
    )
    parser.add_argument("--resamples", type=int, default=1_000, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    parser.add_argument("--voters", metavar="A,B,...", help="who is combined; default: all")
    parser.add_argument("--rule", choices=RULES, default="majority")
    parser.add_argument(
        "--combiner", type=Path, metavar="FILE", help="a rule that abhinaya train ensemble fitted"
    )
    parser.add_argument("--tie-policy", choices=get_args(TiePolicy), default="tiebreaker_label")
    parser.add_argument(
        "--priority",
        default=",".join(PRIORITY),
        metavar="A,B,...",
        help="who breaks ties, first to last (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write tables and plots")
    return parser


def _report(args: argparse.Namespace) -> dict[str, Any]:
    manifest = read_manifest(args.manifest)
    if args.split:
        manifest = manifest.only(args.split)
    if args.resamples < 1:
        raise DataError(f"--resamples {args.resamples}: must be at least 1")
    on = scored(manifest.clips, args.by_speaker, args.resamples, args.seed)
    systems = _systems(args.predictions, on)
    rule = Rule(args.rule, args.tie_policy, tuple(args.priority.split(",")))
    voters = _voters(systems, args.voters)
    rules = [replace(rule, method=method) for method in RULES]
    if args.combiner is not None:
        sources = _sources(args.predictions)
        combiner = open_combiner(args.combiner, {v.name: sources[v.name] for v in voters})
        rule = with_combiner(rule, combiner)
        rules.append(rule)
    return as_json(
        on,
        total=len(manifest.clips),
        models=[model_row(s, on) for s in systems],
        classes={s.name: class_rows(s, on) for s in systems},
        confusions={s.name: confusion_rows(s, on) for s in systems},
        probabilities={s.name: s.probabilities for s in systems},
        combinations=list(combination_rows(voters, on, rule)) if len(voters) > 1 else [],
        rules=list(rule_rows(voters, on, rules)) if len(voters) > 1 else [],
        rule=rule,
    )


def _systems(given: Sequence[str], on: Scored) -> list[System]:
    found: dict[str, System] = {}
    for item in given:
        name, _, file = item.rpartition("=")
        path = Path(file)
        for system, ballots in read_predictions(path, name or path.stem).items():
            if system in found:
                raise DataError(
                    f"{path}: there is already a system {system!r}; name it apart: OTHER={path}"
                )
            found[system] = join(system, ballots, on.clips)
    return list(found.values())


def _sources(given: Sequence[str]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for item in given:
        name, _, file = item.rpartition("=")
        found |= read_sources(Path(file), name or Path(file).stem)
    return found


def _voters(systems: Sequence[System], asked: str | None) -> list[System]:
    by_name = {s.name: s for s in systems}
    if asked is None:
        return [s for s in systems if s.name != VERDICT]
    names = asked.split(",")
    if unknown := [name for name in names if name not in by_name]:
        raise DataError(
            f"--voters: no predictions of {', '.join(unknown)}; there are {', '.join(by_name)}"
        )
    return [by_name[name] for name in names]
