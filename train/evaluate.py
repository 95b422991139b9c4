"""The figures of a model card, measured with the voter itself on people it never heard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.models.base import Ballot, FloatArray, Utterance, Voter
from abhinaya.models.compact.features import SAMPLE_RATE, SpeechStatistics
from abhinaya.models.labels import LABELS
from abhinaya.train.compact_text import TEXT_LABELS
from abhinaya.train.data.audio import read_audio
from abhinaya.train.data.clips import Clip, read_clips
from abhinaya.train.data.texts import Sentence, read_emorynlp, read_goemotions, read_meld
from abhinaya.train.data.word_errors import with_errors
from abhinaya.train.metrics import Indices, calibration_error, macro_f1, per_class, weighted_f1
from abhinaya.train.splits import part_of
from abhinaya.train.text_batches import common_words

HEARD_S: Final = (0, 2, 5, 10, 20, 40)
LONGEST_SAMPLES: Final = 10 * SAMPLE_RATE
NEUTRAL: Final = LABELS.index("neutral")
Figures = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """What a voter said about N items. An abstention counts as a wrong answer."""

    truth: Indices
    """[N] index in LABELS."""
    probabilities: FloatArray
    """[N, C]; of an abstention all 0."""
    guess: Indices
    """[N] index in LABELS, -1 for an abstention."""


def ask(voter: Voter, utterances: Sequence[Utterance], truth: Sequence[str]) -> Answers:
    """Let `voter` vote on each utterance alone."""
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


def figures(answers: Answers) -> Figures:
    """Macro-F1, weighted F1, accuracy, calibration and each class, over the classes that occur."""
    truth, guess = answers.truth, answers.guess
    present = sorted({int(c) for c in truth})
    classes = {
        LABELS[c]: {"f1": round(s.f1, 3), "recall": round(s.recall, 3), "n": s.n}
        for c, s in per_class(truth, guess, present).items()
    }
    return {
        "n": len(truth),
        "macro_f1": round(macro_f1(truth, guess, present), 3),
        "weighted_f1": round(weighted_f1(truth, guess, present), 3),
        "accuracy": round(float(np.mean(truth == guess)), 3),
        "calibration_error": round(calibration_error(answers.probabilities, truth), 3),
        "classes": classes,
    }


class Recordings:
    """Clips read once, as utterances after any amount of speech of the same speaker."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = tuple(clips)
        self._samples = [read_audio(clip.path)[:LONGEST_SAMPLES] for clip in clips]
        speakers = np.array([clip.speaker for clip in clips])
        self._same = [np.flatnonzero(speakers == speaker) for speaker in speakers]

    def after(self, heard_s: float, seed: int = 0) -> list[Utterance]:
        """Each clip after at least `heard_s` seconds of its speaker's other clips."""
        rng = np.random.default_rng(seed)
        return [self._one(i, heard_s, rng) for i in range(len(self.clips))]

    def _one(self, i: int, heard_s: float, rng: np.random.Generator) -> Utterance:
        statistics, left = SpeechStatistics(), heard_s
        for other in rng.permutation(self._same[i]):
            if left <= 0.0:
                break
            if other != i:
                statistics.update(self._samples[other])
                left -= len(self._samples[other]) / SAMPLE_RATE
        statistics.update(self._samples[i])
        return Utterance(self._samples[i], statistics.heard())


def speech_figures(voter: Voter, data: Path, say: Callable[[str], None] = print) -> Figures:
    """Unseen speakers of each corpus by seconds heard, and false alarms on neutral voices."""
    found: Figures = {}
    for corpus in ("ravdess", "nemo"):
        clips = [clip for clip in read_clips(data, [corpus]) if part_of(clip) == "dev"]
        recordings, truth = Recordings(clips), [clip.label for clip in clips]
        by_seconds: dict[str, float] = {}
        for heard_s in HEARD_S:
            answers = ask(voter, recordings.after(heard_s), truth)
            by_seconds[str(heard_s)] = round(
                macro_f1(answers.truth, answers.guess, sorted(set(answers.truth.tolist()))), 3
            )
            if heard_s == 20:
                found[f"{corpus} dev, 20 s heard"] = figures(answers)
                found[f"{corpus} dev, neutral labelled otherwise"] = false_alarms(answers)
        plain = ask(voter, [Utterance(u.samples) for u in recordings.after(0)], truth)
        found[f"{corpus} dev, nothing heard"] = figures(plain)
        found[f"{corpus} dev, macro_f1 by seconds heard"] = by_seconds
        say(f"{corpus}: macro-F1 by seconds heard {by_seconds}")
    return {**found, **measured_only(voter, data)}


