"""Measures the figures of T2's card with the voter on texts outside its training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.models.base import Ballot, Utterance, Voter
from abhinaya.train.command import Say
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.texts import (
    Sentence,
    read_emorynlp,
    read_goemotions,
    read_meld,
    with_errors,
)
from abhinaya.train.eval.intervals import Interval
from abhinaya.train.eval.predictions import Predictions, System, join
from abhinaya.train.eval.tables import Scored, class_rows, model_row, scored
from abhinaya.train.metrics import Indices, accuracy
from abhinaya.train.tiny.text_batches import common_words

ERROR_DRAWS: Final = 20
"""Number of draws of word errors for the same sentences."""
Figures = dict[str, Any]


def scorable(sentences: Sequence[Sentence]) -> Scored:
    """Return the sentences with one label, as clips without audio."""
    clear = [sentence for sentence in sentences if len(sentence.labels) == 1]
    return scored(
        [Clip(str(i), "", "", {s.labels[0]: 1.0}, transcript=s.text) for i, s in enumerate(clear)]
    )


def ask(voter: Voter, on: Scored, texts: Sequence[str] = ()) -> System:
    """Return the votes on the sentences, or on `texts` in their place, each in its own batch."""
    ballots = {}
    for clip, text in zip(on.clips, texts or [c.transcript for c in on.clips], strict=True):
        (answer,) = voter.vote([Utterance(np.zeros(0, np.float32), transcript=text)])
        if isinstance(answer, Ballot):
            ballots[clip.id] = answer
    return join(voter.card.model, Predictions(ballots), on.clips)


def figures(system: System, on: Scored) -> Figures:
    """Return all figures, over the classes that occur; an abstention counts as a wrong answer."""
    row = model_row(system, on)
    classes = {
        label: {"f1": round(s.f1, 3), "recall": round(s.recall, 3), "n": s.n}
        for label, s in class_rows(system, on).items()
    }
    rest = ("weighted_f1", "accuracy", "calibration_error")
    return {
        "n": len(on.clips),
        **_rounded("macro_f1", "interval", row["macro_f1"]),
        **{name: round(row[name], 3) for name in rest},
        "classes": classes,
    }


def _rounded(name: str, ends: str, of: Interval) -> Figures:
    return {name: round(of.value, 3), ends: [round(of.low, 3), round(of.high, 3)]}


def format_figure(figure: Figures) -> str:
    """Return a macro-F1 as a line of a report."""
    low, high = figure["interval"]
    return f"macro-F1 {figure['macro_f1']:.3f} [{low:.3f}, {high:.3f}] (n {figure['n']})"


def text_figures(voter: Voter, data: Path, say: Say = print) -> Figures:
    """Return the figures on the dev part of each corpus, over sentences with one label."""
    sets: Mapping[str, list[Sentence]] = {
        "goemotions dev": read_goemotions(data, "dev"),
        "emorynlp dev": read_emorynlp(data, "dev"),
        "meld dev, never trained on": read_meld(data, "dev"),
    }
    found: Figures = {}
    for name, sentences in sets.items():
        on = scorable(sentences)
        answers = ask(voter, on)
        found[name] = figures(answers, on)
        say(f"{name}: {format_figure(found[name])}")
        if name == "goemotions dev":
            words = common_words(read_goemotions(data, "train"))
            erring = with_word_errors(voter, on, answers, words)
            found[f"{name}, 20 % word errors"] = erring
            low, high = erring["lost_interval"]
            cost = f"lost {erring['lost']:.3f} [{low:.3f}, {high:.3f}]"
            say(f"{name}, 20 % word errors: {format_figure(erring)}; {cost}")
    return found


def with_word_errors(voter: Voter, on: Scored, whole: System, words: Sequence[str]) -> Figures:
    """Return the mean macro-F1 over ERROR_DRAWS draws of 20 % word errors, and the loss by them.

    `whole` are the votes on the sentences without errors. The intervals are over sentences; single
    draws differ by .005 to .01.
    """
    rng = np.random.default_rng(0)
    erring = [
        ask(voter, on, [with_errors(clip.transcript, 0.2, words, rng) for clip in on.clips])
        for _ in range(ERROR_DRAWS)
    ]
    of_draw = [on.f1(answers.guess) for answers in erring]

    def mean(rows: Indices) -> float:
        return float(np.mean([of(rows) for of in of_draw]))

    rows = np.arange(len(on.clips))
    lost = on.draws.compare(on.f1(whole.guess), mean, rows).difference
    return {
        "n": len(on.clips),
        "draws": ERROR_DRAWS,
        **_rounded("macro_f1", "interval", on.draws.interval(mean, rows)),
        **_rounded("lost", "lost_interval", lost),
        "accuracy": round(float(np.mean([accuracy(on.truth, a.guess) for a in erring])), 3),
    }
