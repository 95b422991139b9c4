"""`abhinaya predict`: label the clips of a manifest, also those of a hidden test.

Each model's answers are written to --write as NAME.csv, and the vote of several as vote.csv. A run
that is killed continues where it was. Predictions that exist are given as [NAME=]FILE.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from abhinaya.models.base import Card
from abhinaya.models.command_line import Parser
from abhinaya.models.labels import LABELS
from abhinaya.models.text import say
from abhinaya.train.command import guarded
from abhinaya.train.data.manifest import read_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.models import add_models, asked
from abhinaya.train.eval.predict import run, write_challenge, write_predictions
from abhinaya.train.eval.predictions import found_answers, named_file, read_all
from abhinaya.train.eval.rules import add_rule, rule_of, vote, voters_of


def main(argv: Sequence[str] | None = None) -> int:
    """Predict. Return the exit code, see `guarded`."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    return guarded("abhinaya predict", lambda: _predict(args))


def _parser() -> argparse.ArgumentParser:
    parser = Parser("abhinaya predict", __doc__)
    add = parser.add_argument
    add("manifest", type=Path, help="made by abhinaya data prepare")
    add("predictions", nargs="*", metavar="[NAME=]FILE", help="also combine these")
    add("--split", help="clips of one split only, for example test3")
    about = "file of the vote (WRITE/vote.csv, if several vote)"
    add("--vote", type=Path, metavar="FILE", help=about)
    add("--labels", type=Path, metavar="FILE", help="write FileName,EmoClass for the challenge")
    about = "write FileName,EmoAct,EmoVal,EmoDom for the challenge"
    add("--attributes", type=Path, metavar="FILE", help=about)
    add_models(parser)
    add_rule(parser)
    return parser


def _predict(args: argparse.Namespace) -> int:
    manifest = read_manifest(args.manifest, args.root)
    if args.split:
        manifest = manifest.only(args.split)
    clips, models = manifest.clips, asked(args)
    joint = args.vote or args.write / "vote.csv"
    made = [args.write / f"{one.name}.csv" for one in models]
    combined = {path.resolve() for path in [*(named_file(a)[1] for a in args.predictions), *made]}
    for path in (args.vote, args.labels, args.attributes, joint if len(combined) > 1 else None):
        if path is not None and path.resolve() in combined:
            raise DataError(f"{path}: has predictions to combine; give the output another name")
    files = args.predictions + run(models, manifest, args.write, args.batch, args.max_missing)
    if not files:
        raise DataError("nothing to predict with: give --checkpoint, --model, --profile or files")
    voters = voters_of(args, read_all(files))
    rule = rule_of(args, voters)
    for name, of in voters.items():
        if without := found_answers(name, of.ballots, clips).count(None):
            say(f"{name}: no answer to {without} of {len(clips)} clips", file=sys.stderr)
    answers = vote(voters, clips, rule)
    if args.vote is not None or len(voters) > 1 or args.combiner is not None:
        write_predictions(joint, Card("vote", rule.method, frozenset(), LABELS, ""), clips, answers)
        labels = sum(bool(answer.label) for answer in answers.values())
        what = f"{labels} labelled, {sum(bool(a.attributes) for a in answers.values())} rated"
        say(f"{joint}: {'+'.join(voters)}: {len(clips)} clips, {what}")
    for form, path in (("labels", args.labels), ("attributes", args.attributes)):
        if path is not None:
            lacking = write_challenge(path, form, clips, answers)
            say(f"{path}: {len(clips) - len(lacking)} of {len(clips)} clips")
            if lacking:
                say(f"  without an answer: {len(lacking)}, the first {', '.join(lacking[:3])}")
    return 0
