"""`abhinaya eval emobox`: score models by EmoBox's protocol, beside its published figures.

    abhinaya eval emobox --corpus ravdess --data RAVDESS --profile embedded.toml --probe embedded
    abhinaya eval emobox --corpus cremad --data CREMA-D --splits EmoBox/data --checkpoint S1=s1/best

EmoBox (Ma et al., Interspeech 2024) trains a small head on a frozen encoder, on the training clips
of each fold. Its figures are unweighted accuracy (UA, mean recall of the classes), weighted
accuracy (WA, share of clips) and macro-F1, each the mean over folds. Models of a profile or
checkpoint are asked as they are: zero-shot, unless they were trained on the corpus. A class that a
model cannot name counts as wrong. Clips of speakers that a model has learnt from are left out and
counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.bench.quality.emobox_splits import FACTS, Fold, Protocol, protocol
from abhinaya.models.asr import carrier
from abhinaya.models.base import SAMPLE_RATE, FloatArray
from abhinaya.models.command_line import Parser
from abhinaya.models.text import say
from abhinaya.models.tiny.encoder import Encoder
from abhinaya.models.tiny.metadata import FOLDER, read_card
from abhinaya.train.command import guarded
from abhinaya.train.data.audio import read_clip
from abhinaya.train.errors import DataError
from abhinaya.train.eval.models import Named, add_models, asked
from abhinaya.train.eval.predict import run
from abhinaya.train.eval.predictions import found_answers, read_all
from abhinaya.train.eval.rules import add_rule, rule_of, vote, voters_of
from abhinaya.train.metrics import accuracy, macro_f1, unweighted_recall

PROBE: Final = "probe of the embedded encoder"
LONGEST: Final = 10 * SAMPLE_RATE
"""Samples that the encoder reads at once; longer clips are cut."""
STRENGTHS: Final = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse regularisation of the probe, chosen on a fifth of the training clips as in EmoBox."""
Guesses = Mapping[int, str]
"""Number of a clip -> label; a clip without an answer is absent."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; figures in percent."""

    system: str
    trained_on: str
    folds: int | None = None
    clips: int | None = None
    ua: float | None = None
    wa: float | None = None
    f1: float | None = None


def main(argv: Sequence[str]) -> int:
    """Score. Return the exit code, see `guarded`."""
    parser = Parser("abhinaya eval emobox", __doc__)
    add = parser.add_argument
    add("--corpus", required=True, help=f"one of {', '.join(FACTS)}")
    add(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="folder of the corpus, or its manifest",
    )
    about = "folder `data` of EmoBox's repository; needed where folds are lists of clips"
    add("--splits", type=Path, metavar="DIR", help=about)
    about = "train logistic regression on the frozen embedded encoder, in each fold"
    add("--probe", choices=("embedded",), help=about)
    about = "speakers that the models were trained on, with wildcards: ravdess_0?,ravdess_1[0-6]"
    add("--learnt", default="", metavar="A,B,...", help=f"{about}; packaged weights know theirs")
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add_models(parser)
    add_rule(parser)
    args = parser.parse_args(argv)
    return guarded("abhinaya eval emobox", lambda: _score(args))


def _score(args: argparse.Namespace) -> int:
    on, models = protocol(args.corpus, args.data, args.splits), asked(args)
    if args.root is not None:
        on = replace(on, manifest=replace(on.manifest, root=args.root))
    if not models and not args.probe:
        raise DataError("nothing to score: give --profile, --model, --checkpoint or --probe")
    patterns = [*filter(None, args.learnt.split(",")), *(p for one in models for p in learnt(one))]
    known = {i for i in on.truth if any(fnmatch(on.manifest.clips[i].speaker, p) for p in patterns)}
    rows = _model_rows(args, on, models, known) if models else []
    if args.probe:
        guesses = probe(on)
        rows.append(scored(PROBE, "this corpus, in each fold", on, guesses))
        if known and models:
            rows.append(scored(f"{PROBE}, same clips", "this corpus", on, guesses, known))
    for published in FACTS[args.corpus]["published"]:
        figures = {key: published.get(key) for key in ("ua", "wa", "f1")}
        rows.append(Row(f"{published['model']}, published", "this corpus, in each fold", **figures))
    tests = {i for fold in on.folds for i in fold.test}
    say(f"{args.corpus}: {len(on.folds)} folds by {on.source}; {len(tests)} of {on.listed} clips")
    if learnt_of := len(known & tests):
        say(f"left out: {learnt_of} clips of speakers that a model was trained on")
    say(*table(rows))
    if args.json is not None:
        report = {"corpus": args.corpus, "splits": on.source, "rows": [asdict(r) for r in rows]}
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def learnt(one: Named) -> Sequence[str]:
    """Return patterns of the speakers that a model was trained on, as the card of its file says."""
    weights = Path(str(one.options.get("weights", FOLDER / one.model)))
    found: Sequence[str] = read_card(weights).get("learnt", ())
    return found


