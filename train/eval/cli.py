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
from typing import Any

from abhinaya.models.command_line import Parser
from abhinaya.models.text import say
from abhinaya.models.vote.ensemble import Rule
from abhinaya.models.vote.fitted import MEAN
from abhinaya.train.command import guarded
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval import models as eval_models
from abhinaya.train.eval.attributes import fused, rated, rater
from abhinaya.train.eval.predict import run
from abhinaya.train.eval.predictions import (
    Predictions,
    join,
    read_all,
)
from abhinaya.train.eval.report import (
    as_html,
    as_text,
    measured,
    measured_attributes,
)
from abhinaya.train.eval.rules import RULES, add_rule, rule_of, voters_of
from abhinaya.train.eval.tables import scored

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
    about = "CSV of one system (its name: NAME, or the file's), or JSON lines of the monitor"
    add("predictions", nargs="*", metavar="[NAME=]FILE", help=about)
    add("--split", help="score one split only, for example dev")
    add("--by-speaker", action="store_true", help="resample speakers instead of clips")
    add("--resamples", type=int, default=1_000, help="default: %(default)s")
    add("--seed", type=int, default=0, help="seed of the resampling")
    add_rule(parser)
    eval_models.add_models(parser)
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--html", type=Path, metavar="FILE", help="write tables and plots")
    return parser


def _tables(args: argparse.Namespace) -> Output:
    manifest = _read(args)
    found = read_all(args.predictions)
    report: dict[str, Any] = {}
    if rating := {name: of for name, of in found.items() if of.rates}:
        on = rated(manifest.clips, args.by_speaker, args.resamples, args.seed)
        raters = [rater(name, of, on.clips) for name, of in rating.items()]
        several = [one for one in raters if one.name in voters_of(args, found)]
        if len(several) > 1:
            rule = rule_of(args, {one.name: rating[one.name] for one in several})
            raters.append(fused("mean of all", several, MEAN))
            if rule.fusion is not MEAN:
                raters.append(fused("fitted fusion", several, rule.fusion))
        report |= measured_attributes(on, len(manifest.clips), raters)
    if voting := {name: of for name, of in found.items() if of.votes}:
        report |= _labels(args, manifest, voting)
    return as_text(report), report, as_html(report)


def _labels(
    args: argparse.Namespace, manifest: Manifest, predictions: Mapping[str, Predictions]
) -> dict[str, Any]:
    on = scored(manifest.clips, args.by_speaker, args.resamples, args.seed)
    systems = {name: join(name, of, on.clips) for name, of in predictions.items()}
    chosen = voters_of(args, predictions)
    voters = [systems[name] for name in chosen]
    rule = rule_of(args, chosen)
    rules: dict[str, Rule] = {
        method: replace(rule, method=method, weights={}, temperatures={}) for method in RULES
    }
    if args.combiner is not None:
        rules[f"{rule.method}, fitted"] = rule
    return measured(on, len(manifest.clips), [*systems.values()], voters, rule, rules)


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
    models = eval_models.asked(args)
    args.predictions += run(models, manifest, args.write, args.batch, args.max_missing)
    if not args.predictions:
        raise DataError("nothing to evaluate: give files, or --checkpoint, --model or --profile")
    return manifest
