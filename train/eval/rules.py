"""The flags of `abhinaya eval` and `predict` that say which voters are combined, and how."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

from abhinaya.models.base import Ballot
from abhinaya.models.labels import UNKNOWN
from abhinaya.models.vote.combiner import Method
from abhinaya.models.vote.ensemble import PRIORITY, Rule, TiePolicy, cast, decide
from abhinaya.train.data.clips import Clip
from abhinaya.train.errors import DataError
from abhinaya.train.eval.predict import Answer
from abhinaya.train.eval.predictions import VERDICT, Predictions, chosen, found_answers
from abhinaya.train.eval.report import LOSS_MARK
from abhinaya.train.eval.tables import open_combiner, with_combiner

RULES: Final[tuple[Method, ...]] = ("majority", "mean")
"""Rules without fitted parameters."""


def add_rule(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the vote."""
    add = parser.add_argument
    add("--voters", metavar="A,B,...", help="voters to combine; default: all")
    add("--rule", choices=RULES, default="majority")
    add("--combiner", type=Path, metavar="FILE", help="rule fitted by abhinaya train ensemble")
    add("--tie-policy", choices=get_args(TiePolicy), default="tiebreaker_label")
    priority = ",".join(PRIORITY)
    add("--priority", default=priority, metavar="A,B,...", help="order in ties (%(default)s)")
    add("--cascade", metavar="A,B,...", help="voters that count only where the others need them")
    about, sure = "confidence of the others below which they do", Rule().cascade_confidence
    add("--cascade-confidence", type=float, default=sure, metavar="P", help=about)


def voters_of(args: argparse.Namespace, found: Mapping[str, Predictions]) -> dict[str, Predictions]:
    """Return the systems to combine: those of --voters, else all but verdicts and MODEL/LOSS."""
    default = [name for name in found if name != VERDICT and LOSS_MARK not in name]
    return chosen(found, args.voters, default)


def rule_of(args: argparse.Namespace, voters: Mapping[str, Predictions]) -> Rule:
    """Return the rule that the flags name. Raises DataError: a voter or the combiner is wrong."""
    order, cascade = tuple(args.priority.split(",")), tuple(chosen(voters, args.cascade, ()))
    sure = args.cascade_confidence
    try:
        rule = Rule(args.rule, args.tie_policy, order, cascade=cascade, cascade_confidence=sure)
    except ValueError as error:
        raise DataError(str(error)) from error
    if args.combiner is None:
        return rule
    voting = {name: of for name, of in voters.items() if of.votes}
    return with_combiner(rule, open_combiner(args.combiner, voting))


def vote(voters: Mapping[str, Predictions], clips: Sequence[Clip], rule: Rule) -> dict[str, Answer]:
    """Return the joint answer to each clip, by id, in the order of `clips`."""
    columns = {name: found_answers(name, of.ballots, clips) for name, of in voters.items()}
    answers = {}
    for i, clip in enumerate(clips):
        ballots: dict[str, Ballot] = {n: b for n, of in columns.items() if (b := of[i]) is not None}
        decision = decide(cast(ballots, rule), rule)
        label = "" if decision.label == UNKNOWN else decision.label
        reason = "" if label or decision.attributes else decision.reason
        answers[clip.id] = Answer(clip.id, label, attributes=decision.attributes, reason=reason)
    return answers
