"""`abhinaya train ensemble`: fit a combiner on the predictions of several voters."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from abhinaya.models import sums
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.combiner import Combiner, Member, Method
from abhinaya.models.vote.combiner_file import write_combiner
from abhinaya.models.vote.ensemble import PRIORITY, Decision, Rule, decide
from abhinaya.train.command import Say
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.ensemble.answers import Answers, Prior, prior_of
from abhinaya.train.ensemble.fit import PRIOR, Fit, fit_ensemble, least_confidence
from abhinaya.train.ensemble.fusion import fit_fusion
from abhinaya.train.ensemble.meta import SOUP
from abhinaya.train.errors import DataError
from abhinaya.train.eval.attributes import rated, rater
from abhinaya.train.eval.intervals import macro_f1_of, paired_bootstrap
from abhinaya.train.eval.predictions import (
    VERDICT,
    Predictions,
    chosen,
    found_answers,
    named_file,
    read_all,
    refuse_trained,
)
from abhinaya.train.eval.rules import RULES
from abhinaya.train.eval.tables import alarms, guesses
from abhinaya.train.metrics import Indices, macro_f1


def add_ensemble(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ensemble`."""
    add = parser.add_argument
    add("manifest", type=Path, help="the truth: made by abhinaya data prepare")
    about = "of voters not trained on these speakers: CSV, or JSON lines of the monitor"
    add("predictions", nargs="+", metavar="[NAME=]FILE", help=about)
    add("--out", type=Path, required=True, metavar="FILE", help="combiner to write")
    add("--method", choices=get_args(Method), default="logistic")
    add("--voters", metavar="A,B,...", help="voters to combine; default: all")
    add("--attributes", action="store_true", help="fit the fusion of attributes (else: the mean)")
    add("--split", help="fit on this split of the manifest only")
    add("--prior", default=PRIOR, help="balanced, corpus, or the share of neutral (%(default)s)")
    add("--soup", type=int, default=SOUP, metavar="N", help="runs of mlp (%(default)s)")
    add("--alarms", type=float, metavar="P", help="fit min_confidence for so many false alarms")
    add("--priority", default=",".join(PRIORITY), help="tie-break order of the rule compared with")
    add("--seed", type=int, default=0, help="seed of folds and intervals")


def run_ensemble(args: argparse.Namespace, say: Say) -> None:
    """Fit a combiner, measure it, and write it.

    Raises DataError: the predictions do not match the manifest, or a voter was trained on a clip.
    """
    if args.alarms is not None and not 0 < args.alarms < 1:
        raise DataError(f"--alarms {args.alarms}: must be between 0 and 1")
    if args.soup < 1:
        raise DataError(f"--soup {args.soup}: must be at least 1")
    prior = prior_of(args.prior)
    manifest = read_manifest(args.manifest)
    if args.split:
        manifest = manifest.only(args.split)
    found = read_all(args.predictions)
    found.pop(VERDICT, None)
    systems = chosen(found, args.voters, list(found))
    for name, predictions in systems.items():
        refuse_trained(name, predictions, {clip.split for clip in manifest.clips})
    members = {name: Member(*predictions.model(name)) for name, predictions in systems.items()}
    files = " ".join(map(str, [args.manifest, *args.predictions]))
    command = f"abhinaya train ensemble {files} --method {args.method} --seed {args.seed}"
    combiner = Combiner("mean", members, made_by=command)
    if voting := {name: of for name, of in systems.items() if of.votes}:
        combiner = _labels(combiner, _answers(args, manifest, voting), prior, args)
    elif not args.attributes:
        raise DataError("the predictions have attributes only: give --attributes")
    if args.attributes:
        combiner = _attributes(combiner, manifest, systems, args.seed)
    write_combiner(args.out, combiner)
    for name, m in combiner.members.items():
        model = f"{m.model} {m.version}".strip() or "unknown model"
        say(f"{name}: {model}, temperature {m.temperature:.2f}, weight {m.weight:.2f}")
    for name, value in {**combiner.metrics, "min_confidence": combiner.min_confidence}.items():
        say(f"{name}: {value}")
    how = f"--set vote.method={combiner.method} --set vote.combiner={args.out}"
    say(f"wrote {args.out}; use it: abhinaya eval --combiner {args.out}, or in a monitor {how}")