def measured_only(voter: Voter, data: Path) -> Figures:
    """Corpora that were never trained on: Urdu talk shows and neutral read English."""
    clips = read_clips(data, ["urdu"])
    recordings = Recordings(clips)
    urdu = ask(voter, recordings.after(20), [clip.label for clip in clips])
    voices = [
        Clip(path, "neutral_voices", path.name.split("-")[0], "speech", "neutral", "dev")
        for path in sorted((data / "neutral_voices").glob("*.opus"))
    ]
    read = ask(voter, Recordings(voices).after(0), ["neutral"] * len(voices))
    guesses = {LABELS[c]: int(np.sum(read.guess == c)) for c in np.unique(read.guess) if c >= 0}
    return {
        "urdu, never trained on, 20 s heard": figures(urdu),
        "neutral_voices, labelled otherwise": {
            **false_alarms(read),
            "guesses": guesses,
        },
    }


def false_alarms(answers: Answers) -> Figures:
    """Share of neutral items with another label, and how many there are."""
    neutral = answers.truth == NEUTRAL
    wrong = (answers.guess != NEUTRAL) & (answers.guess >= 0)
    return {"share": round(float(np.mean(wrong[neutral])), 3), "n": int(neutral.sum())}


def text_figures(voter: Voter, data: Path, say: Callable[[str], None] = print) -> Figures:
    """Each text corpus's dev part; only sentences with one label count."""
    dev = read_goemotions(data, "dev")
    words = common_words(read_goemotions(data, "train"))
    rng = np.random.default_rng(0)
    sets: Mapping[str, list[Sentence]] = {
        "goemotions dev": dev,
        "goemotions dev, 20 % word errors": [
            Sentence(with_errors(s.text, 0.2, words, rng), s.labels) for s in dev
        ],
        "emorynlp dev": read_emorynlp(data, "dev"),
        "meld dev, never trained on": read_meld(data, "dev"),
    }
    found: Figures = {}
    for name, sentences in sets.items():
        clear = [s for s in sentences if len(s.labels) == 1]
        answers = ask(voter, [_spoken(s.text) for s in clear], [s.labels[0] for s in clear])
        found[name] = figures(answers)
        say(f"{name}: macro-F1 {found[name]['macro_f1']} (n {found[name]['n']})")
    return found


def joint_figures(voter: Voter, data: Path, say: Callable[[str], None] = print) -> Figures:
    """Dev clips with no words, with dev sentences of the same label, and with neutral ones.

    No corpus here has freely worded speech with labels, so pairs are made by label: this bounds
    what the fusion could give, and says little of what it gives on real talk.
    """
    rng = np.random.default_rng(0)
    by_label: dict[str, list[str]] = {label: [] for label in TEXT_LABELS}
    for sentence in read_goemotions(data, "dev"):
        if len(sentence.labels) == 1:
            by_label[sentence.labels[0]].append(sentence.text)
    found: Figures = {}
    for corpus in ("ravdess", "nemo"):
        clips = [clip for clip in read_clips(data, [corpus]) if part_of(clip) == "dev"]
        truth = [clip.label for clip in clips]
        heard = Recordings(clips).after(20)
        worded = {
            "no words": [""] * len(clips),
            "words of the same label": [_pick(by_label[label], rng) for label in truth],
            "neutral words": [_pick(by_label["neutral"], rng) for _ in truth],
        }
        for name, texts in worded.items():
            paired = [
                Utterance(u.samples, u.heard, text) for u, text in zip(heard, texts, strict=True)
            ]
            answers = ask(voter, paired, truth)
            key = f"{corpus} dev, 20 s heard, {name}"
            found[key] = figures(answers)
            found[f"{key}, neutral labelled otherwise"] = false_alarms(answers)
            say(f"{key}: macro-F1 {found[key]['macro_f1']}")
    return {**found, **measured_only(voter, data)}


def _pick(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]


def _spoken(text: str) -> Utterance:
    return Utterance(np.zeros(0, np.float32), transcript=text)


MEASURES: Final[Mapping[str, Callable[..., Figures]]] = {
    "compact-speech": speech_figures,
    "compact-text": text_figures,
    "compact-joint": joint_figures,
}
