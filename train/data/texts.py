"""Reads labelled sentences of text corpora, with our labels, normalised like transcripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.tiny.tokens import normalise_text
from abhinaya.train.data.tables import lines_of, rows_of, text_of
from abhinaya.train.errors import DataError

HINT: Final = "give the folder of the corpora with --data"
EKMAN: Final[Mapping[str, str]] = {
    "anger": "angry", "disgust": "disgust", "fear": "fear", "joy": "happy", "neutral": "neutral",
    "sadness": "sad", "surprise": "surprise",
}  # fmt: skip
RECCON: Final[Mapping[str, str]] = {
    "anger": "angry", "angry": "angry", "disgust": "disgust", "excited": "happy", "fear": "fear",
    "happines": "happy", "happiness": "happy", "happy": "happy", "neutral": "neutral", "sad": "sad",
    "sadness": "sad", "surprise": "surprise", "surprised": "surprise",
}  # fmt: skip
"""RECCON's spellings; its other labels are left out."""
EMORYNLP: Final[Mapping[str, str]] = {
    "Joyful": "happy", "Mad": "angry", "Neutral": "neutral", "Sad": "sad", "Scared": "fear",
}  # fmt: skip
"""Peaceful and Powerful have no counterpart among the eight and are left out."""
FINE: Final[Mapping[str, tuple[str, ...]]] = {
    "angry": ("anger", "annoyance", "disapproval"),
    "disgust": ("disgust",),
    "fear": ("fear", "nervousness"),
    "happy": (
        "joy", "amusement", "approval", "excitement", "gratitude", "love", "optimism", "relief",
        "pride", "admiration", "desire", "caring",
    ),
    "neutral": ("neutral",),
    "sad": ("sadness", "disappointment", "embarrassment", "grief", "remorse"),
    "surprise": ("surprise", "realization", "confusion", "curiosity"),
}  # fmt: skip
"""Our labels -> the 28 labels of GoEmotions, grouped as by its authors."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and all labels that its annotators agreed on."""

    text: str
    """Normalised: lower case, no punctuation."""
    labels: tuple[str, ...]
    fine: tuple[str, ...] = ()
    """The ungrouped labels, only of GoEmotions."""


def read_goemotions(data: Path, split: str) -> list[Sentence]:
    """Read GoEmotions in the Ekman grouping (Demszky et al., 2020); `split` is train or dev."""
    folder = data / "text" / "goemotions"
    names = [EKMAN[name] for name in text_of(folder / "ekman_labels.txt", HINT).split()]
    fine = _fine(folder, split)
    found = []
    for line in lines_of(text_of(folder / f"ekman_{split}.tsv", HINT)):
        text, indices, comment = line.split("\t")
        labels = tuple(names[int(i)] for i in indices.split(","))
        spoken = normalise_text(text.replace("[NAME]", ""))
        found.append(Sentence(spoken, labels, fine.get(comment, ())))
    return _spoken(found)


def _fine(folder: Path, split: str) -> dict[str, tuple[str, ...]]:
    """Return the ungrouped labels by comment; empty if there is no such file."""
    if not (folder / "original_labels.txt").is_file():
        return {}
    names = text_of(folder / "original_labels.txt", HINT).split()
    lines = (line.split("\t") for line in lines_of(text_of(folder / f"original_{split}.tsv", HINT)))
    return {
        comment: tuple(names[int(i)] for i in indices.split(",")) for _, indices, comment in lines
    }


def read_emorynlp(data: Path, split: str) -> list[Sentence]:
    """Read EmoryNLP (Zahiri and Choi, 2018): the five labels that have a counterpart."""
    path = data / "text" / "emorynlp" / f"{split}.csv"
    return _table(path, EMORYNLP)


def read_reccon(data: Path, split: str) -> list[Sentence]:
    """Read RECCON's part of DailyDialog (Poria et al., 2021); `split` is train or valid.

    Raises DataError: the file is missing, or does not have RECCON's format.
    """
    path = data / "text" / "reccon" / f"{split}.json"
    try:
        turns = [turn for talk in json.loads(text_of(path, HINT)).values() for turn in talk[0]]
        return _spoken(
            [
                Sentence(normalise_text(turn["utterance"]), (RECCON[turn["emotion"]],))
                for turn in turns
                if turn["emotion"] in RECCON
            ]
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: not RECCON's dialogues: {error!r}") from error


def read_meld(data: Path, split: str) -> list[Sentence]:
    """Read MELD (Poria et al., 2019); only used to measure."""
    return _table(data / "text" / "meld" / f"{split}_sent_emo.csv", EKMAN)


def _table(path: Path, labels: Mapping[str, str]) -> list[Sentence]:
    rows = rows_of(path, HINT)
    return _spoken(
        [
            Sentence(normalise_text(row["Utterance"]), (labels[row["Emotion"]],))
            for row in rows
            if row["Emotion"] in labels
        ]
    )


def _spoken(sentences: list[Sentence]) -> list[Sentence]:
    return [sentence for sentence in sentences if sentence.text]


def with_errors(text: str, rate: float, vocabulary: Sequence[str], rng: np.random.Generator) -> str:
    """Simulate recognition errors: change each word of a text with probability `rate`.

    Half of the errors replace the word by one of `vocabulary`, a quarter insert one after it, a
    quarter drop it, roughly as speech recognition does. A text never becomes empty.
    """
    words = []
    for word in text.split():
        if rng.random() >= rate:
            words.append(word)
            continue
        kind, other = rng.random(), vocabulary[int(rng.integers(len(vocabulary)))]
        if kind < 0.5:
            words.append(other)
        elif kind < 0.75:
            words += [word, other]
    return " ".join(words) or text
