"""Cross-validates S1: leaves out speakers, or a whole corpus, and measures on them.

`abhinaya train crossval` trains a recipe once for each fold and keeps the scores of the speakers
left out. Figures are of all folds together, with the shipped calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.tiny.speech import Settings
from abhinaya.train.command import Say
from abhinaya.train.errors import DataError
from abhinaya.train.eval.intervals import bootstrap, macro_f1_of
from abhinaya.train.metrics import calibration_error
from abhinaya.train.tiny.loop import key_of
from abhinaya.train.tiny.sessions import Sessions
from abhinaya.train.tiny.speech import (
    NEUTRAL,
    SPEECH_LABELS,
    SpeechRecipe,
    read_sessions,
    scores_of,
    train_heads,
)

FOLDS: Final = 6
"""A fold leaves out three actors of RAVDESS and one or two speakers of nEMO."""
ACTED: Final = ("ravdess", "nemo")


def crossval(
    data: Path,
    cache: Path,
    out: Path,
    recipe: SpeechRecipe,
    settings: Settings,
    folds: Sequence[str],
    say: Say = print,
) -> list[str]:
    """Train the folds that are missing in `out`, and return lines with the figures.

    `folds` are numbers from 1, or names of corpora to leave out whole.

    Raises DataError: data is missing, or a fold is neither of these.
    """
    items = read_sessions(data, cache, recipe, say)
    lines = []
    numbered = [fold for fold in folds if fold.isdigit()]
    parts = []
    for fold in folds:
        left = left_out(items, fold)
        # the recipe is in the name: scores of another recipe are not used
        path = out / f"fold-{fold}-{key_of(recipe, clips=set(items.clip))}.npy"
        tested = items.of(left & (items.rendering == 0))
        if not path.is_file():
            say(f"fold {fold}: without {', '.join(sorted(set(tested.speaker)))}")
            trained = train_heads(items.of(~left), recipe, say=say)
            out.mkdir(parents=True, exist_ok=True)
            np.save(path, scores_of(trained, tested))
        scores = np.load(path)
        if fold in numbered:
            parts.append((tested, scores))
        else:
            lines.append(
                f"trained without {fold}: {figure([of_corpus(tested, scores, fold)], settings)}"
            )
    for corpus in ACTED if parts else ():
        all_folds = [of_corpus(tested, scores, corpus) for tested, scores in parts]
        lines.append(f"{corpus}, speakers left out: {figure(all_folds, settings)}")
    return lines


def left_out(items: Sessions, fold: str) -> np.ndarray:
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


Scored = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Truth, scores, seconds and speaker of items."""


def of_corpus(items: Sessions, scores: FloatArray, corpus: str) -> Scored:
    """Return the whole clips of one corpus."""
    chosen = (items.corpus == corpus) & items.whole
    truth = np.array([SPEECH_LABELS.index(label) for label in items.label[chosen]])
    return truth, scores[chosen], items.seconds[chosen], items.speaker[chosen]


def figure(parts: Sequence[Scored], settings: Settings) -> str:
    """Return, as text, the macro-F1 of all parts, its 95 % interval, and the calibration error."""
    truth, scores, seconds, speaker = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    rows = [
        settings.probabilities(row, float(s), NEUTRAL)
        for row, s in zip(scores, seconds, strict=True)
    ]
    guess = np.argmax(rows, axis=1)
    statistic = macro_f1_of(truth, guess, sorted(set(truth.tolist())))
    error = calibration_error(np.max(rows, axis=1), guess == truth)
    return (
        f"macro-F1 {bootstrap(statistic, len(truth), groups=list(speaker))}, {len(truth)} clips, "
        f"calibration error {error:.3f}"
    )