def _labels(
    combiner: Combiner, answers: Answers, prior: Prior, args: argparse.Namespace
) -> Combiner:
    """Return the combiner with what is fitted for labels."""
    fit = fit_ensemble(answers, args.method, prior, args.seed, args.soup)
    least = least_confidence(fit.held_out, answers.truth, args.alarms) if args.alarms else 0.0
    rule = Rule(priority=tuple(args.priority.split(",")))
    return replace(
        fit.into(combiner, least),
        fitted_on=_provenance(answers, fit, args),
        metrics=measure(answers, fit.held_out, rule, least, args.seed),
    )


def _attributes(
    combiner: Combiner, manifest: Manifest, systems: Mapping[str, Predictions], seed: int
) -> Combiner:
    """Return the combiner with what is fitted for attributes."""
    on = rated(manifest.clips, seed=seed)
    raters = [rater(name, of, on.clips) for name, of in systems.items() if of.rates]
    if len(raters) < 2:
        raise DataError(f"--attributes: {len(raters)} systems give attributes; a fusion needs two")
    fusion, plans, metrics = fit_fusion(raters, on, seed)
    fitted_on = {**combiner.fitted_on, "rated": len(on.clips), "fusion": dict(plans)}
    metrics = {**combiner.metrics, **metrics}
    return replace(combiner, fusion=fusion, fitted_on=fitted_on, metrics=metrics)


def _answers(
    args: argparse.Namespace, manifest: Manifest, systems: Mapping[str, Predictions]
) -> Answers:
    clips = tuple(clip for clip in manifest.clips if clip.label)
    if not clips:
        raise DataError(f"{args.manifest}: no clip has a consensus among the eight labels")
    voted = {n: {c: b for c, b in of.ballots.items() if b.label} for n, of in systems.items()}
    columns = [(name, found_answers(name, ballots, clips)) for name, ballots in voted.items()]
    cast = [{n: b for n, of in columns if (b := of[i])} for i in range(len(clips))]
    truth = np.array([LABELS.index(clip.label or "") for clip in clips], np.int64)
    return Answers(tuple(cast), truth, tuple(clip.speaker for clip in clips), tuple(systems))


def measure(
    answers: Answers, decisions: Sequence[Decision], rule: Rule, least: float, seed: int
) -> dict[str, Any]:
    """Return figures of decisions on held-out speakers, and of rules that are not fitted."""
    truth = answers.truth
    classes = sorted({int(c) for c in truth})

    def figures(guess: Indices, prefix: str = "", suffix: str = "") -> dict[str, Any]:
        named = {
            "macro_f1": macro_f1(truth, guess, classes),
            "neutral_otherwise": alarms(guess, truth),
        }
        return {f"{prefix}{k}{suffix}": v if v is None else round(v, 4) for k, v in named.items()}

    own = guesses(decisions)
    found = {"measured": "each fold of speakers by the fit on the others", **figures(own)}
    for other in RULES:
        theirs = guesses([decide(v, replace(rule, method=other)) for v in answers.votes])
        mine, yours = (macro_f1_of(truth, guess, classes) for guess in (own, theirs))
        gain = paired_bootstrap(mine, yours, len(truth), seed=seed)
        of = gain.difference
        found |= figures(theirs, f"{other}_")
        found[f"gain_over_{other}"] = [round(x, 4) for x in (of.value, of.low, of.high)]
        found[f"gain_over_{other}_p"] = round(gain.p, 4)
    if least:
        found |= figures(guesses(decisions, least), suffix="_at_min_confidence")
    return found


def _provenance(answers: Answers, fit: Fit, args: argparse.Namespace) -> dict[str, Any]:
    files = [args.manifest, *(named_file(file)[1] for file in args.predictions)]
    return {
        "clips": len(answers.truth),
        "speakers": len(set(answers.speakers)),
        "answered": {v: len(answers.of([v])) for v in answers.voters},
        "sha256": {str(file): sums.sum_of(file) for file in files},
        "prior": args.prior,
        "seed": args.seed,
        "plans": dict(fit.plans),
    }
