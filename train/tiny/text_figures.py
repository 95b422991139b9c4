"""Measures the figures of T2's card with the voter on texts outside its training data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.models.base import Ballot, FloatArray, Utterance, Voter
from abhinaya.models.labels import LABELS
from abhinaya.train.data.texts import (
    Sentence,
    read_emorynlp,
    read_goemotions,
    read_meld,
    with_errors,
)
from abhinaya.train.eval.intervals import bootstrap, macro_f1_of, paired_bootstrap
from abhinaya.train.metrics import Indices, calibration_error, per_class, weighted_f1
from abhinaya.train.tiny.text_batches import common_words

ERROR_DRAWS: Final = 20
"""Number of draws of word errors for the same sentences."""
Figures = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """Votes on N items. An abstention counts as a wrong answer."""

    truth: Indices
    """[N] index in LABELS."""
    probabilities: FloatArray
    """[N, C]; all 0 for an abstention."""
    guess: Indices
    """[N] index in LABELS, -1 for an abstention."""


def ask(voter: Voter, utterances: Sequence[Utterance], truth: Sequence[str]) -> Answers:
    """Return the votes on the utterances, each in a batch of its own."""
    probabilities = np.zeros((len(utterances), len(LABELS)), np.float32)
    guess = np.full(len(utterances), -1, np.int64)
    for i, utterance in enumerate(utterances):
        (answer,) = voter.vote([utterance])
        if isinstance(answer, Ballot):
            guess[i] = LABELS.index(answer.label)
            if answer.probabilities is not None:
                probabilities[i] = answer.probabilities
    return Answers(
        np.array([LABELS.index(label) for label in truth], np.int64), probabilities, guess
    )


def brief(answers: Answers) -> Figures:
    """Return macro-F1 over the classes that occur, with its 95 % interval over sentences."""
    truth, guess = answers.truth, answers.guess
    present = sorted({int(c) for c in truth})
    found = bootstrap(macro_f1_of(truth, guess, present), len(truth))
    return {
        "n": len(truth),
        "macro_f1": round(found.value, 3),
        "interval": [round(found.low, 3), round(found.high, 3)],
    }


def format_figure(figure: Figures) -> str:
    """Return a macro-F1 as a line of a report."""
    low, high = figure["interval"]
    return f"macro-F1 {figure['macro_f1']:.3f} [{low:.3f}, {high:.3f}] (n {figure['n']})"


def figures(answers: Answers) -> Figures:
    """Return all figures, over the classes that occur."""
    truth, guess = answers.truth, answers.guess
    present = sorted({int(c) for c in truth})
    classes = {
        LABELS[c]: {"f1": round(s.f1, 3), "recall": round(s.recall, 3), "n": s.n}
        for c, s in per_class(truth, guess, present).items()
    }
    return {
        **brief(answers),
        "weighted_f1": round(weighted_f1(truth, guess, present), 3),
        "accuracy": round(float(np.mean(truth == guess)), 3),
        "calibration_error": round(calibration_error(answers.probabilities, truth), 3),
        "classes": classes,
    }


def text_figures(voter: Voter, data: Path, say: Callable[[str], None] = print) -> Figures:
    """Return the figures on the dev part of each corpus, over sentences with one label."""
    sets: Mapping[str, list[Sentence]] = {
        "goemotions dev": read_goemotions(data, "dev"),
        "emorynlp dev": read_emorynlp(data, "dev"),
        "meld dev, never trained on": read_meld(data, "dev"),
    }
    found: Figures = {}
    for name, sentences in sets.items():
        clear = _clear(sentences)
        answers = ask(voter, [_spoken(s.text) for s in clear], [s.labels[0] for s in clear])
        found[name] = figures(answers)
        say(f"{name}: {format_figure(found[name])}")
        if name == "goemotions dev":
            words = common_words(read_goemotions(data, "train"))
            found[f"{name}, 20 % word errors"] = erring = with_word_errors(
                voter, clear, answers, words
            )
            low, high = erring["lost_interval"]
            cost = f"lost {erring['lost']:.3f} [{low:.3f}, {high:.3f}]"
            say(f"{name}, 20 % word errors: {format_figure(erring)}; {cost}")
    return found


def with_word_errors(
    voter: Voter, sentences: Sequence[Sentence], whole: Answers, words: Sequence[str]
) -> Figures:
    """Return the mean macro-F1 over ERROR_DRAWS draws of 20 % word errors, and the loss by them.

    `whole` are the votes on the sentences without errors. The intervals are over sentences; single
    draws differ by .005 to .01.
    """
    rng = np.random.default_rng(0)
    labels = [sentence.labels[0] for sentence in sentences]
    erring = [
        ask(voter, [_spoken(with_errors(s.text, 0.2, words, rng)) for s in sentences], labels)
        for _ in range(ERROR_DRAWS)
    ]
    present = sorted({int(c) for c in whole.truth})
    of_draw = [macro_f1_of(whole.truth, answers.guess, present) for answers in erring]

    def mean(rows: Indices) -> float:
        return float(np.mean([of(rows) for of in of_draw]))

    found = bootstrap(mean, len(labels))
    clean = macro_f1_of(whole.truth, whole.guess, present)
    lost = paired_bootstrap(clean, mean, len(labels)).difference
    return {
        "n": len(labels),
        "draws": ERROR_DRAWS,
        "macro_f1": round(found.value, 3),
        "interval": [round(found.low, 3), round(found.high, 3)],
        "lost": round(lost.value, 3),
        "lost_interval": [round(lost.low, 3), round(lost.high, 3)],
        "accuracy": round(float(np.mean([a.truth == a.guess for a in erring])), 3),
    }


def _clear(sentences: Sequence[Sentence]) -> list[Sentence]:
    return [sentence for sentence in sentences if len(sentence.labels) == 1]


def _spoken(text: str) -> Utterance:
    return Utterance(np.zeros(0, np.float32), transcript=text)
