"""Cross-validates S1: leaves out speakers, or a whole corpus, and measures on them.

`abhinaya bench crossval` trains a recipe once for each fold and keeps the scores of the speakers
left out. Figures are of all folds together, with the shipped calibration.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.report import Report, parser, publish, settings_of, table
from abhinaya.models.base import FloatArray
from abhinaya.models.text import say as say_text
from abhinaya.models.tiny.speech import SPEECH, Settings, SpeechNetwork
from abhinaya.train.cli import CACHE, add_changes, add_data
from abhinaya.train.command import Say, changed, guarded
from abhinaya.train.errors import DataError
from abhinaya.train.eval.intervals import bootstrap, macro_f1_of
from abhinaya.train.metrics import Flags, calibration_error
from abhinaya.train.tiny.sessions import Sessions, joined
from abhinaya.train.tiny.speech import (
    NEUTRAL,
    RECIPES,
    SPEECH_LABELS,
    SpeechRecipe,
    read_sessions,
    scores_of,
    train_heads,
)

FOLDS: Final = 6
"""A fold leaves out three actors of RAVDESS and one or two speakers of nEMO."""
ACTED: Final = ("ravdess", "nemo")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `abhinaya bench crossval`; return the exit code."""
    given = parser("crossval", __doc__)
    add_data(given)
    add_changes(given)
    add = given.add_argument
    add("--out", type=Path, default=CACHE / "folds", help="folder of the folds")
    about = "numbers of folds, or corpora to leave out: 1,2,nemo"
    add("--folds", default="1,2,3,4,5,6", help=about)
    add("--weights", help="weights file whose calibration is used; default: the bundled one")
    args = given.parse_args(sys.argv[1:] if argv is None else argv)

    def measure() -> int:
        recipe = changed(RECIPES[SPEECH], args.set)
        settings, folds = SpeechNetwork(SPEECH, args.weights).settings, args.folds.split(",")
        found = crossval(args.data, args.cache, args.out, recipe, settings, folds, say_text)
        report = Report("crossval", settings_of(args), {"figures": found})
        publish(report, [table("S1", ("speakers left out", "figures"), found.items())], args.json)
        return 0

    return guarded("abhinaya bench crossval", measure)


def crossval(
    data: Path,
    cache: Path,
    out: Path,
    recipe: SpeechRecipe,
    settings: Settings,
    folds: Sequence[str],
    say: Say = print,
) -> dict[str, str]:
    """Train the folds that are missing in `out`, and return the figures of what was left out.

    `folds` are numbers from 1, or names of corpora to leave out whole.

    Raises DataError: data is missing, or a fold is neither of these.
    """
    items = read_sessions(data, cache, recipe, say)
    # scores of another recipe are not used
    made_of = "\n".join([repr(recipe), *sorted(set(items.clip))])
    key = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    found, parts = dict[str, str](), []
    for fold in folds:
        left = left_out(items, fold)
        path = out / f"fold-{fold}-{key}.npy"
        tested = items.of(left & (items.rendering == 0))
        if not path.is_file():
            say(f"fold {fold}: without {', '.join(sorted(set(tested.speaker)))}")
            out.mkdir(parents=True, exist_ok=True)
            np.save(path, scores_of(train_heads(items.of(~left), recipe, say=say), tested))
        if fold in ACTED:
            found[f"the corpus {fold}"] = figure(tested, np.load(path), settings)
        else:
            parts.append((tested, np.load(path)))
    if parts:
        all_tested = joined([tested for tested, _ in parts])
        scores = np.concatenate([of for _, of in parts])
        for corpus in ACTED:
            of = all_tested.corpus == corpus
            found[f"of {corpus}"] = figure(all_tested.of(of), scores[of], settings)
    return found


def left_out(items: Sessions, fold: str) -> Flags:
    """Return which items [N] a fold leaves out.

    Raises DataError: `fold` is neither the number of a fold nor a corpus.
    """
    if fold in ACTED:
        return np.asarray(items.corpus == fold)
    if not fold.isdigit() or not 1 <= int(fold) <= FOLDS:
        raise DataError(f"fold {fold!r}: use 1 to {FOLDS}, or {' or '.join(ACTED)}")
    out = np.zeros(len(items.label), np.bool_)
    for corpus in ACTED:
        speakers = np.array_split(np.unique(items.speaker[items.corpus == corpus]), FOLDS)
        out |= np.isin(items.speaker, speakers[int(fold) - 1])
    return out


def figure(items: Sessions, scores: FloatArray, settings: Settings) -> str:
    """Return macro-F1 of the whole clips with its 95 % interval, and the calibration error."""
    whole, scores = items.of(items.whole), scores[items.whole]
    truth = np.array([SPEECH_LABELS.index(label) for label in whole.label])
    rows = [
        settings.probabilities(row, float(s), NEUTRAL)
        for row, s in zip(scores, whole.seconds, strict=True)
    ]
    guess = np.argmax(rows, axis=1)
    statistic = macro_f1_of(truth, guess, sorted(set(truth.tolist())))
    error = calibration_error(np.max(rows, axis=1), guess == truth)
    return (
        f"macro-F1 {bootstrap(statistic, len(truth), groups=list(whole.speaker))}, "
        f"{len(truth)} clips, calibration error {error:.3f}"
    )