def _model_rows(
    args: argparse.Namespace, on: Protocol, models: Sequence[Named], known: Collection[int]
) -> list[Row]:
    numbers = sorted({i for fold in on.folds for i in fold.test}.difference(known))
    if not numbers:
        raise DataError("the models were trained on the speakers of every test clip here")
    clips = [on.manifest.clips[i] for i in numbers]
    manifest = replace(on.manifest, clips=tuple(clips))
    found = read_all(run(models, manifest, args.write, args.batch, args.max_missing))
    labels = {
        name: [answer.label if answer else "" for answer in found_answers(name, of.ballots, clips)]
        for name, of in found.items()
    }
    voters = voters_of(args, found)
    if len(voters) > 1:
        rule = rule_of(args, voters)
        answers = vote(voters, clips, rule)
        labels[f"vote of {', '.join(voters)}: {rule.method}"] = [answers[c.id].label for c in clips]
    trained = "other speakers of it" if known else "not on it"
    return [
        scored(name, trained, on, dict(zip(numbers, of, strict=True)), known)
        for name, of in labels.items()
    ]


def scored(
    system: str, trained: str, on: Protocol, guesses: Guesses, known: Collection[int] = ()
) -> Row:
    """Return the mean figures over the folds, on their test clips without those of `known`."""
    names = sorted(set(on.truth.values()))
    folds = [[i for i in fold.test if i not in known] for fold in on.folds]
    figures = []
    for test in filter(None, folds):
        truth = np.array([names.index(on.truth[i]) for i in test], np.int64)
        said = [guesses.get(i, "") for i in test]
        guess = np.array([names.index(x) if x in names else -1 for x in said], np.int64)
        classes = sorted(set(truth.tolist()))
        figures.append(
            (
                unweighted_recall(truth, guess, classes),
                accuracy(truth, guess),
                macro_f1(truth, guess, classes),
            )
        )
    ua, wa, f1 = (100.0 * np.mean(figures, axis=0)).tolist()
    return Row(system, trained, len(figures), sum(map(len, folds)), ua, wa, f1)


def table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as a Markdown table."""
    lines = [
        "| system | trained on | folds | clips | UA | WA | macro-F1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        counts = ["" if n is None else f"{n:,}" for n in (row.folds, row.clips)]
        figures = ["" if x is None else f"{x:.1f}" for x in (row.ua, row.wa, row.f1)]
        lines.append(f"| {' | '.join([row.system, row.trained_on, *counts, *figures])} |")
    return lines


# --- the probe ------------------------------------------------------------------------------------


def probe(on: Protocol) -> dict[int, str]:
    """Return the label of each test clip by logistic regression on the frozen embedded encoder.

    Features are mean and spread of the encoder's levels over a clip. Raises DataError: a fold has
    no training clip, or audio cannot be read; ModelError: the encoder is missing.
    """
    if any(not fold.train for fold in on.folds):
        raise DataError("--probe: the splits name no training clips; give EmoBox's files of them")
    encoder = Encoder(carrier.find("tiny.en"))
    numbers = sorted({i for fold in on.folds for i in (*fold.train, *fold.test)})
    features = {
        i: _features(read_clip(on.manifest.root, on.manifest.clips[i]), encoder) for i in numbers
    }
    found: dict[int, str] = {}
    for number, fold in enumerate(on.folds, 1):
        found |= _classified(fold, features, on.truth)
        say(f"probe: fold {number} of {len(on.folds)}", file=sys.stderr)
    return found


def _features(samples: FloatArray, encoder: Encoder) -> FloatArray:
    pieces = np.array_split(samples, max(1, -(-len(samples) // LONGEST)))
    levels = np.concatenate([encoder.encode(piece) for piece in pieces], axis=1)
    return np.concatenate([levels.mean(axis=1).ravel(), levels.std(axis=1).ravel()])


def _classified(
    fold: Fold, features: Mapping[int, FloatArray], truth: Mapping[int, str]
) -> dict[int, str]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, ShuffleSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head: Any = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)),
        {"logisticregression__C": STRENGTHS},
        scoring="balanced_accuracy",
        cv=ShuffleSplit(1, test_size=0.2, random_state=0),
    )
    head.fit(np.stack([features[i] for i in fold.train]), [truth[i] for i in fold.train])
    said = head.predict(np.stack([features[i] for i in fold.test]))
    return dict(zip(fold.test, map(str, said), strict=True))
