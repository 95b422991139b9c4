"""Reads the text corpora of the embedded voters, normalised like transcripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.tiny.tokens import normalise_text
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.read import read_corpus
from abhinaya.train.data.tables import rows_of, text_of
from abhinaya.train.errors import DataError

HINT: Final = "give the folder of the corpora with --data"
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


def sentences(data: Path, corpus: str, split: str) -> list[Clip]:
    """Return the sentences of goemotions, emorynlp, reccon or meld below `data`.

    Those without words are left out. Raises DataError: the corpus is missing or has another format.
    """
    folder = data / "text" / corpus
    clips = OWN[corpus](folder) if corpus in OWN else read_corpus(corpus, folder).clips
    spoken = [normalise_text(clip.transcript.replace("[NAME]", "")) for clip in clips]
    pairs = zip(clips, spoken, strict=True)
    return [replace(c, transcript=text) for c, text in pairs if text and c.split == split]


def _read_emorynlp(folder: Path) -> list[Clip]:
    """Read EmoryNLP (Zahiri and Choi, 2018): the five labels that have a counterpart."""
    return [
        _sentence(path, number, row["Utterance"], EMORYNLP[row["Emotion"]])
        for path in (folder / "train.csv", folder / "dev.csv")
        for number, row in enumerate(rows_of(path, HINT))
        if row["Emotion"] in EMORYNLP
    ]


def _read_reccon(folder: Path) -> list[Clip]:
    """Read RECCON's part of DailyDialog (Poria et al., 2021); its splits are train and valid."""
    found = []
    for path in (folder / "train.json", folder / "valid.json"):
        try:
            talks = json.loads(text_of(path, HINT)).values()
            turns = [(turn["utterance"], turn["emotion"]) for talk in talks for turn in talk[0]]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(f"{path}: not RECCON's dialogues: {error!r}") from error
        for number, (text, emotion) in enumerate(turns):
            if emotion in RECCON:
                found.append(_sentence(path, number, text, RECCON[emotion]))
    return found


def _sentence(path: Path, number: int, text: str, label: str) -> Clip:
    split = path.stem
    return Clip(f"{split}_{number}", path.parent.name, "", {label: 1.0}, "", split, transcript=text)


OWN: Final = {"emorynlp": _read_emorynlp, "reccon": _read_reccon}


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
