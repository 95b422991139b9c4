"""Fits the vote rule of the embedded profile on speakers and sentences left out of training.

The cases are segments of the tuning speakers (`speech.held_out`) with sentences outside the
training data of the text network. Words agree with the voice, are neutral, contradict it or are
missing; segments are whole or short. A neutral voice gets neutral words or none, so that each other
label of it is a false alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models import sums
from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load
from abhinaya.models.tiny import text
from abhinaya.models.tiny.speech import JOINT, SPEECH, WORDS, SpeechNetwork, word_features
from abhinaya.models.tiny.text import TinyText
from abhinaya.models.vote.combiner import Combiner, Member
from abhinaya.models.vote.combiner_file import write_combiner
from abhinaya.train.command import Say
from abhinaya.train.data.clips import READERS
from abhinaya.train.data.texts import sentences
from abhinaya.train.ensemble.answers import Answers
from abhinaya.train.ensemble.fit import fit_ensemble, least_confidence
from abhinaya.train.tiny.context import Before, Voices
from abhinaya.train.tiny.sessions import Sessions
from abhinaya.train.tiny.speech import (
    SPEECH_LABELS,
    SpeechRecipe,
    for_tuning,
    held_out,
    read_sessions,
)
from abhinaya.train.tiny.text import divided

FILE: Final = "tiny-vote.json"
NAMES: Final[Mapping[str, str]] = {"S1": SPEECH, "T2": text.NAME, "ST1": JOINT}
Case = tuple[int, str]
"""An item, and the words spoken in it."""


@dataclass(frozen=True)
class VoteRecipe:
    """Settings of the fit."""

    seed: int = 0
    times: int = 2
    """Number of cases made of each segment."""
    alike: float = 0.12
    calm: float = 0.6
    other: float = 0.08
    """`alike`, `calm`, `other`: shares of cases with words of the same label, neutral words, and
    words of any label; the rest has none. People rarely say what they feel: the rule must not
    learn that neutral words mean a neutral voice."""
    neutral: float = 0.5
    """Share of neutral speech that the probabilities are calibrated for."""
    most_alarms: float = 0.1
    """Highest share of neutral segments with another label; it determines `min_confidence`."""
    before: Before = Before((4.0, 30.0), (0.7, 1.0), 0.1)


def fit_vote(data: Path, cache: Path, out: Path, recipe: VoteRecipe, say: Say = print) -> Path:
    """Fit the rule and write `out`/FILE; return its path.

    Raises DataError: data is missing; ModelError: the voters trained without the tuning speakers
    are missing.
    """
    texts: dict[str, list[str]] = {label: [] for label in SPEECH_LABELS}
    for clip in [*divided(data)[1], *sentences(data, "reccon", "valid")]:
        if len(clip.votes) == 1:
            texts[str(clip.label)].append(clip.transcript)
    every = read_sessions(data, cache, SpeechRecipe(), say)
    items = every.of(for_tuning(every) & (every.rendering < 2))
    rng = np.random.default_rng(recipe.seed)
    numbers = [*range(len(items.label))] * recipe.times
    cases = [(i, _words(str(items.label[i]), recipe, texts, rng)) for i in numbers]
    answers = Answers(
        tuple(_votes(items, cases, cache, recipe, rng)),
        np.array([LABELS.index(items.label[i]) for i in numbers]),
        tuple(str(items.speaker[i]) for i in numbers),
        tuple(sorted(NAMES)),
    )
    fit = fit_ensemble(answers, "logistic", recipe.neutral, recipe.seed)
    least = least_confidence(fit.held_out, answers.truth, recipe.most_alarms)
    say(f"{len(cases)} cases; {dict(fit.plans)}; unknown below {least:.3f}")
    speakers = {"speakers": sorted(set(map(str, items.speaker[items.corpus != READERS])))}
    members = {n: Member(model, load(model).card.version) for n, model in NAMES.items()}
    plain = Combiner("logistic", members, made_by="abhinaya train tiny-vote", fitted_on=speakers)
    path = out / FILE
    write_combiner(path, fit.into(plain, least))
    sums.record(path)
    return path


def _words(
    truth: str, recipe: VoteRecipe, texts: Mapping[str, Sequence[str]], rng: np.random.Generator
) -> str:
    """Return the words of a case; empty for none."""
    chance = rng.random()
    if chance < recipe.alike:
        label = truth
    elif chance < recipe.alike + recipe.calm:
        label = "neutral"
    elif chance < recipe.alike + recipe.calm + recipe.other and truth != "neutral":
        label = sorted(texts)[int(rng.integers(len(texts)))]
    else:
        return ""
    return texts[label][int(rng.integers(len(texts[label])))]


def _votes(
    items: Sessions,
    cases: Sequence[Case],
    cache: Path,
    recipe: VoteRecipe,
    rng: np.random.Generator,
) -> list[dict[str, Ballot]]:
    """Return the votes on each case, by voter, without abstentions."""
    folder = held_out(cache)
    s1, st1 = (SpeechNetwork(x, str(folder / f"{x}.safetensors")) for x in (SPEECH, JOINT))
    tower, reader = text.shared(), TinyText()
    voices = Voices(items, s1.usual)
    found = []
    for item, spoken in cases:
        levels = items.levels(item).transpose(1, 0, 2)
        seconds = float(items.seconds[item])
        voice = voices.draw(item, recipe.before, rng)
        votes: dict[str, Ballot] = {"S1": s1.judge(levels, voice, seconds, None)}
        words = np.zeros(WORDS, np.float32)
        if spoken:
            words = word_features(tower.read([spoken])[1])[0]
            (answer,) = reader.vote([Utterance(np.zeros(0, np.float32), transcript=spoken)])
            if isinstance(answer, Ballot):
                votes["T2"] = answer
        votes["ST1"] = st1.judge(levels, voice, seconds, words)
        found.append(votes)
    return found
