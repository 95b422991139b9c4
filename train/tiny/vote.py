"""Fits the vote rule of the embedded profile on speakers and sentences left out of training.

The cases are segments of the tuning speakers (`make.held_out`) with sentences outside the training
data of the text network. Words agree with the voice, are neutral, contradict it or are missing;
segments are whole or short. A neutral voice gets neutral words or none, so that each other label of
it is a false alarm.
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
from abhinaya.models.tiny import text
from abhinaya.models.tiny.speech import JOINT, SPEECH, WORDS, SpeechNetwork, word_features
from abhinaya.models.tiny.text import TinyText
from abhinaya.models.vote.combiner import Combiner
from abhinaya.models.vote.combiner_file import write_combiner
from abhinaya.train.command import Say
from abhinaya.train.data.clips import READERS
from abhinaya.train.data.texts import read_emorynlp, read_goemotions, read_reccon
from abhinaya.train.ensemble.answers import Answers
from abhinaya.train.ensemble.fit import fit_ensemble, least_confidence, members_of
from abhinaya.train.tiny.context import Before, Voices
from abhinaya.train.tiny.make import for_tuning, held_out
from abhinaya.train.tiny.sessions import Sessions
from abhinaya.train.tiny.speech import SPEECH_LABELS, SpeechRecipe, read_sessions
from abhinaya.train.tiny.text import divide

FILE: Final = "tiny-vote.json"
NAMES: Final[Mapping[str, str]] = {"S1": SPEECH, "T2": text.NAME, "ST1": JOINT}


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


@dataclass(frozen=True, slots=True)
class Case:
    """One segment with the words spoken in it."""

    item: int
    words: str
    truth: str


def fit_vote(data: Path, cache: Path, out: Path, recipe: VoteRecipe, say: Say = print) -> Path:
    """Fit the rule and write `out`/FILE; return its path.

    Raises DataError: data is missing; ModelError: the voters trained without the tuning speakers
    are missing.
    """
    sentences = unread(data)
    every = read_sessions(data, cache, SpeechRecipe(), say)
    items = every.of(for_tuning(every) & (every.rendering < 2))
    rng = np.random.default_rng(recipe.seed)
    segments = [*range(len(items.label))] * recipe.times
    cases = [_case(items, i, recipe, sentences, rng) for i in segments]
    votes = _votes(items, cases, cache, recipe, rng)
    answers = Answers(
        tuple(votes),
        np.array([LABELS.index(case.truth) for case in cases]),
        tuple(str(items.speaker[case.item]) for case in cases),
        tuple(sorted(NAMES)),
    )
    fit = fit_ensemble(answers, "logistic", recipe.neutral, recipe.seed)
    least = least_confidence(fit.held_out, answers.truth, recipe.most_alarms)
    say(f"{len(cases)} cases; {dict(fit.plans)}; unknown below {least:.3f}")
    versions = {"S1": SpeechNetwork(SPEECH, None), "ST1": SpeechNetwork(JOINT, None)}
    models = {
        name: (
            model,
            versions[name].metadata.version if name in versions else TinyText().card.version,
        )
        for name, model in NAMES.items()
    }
    path = out / FILE
    write_combiner(
        path,
        Combiner(
            "logistic",
            members_of(fit.rule, models),
            least,
            fit.rule.fitted,
            "abhinaya train tiny-vote",
            {"speakers": sorted(set(map(str, items.speaker[items.corpus != READERS])))},
            {},
        ),
    )
    sums.record(path)
    return path


def unread(data: Path) -> dict[str, list[str]]:
    """Return sentences outside the training data of the text network, by label.

    Raises DataError: a corpus is missing.
    """
    _, tuning = divide(read_goemotions(data, "train") + read_emorynlp(data, "train"))
    found: dict[str, list[str]] = {label: [] for label in SPEECH_LABELS}
    for sentence in [*tuning, *read_reccon(data, "valid")]:
        if len(sentence.labels) == 1:
            found[sentence.labels[0]].append(sentence.text)
    return found


def _case(
    items: Sessions,
    item: int,
    recipe: VoteRecipe,
    sentences: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
) -> Case:
    truth = str(items.label[item])
    chance = rng.random()
    if chance < recipe.alike:
        label = truth
    elif chance < recipe.alike + recipe.calm:
        label = "neutral"
    elif chance < recipe.alike + recipe.calm + recipe.other and truth != "neutral":
        label = sorted(sentences)[int(rng.integers(len(sentences)))]
    else:
        return Case(item, "", truth)
    return Case(item, sentences[label][int(rng.integers(len(sentences[label])))], truth)


def _votes(
    items: Sessions,
    cases: Sequence[Case],
    cache: Path,
    recipe: VoteRecipe,
    rng: np.random.Generator,
) -> list[dict[str, Ballot]]:
    """Return the votes on each case, by voter, without abstentions."""
    folder = held_out(cache)
    networks = {
        name: SpeechNetwork(name, str(folder / f"{name}.safetensors")) for name in (SPEECH, JOINT)
    }
    tower, reader = text.shared(), TinyText()
    voices = Voices(items, networks[SPEECH].usual)
    found = []
    for case in cases:
        levels = items.levels(case.item).transpose(1, 0, 2)
        seconds = float(items.seconds[case.item])
        voice = voices.draw(case.item, recipe.before, rng)
        votes: dict[str, Ballot] = {"S1": networks[SPEECH].judge(levels, voice, seconds, None)}
        words = np.zeros(WORDS, np.float32)
        if case.words:
            words = word_features(tower.read([case.words])[1])[0]
            utterance = Utterance(np.zeros(0, np.float32), transcript=case.words)
            (answer,) = reader.vote([utterance])
            if isinstance(answer, Ballot):
                votes["T2"] = answer
        votes["ST1"] = networks[JOINT].judge(levels, voice, seconds, words)
        found.append(votes)
    return found
