"""`abhinaya eval`: make the paper's tables, with intervals, from predictions and a manifest.

Table 1: each system alone. Table 2: systems called MODEL/LOSS. Table 3: each label. Table 4: each
combination of voters, against the best of them alone. Table 5: rules on all voters. Table 6:
arousal, valence and dominance. Predictions are files, or come from checkpoints, models and profiles
that are run first. Nothing is fitted here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from abhinaya.models.command_line import Parser
from abhinaya.models.text import say
from abhinaya.models.vote.combiner import Method
from abhinaya.models.vote.ensemble import PRIORITY, Rule, TiePolicy
from abhinaya.train.command import guarded
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval import models as eval_models
from abhinaya.train.eval.attributes import Rater, columns_of, join_ratings, rated, read_ratings
from abhinaya.train.eval.predictions import (
    VERDICT,
    Predictions,
    System,
    chosen,
    join,
    named_file,
    read_all,
    require_new,
)
from abhinaya.train.eval.report import (
    LOSS_MARK,
    as_html,
    as_text,
    measured,
    measured_attributes,
)
from abhinaya.train.eval.tables import Scored, open_combiner, scored, with_combiner

RULES: Final[tuple[Method, ...]] = ("majority", "mean")
"""Rules without fitted parameters."""
Output = tuple[str, dict[str, Any], str]
"""Text for the terminal, figures for JSON, HTML page."""


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate. Return the exit code: 0, or 1 after an error."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        text, report, page = _tables(args)
        if args.html is not None:
            args.html.write_text(page, encoding="utf-8")
        if args.json is not None:
            args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        say(*text.splitlines())
        return 0

    return guarded("abhinaya eval", work)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("abhinaya eval", __doc__)
    add = parser.add_argument
    add("manifest", type=Path, help="the truth: made by abhinaya data prepare")
    add(
        "predictions",
        nargs="*",
        metavar="[NAME=]FILE",
        help="CSV of one system (its name: NAME, or the file's), or JSON lines of the monitor",
    )
    add("--split", help="score one split only, for example dev")
    add("--by-speaker", action="store_true", help="resample speakers instead of clips")
    add("--resamples", type=int, default=1_000, help="default: %(default)s")
    add("--seed", type=int, default=0, help="seed of the resampling")
    add("--voters", metavar="A,B,...", help="voters to combine; default: all")
    add("--rule", choices=RULES, default="majority")
    add("--combiner", type=Path, metavar="FILE", help="rule fitted by abhinaya train ensemble")
    add("--tie-policy", choices=get_args(TiePolicy), default="tiebreaker_label")
    priority = ",".join(PRIORITY)
    add("--priority", default=priority, metavar="A,B,...", help="order in ties (%(default)s)")
    eval_models.add_models(parser)
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--html", type=Path, metavar="FILE", help="write tables and plots")
    return parser


def _tables(args: argparse.Namespace) -> Output:
    manifest = _read(args)
    labels: list[str] = []
    report: dict[str, Any] = {}
    raters: dict[str, Rater] = {}
    on = None
    for item in args.predictions:
        name, path = named_file(item)
        rates, labelled = columns_of(path)
        if labelled:
            labels.append(item)
        if rates:
            on = on or rated(manifest.clips, args.by_speaker, args.resamples, args.seed)
            require_new(name, path, raters)
            raters[name] = join_ratings(name, read_ratings(path), on.clips)
    if on is not None:
        report |= measured_attributes(on, len(manifest.clips), list(raters.values()))
    if labels:
        report |= _labels(args, manifest, read_all(labels))
    return as_text(report), report, as_html(report)


def _labels(
    args: argparse.Namespace, manifest: Manifest, predictions: Mapping[str, Predictions]
) -> dict[str, Any]:
    on = _scored(args, manifest)
    systems = [join(name, of, on.clips) for name, of in predictions.items()]
    voters = _voters(args, systems)
    rule = _rule(args, voters, predictions)
    rules: dict[str, Rule] = {
        method: replace(rule, method=method, weights={}, temperatures={}) for method in RULES
    }
    if args.combiner is not None:
        rules[f"{rule.method}, fitted"] = rule
    return measured(on, len(manifest.clips), systems, voters, rule, rules)


def _read(args: argparse.Namespace) -> Manifest:
    """Read the manifest, run the requested models, add their files to `args.predictions`."""
    manifest = read_manifest(args.manifest, args.root)
    if args.split:
        manifest = manifest.only(args.split)
    if args.resamples < 1:
        raise DataError(f"--resamples {args.resamples}: must be at least 1")
    labelled = any(clip.label for clip in manifest.clips)
    rateable = any(clip.attributes for clip in manifest.clips)
    scale = rated if rateable and not labelled else scored
    # check before models run for hours
    scale(manifest.clips, args.by_speaker, args.resamples, args.seed)
    args.predictions = [*args.predictions, *eval_models.run(args, manifest)]
    if not args.predictions:
        raise DataError("nothing to evaluate: give files, or --checkpoint, --model or --profile")
    return manifest


def _scored(args: argparse.Namespace, manifest: Manifest) -> Scored:
    return scored(manifest.clips, args.by_speaker, args.resamples, args.seed)


def _voters(args: argparse.Namespace, systems: Sequence[System]) -> list[System]:
    names = [s.name for s in systems if s.name != VERDICT and LOSS_MARK not in s.name]
    return list(chosen({s.name: s for s in systems}, args.voters, names).values())


def _rule(
    args: argparse.Namespace, voters: Sequence[System], predictions: Mapping[str, Predictions]
) -> Rule:
    rule = Rule(args.rule, args.tie_policy, tuple(args.priority.split(",")))
    if args.combiner is None:
        return rule
    combiner = open_combiner(args.combiner, {v.name: predictions[v.name] for v in voters})
    return with_combiner(rule, combiner)
