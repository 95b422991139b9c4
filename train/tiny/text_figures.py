"""Measures the figures of T2's card with the voter on texts outside its training data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.models.base import Ballot, Utterance, Voter
from abhinaya.train.command import Say
from abhinaya.train.data.texts import sentences, with_errors
from abhinaya.train.eval.intervals import Interval
from abhinaya.train.eval.predictions import Predictions, System, join
from abhinaya.train.eval.tables import Scored, class_rows, model_row, scored
from abhinaya.train.metrics import Indices, accuracy
from abhinaya.train.tiny.text_batches import common_words

ERROR_DRAWS: Final = 20
"""Number of draws of word errors for the same sentences."""
NAMES: Final = {
    "goemotions": "goemotions dev",
    "emorynlp": "emorynlp dev",
    "meld": "meld dev, never trained on",
}
Figures = dict[str, Any]


def text_figures(voter: Voter, data: Path, say: Say = print) -> Figures:
    """Return the figures on the dev part of each corpus, over sentences with one label."""
    found: Figures = {}
    for corpus, name in NAMES.items():
        on = scored([clip for clip in sentences(data, corpus, "dev") if len(clip.votes) == 1])
        answers = ask(voter, on, [clip.transcript for clip in on.clips])
        row = model_row(answers, on)
        found[name] = {
            "n": len(on.clips),
            **_rounded("macro_f1", "interval", row["macro_f1"]),
            **{key: round(row[key], 3) for key in ("weighted_f1", "accuracy", "calibration_error")},
            "classes": {
                label: {"f1": round(s.f1, 3), "recall": round(s.recall, 3), "n": s.n}
                for label, s in class_rows(answers, on).items()
            },
        }
        if corpus == "goemotions":
            words = common_words(sentences(data, corpus, "train"))
            found[f"{name}, 20 % word errors"] = with_word_errors(voter, on, answers, words)
    for name, of in found.items():
        low, high = of["interval"]
        lost = f"; lost {of['lost']:.3f} {of['lost_interval']}" if "lost" in of else ""
        say(f"{name}: macro-F1 {of['macro_f1']:.3f} [{low:.3f}, {high:.3f}] (n {of['n']}){lost}")
    return found


def ask(voter: Voter, on: Scored, texts: Sequence[str]) -> System:
    """Return the votes on `texts`, the words of the clips; an abstention counts as wrong."""
    ballots = {}
    for clip, text in zip(on.clips, texts, strict=True):
        (answer,) = voter.vote([Utterance(np.zeros(0, np.float32), transcript=text)])
        if isinstance(answer, Ballot):
            ballots[clip.id] = answer
    return join(voter.card.model, Predictions(ballots), on.clips)


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


def _rounded(name: str, ends: str, of: Interval) -> Figures:
    return {name: round(of.value, 3), ends: [round(of.low, 3), round(of.high, 3)]}
