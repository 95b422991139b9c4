"""`abhinaya eval`: predictions and a manifest give the paper's tables, with intervals.

Table 1 scores each system alone, table 2 systems called MODEL/LOSS, table 3 each label, table 4
every combination of voters with its tie-break against the best voter alone, table 5 rules for all
of them, table 6 arousal, valence and dominance. Predictions are files, or of checkpoints, models
and profiles that are run first. Nothing is fitted here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from abhinaya.models.errors import ModelError
from abhinaya.models.vote.combiner import Method
from abhinaya.models.vote.ensemble import PRIORITY, Rule, TiePolicy
from abhinaya.train.data.clips import DataError
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.eval import curve as eval_curve
from abhinaya.train.eval import models as eval_models
from abhinaya.train.eval.attributes import attribute_rows, rated
from abhinaya.train.eval.html import as_html, curve_page
from abhinaya.train.eval.predictions import VERDICT, System, join, read_predictions
from abhinaya.train.eval.ratings import Rater, join_ratings, only_rates, rates, read_ratings
from abhinaya.train.eval.report import LOSS_MARK, as_json, as_text, attributes_as_json
from abhinaya.train.eval.rules import open_combiner, rule_rows, with_combiner
from abhinaya.train.eval.sources import Source, read_sources
from abhinaya.train.eval.tables import (
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
    arguments = list(sys.argv[1:] if argv is None else argv)
    kind = arguments[0] if arguments[:1] and arguments[0] in KINDS else ""
    args = _parser(kind).parse_args(arguments[1:] if kind else arguments)
    try:
        text, report, page = KINDS[kind](args)
        if args.html is not None:
            args.html.write_text(page, encoding="utf-8")
        if args.json is not None:
            args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except (DataError, ModelError) as error:
        print(f"abhinaya eval: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"abhinaya eval: cannot write: {error}; write elsewhere", file=sys.stderr)
        return 1
    print(text)
    return 0


def _tables(args: argparse.Namespace) -> Told:
    report = _report(args)
    return as_text(report), report, as_html(report)


def _curve(args: argparse.Namespace) -> Told:
    if not 0 <= args.alarms <= 1:
        raise DataError(f"--alarms {args.alarms}: must be between 0 and 1")
    on, systems = _scored(args, _read(args))
    voters = _voters(systems, args.voters)
    found = eval_curve.measure(voters, on, _rule(args, voters), args.neutral, args.alarms)
    text = eval_curve.as_text(found)
    return text, found, curve_page(text, found)


Told = tuple[str, dict[str, Any], str]
"""What is printed, as plain values, and as a page."""
KINDS: Final[Mapping[str, Callable[[argparse.Namespace], Told]]] = {
    "": _tables,
    "curve": _curve,
}
"""What comes first on the command line, and what it does."""
USAGE: Final = f"""{__doc__}
abhinaya eval curve ...    emotions found against false alarms, by the least confidence
"""


def _parser(kind: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"abhinaya eval {kind}".strip(),
        description={"": USAGE, "curve": eval_curve.__doc__}[kind],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_predictions(parser)
    if kind == "curve":
        eval_curve.add_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write tables and plots")
    return parser


def _add_predictions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="the truth: see abhinaya data prepare")
    parser.add_argument(
        "predictions",
        nargs="*",
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
    eval_models.add_models(parser)


def _read(args: argparse.Namespace) -> Manifest:
    """Read the truth; models that are to be run are run, their files join `args.predictions`."""
    manifest = read_manifest(args.manifest, args.root)
    if args.split:
        manifest = manifest.only(args.split)
    if args.resamples < 1:
        raise DataError(f"--resamples {args.resamples}: must be at least 1")
    labelled = any(clip.label for clip in manifest.clips)
    rateable = any(clip.attributes for clip in manifest.clips)
    scale = rated if rateable and not labelled else scored
    scale(manifest.clips, args.by_speaker, args.resamples, args.seed)  # before models run for hours
    args.predictions = [*args.predictions, *eval_models.run(args, manifest)]
    if not args.predictions:
        raise DataError("nothing to evaluate: give files, or --checkpoint, --model or --profile")
    return manifest


def _scored(args: argparse.Namespace, manifest: Manifest) -> tuple[Scored, list[System]]:
    """Pick what labels can be scored on, and read what the systems say of it."""
    on = scored(manifest.clips, args.by_speaker, args.resamples, args.seed)
    return on, _systems(args.predictions, on)


def _rule(args: argparse.Namespace, voters: Sequence[System]) -> Rule:
    rule = Rule(args.rule, args.tie_policy, tuple(args.priority.split(",")))
    if args.combiner is None:
        return rule
    sources = _sources(args.predictions)
    combiner = open_combiner(args.combiner, {v.name: sources[v.name] for v in voters})
    return with_combiner(rule, combiner)


def _report(args: argparse.Namespace) -> dict[str, Any]:
    manifest = _read(args)
    rating = [item for item in args.predictions if rates(_file(item)[1])]
    about = _attributes(args, manifest, rating) if rating else {}
    args.predictions = [item for item in args.predictions if not only_rates(_file(item)[1])]
    return {**about, **(_labels(args, manifest) if args.predictions else {})}


def _attributes(
    args: argparse.Namespace, manifest: Manifest, files: Sequence[str]
) -> dict[str, Any]:
    on = rated(manifest.clips, args.by_speaker, args.resamples, args.seed)
    raters: dict[str, Rater] = {}
    for name, path in map(_file, files):
        _require_new(name, path, raters)
        raters[name] = join_ratings(name, read_ratings(path), on.clips)
    rows = list(attribute_rows(list(raters.values()), on))
    return attributes_as_json(on, len(manifest.clips), rows)


def _labels(args: argparse.Namespace, manifest: Manifest) -> dict[str, Any]:
    on, systems = _scored(args, manifest)
    voters = _voters(systems, args.voters)
    rule = _rule(args, voters)
    named: dict[str, Rule] = {
        method: replace(rule, method=method, weights={}, temperatures={}) for method in RULES
    }
    if args.combiner is not None:
        named[f"{rule.method}, fitted"] = rule
    return as_json(
        on,
        total=len(manifest.clips),
        models=[model_row(s, on) for s in systems],
        classes={s.name: class_rows(s, on) for s in systems},
        confusions={s.name: confusion_rows(s, on) for s in systems},
        probabilities={s.name: s.probabilities for s in systems},
        combinations=list(combination_rows(voters, on, rule)) if len(voters) > 1 else [],
        rules=list(rule_rows(voters, on, named)) if len(voters) > 1 else [],
        rule=rule,
    )


def _file(said: str) -> tuple[str, Path]:
    """Name and path of [NAME=]FILE."""
    name, _, file = said.rpartition("=")
    return name or Path(file).stem, Path(file)


def _require_new(name: str, path: Path, known: Container[str]) -> None:
    if name in known:
        raise DataError(f"{path}: there is already a system {name!r}; name it apart: OTHER={path}")


def _systems(given: Sequence[str], on: Scored) -> list[System]:
    found: dict[str, System] = {}
    for name, path in map(_file, given):
        for system, ballots in read_predictions(path, name).items():
            _require_new(system, path, found)
            found[system] = join(system, ballots, on.clips)
    return list(found.values())


def _sources(given: Sequence[str]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for name, path in map(_file, given):
        found |= read_sources(path, name)
    return found


def _voters(systems: Sequence[System], asked: str | None) -> list[System]:
    by_name = {s.name: s for s in systems}
    if asked is None:
        return [s for s in systems if s.name != VERDICT and LOSS_MARK not in s.name]
    names = asked.split(",")
    if unknown := [name for name in names if name not in by_name]:
        raise DataError(
            f"--voters: no predictions of {', '.join(unknown)}; there are {', '.join(by_name)}"
        )
    return [by_name[name] for name in names]
