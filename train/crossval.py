"""Leave-speakers-out: the speech recipe trained anew for each fold, and scored on who was left out.

Fold k leaves out the k-th three actors of RAVDESS and, while there are any, the k-th three speakers
of nEMO, all in one training, so that six trainings leave every speaker of both out once. Nothing is
tuned on anybody: the temperatures are constants. Each finished fold is kept, so that a killed run
goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from abhinaya.models.base import FloatArray, Utterance
from abhinaya.models.compact.listen import Listened, listen, speech_feeds
from abhinaya.train.compact_recordings import Recordings
from abhinaya.train.compact_speech import (
    SPEECH_LABELS,
    SpeechRecipe,
    Towers,
    acted,
    assembled,
    chosen_of,
    rendered,
    train_towers,
)
from abhinaya.train.data.clips import Clip, read_clips
from abhinaya.train.data.readers import READERS
from abhinaya.train.errors import TrainingError
from abhinaya.train.eval_intervals import bootstrap, macro_f1_of
from abhinaya.train.metrics import Indices

SPEAKERS_A_FOLD: Final = 3
TEMPERATURES: Final = (1.3, 0.75, 0.75, 0.75)
"""About what tuning gives for the sound, the manner, the habits and their mean. What they decide is
how much each tower counts."""
HEARD_S: Final = (0, 20)
PARTS: Final = ("sound", "manner", "habits", "all")
NEUTRAL: Final = SPEECH_LABELS.index("neutral")


@dataclass(frozen=True)
class Fold:
    """One training and who is left out of it."""

    name: str
    speakers: frozenset[str]


@dataclass(frozen=True)
class Scored:
    """What a fold's network said of the N clips of those who were left out."""

    speakers: tuple[str, ...]
    corpora: tuple[str, ...]
    truth: Indices
    """[N] index in SPEECH_LABELS."""
    logits: FloatArray
    """[H, P, N, C] by seconds heard (HEARD_S) and part (PARTS)."""


def folds_of(clips: Sequence[Clip]) -> list[Fold]:
    """Leave out three speakers of each corpus at a time; then each corpus as a whole.

    The folds named after a corpus are those across corpora: trained without it, scored on it.
    """
    speakers = {
        corpus: sorted({clip.speaker for clip in clips if clip.corpus == corpus})
        for corpus in sorted({clip.corpus for clip in clips})
    }
    count = max(-(-len(of) // SPEAKERS_A_FOLD) for of in speakers.values())
    found = []
    for k in range(count):
        part = slice(k * SPEAKERS_A_FOLD, (k + 1) * SPEAKERS_A_FOLD)
        found.append(
            Fold(str(k + 1), frozenset(who for of in speakers.values() for who in of[part]))
        )
    return found + [Fold(corpus, frozenset(of)) for corpus, of in speakers.items()]


def crossval(
    data: Path,
    cache: Path,
    out: Path,
    recipe: SpeechRecipe,
    names: Sequence[str],
    say: Callable[[str], None] = print,
) -> list[str]:
    """Train and score the folds of these `names` that are not in `out` yet, and report on all.

    Raises:
        DataError: the data is missing or broken.
        TrainingError: there is no such fold, or a loss is no longer a number.

    """
    folds = {fold.name: fold for fold in folds_of(read_clips(data, acted(recipe)))}
    unknown = sorted(set(names) - set(folds))
    if unknown:
        raise TrainingError(f"no fold {', '.join(unknown)}; there are {', '.join(folds)}")
    scored = {}
    for name in names:
        path = out / f"fold-{name}-{_key(recipe)}.npz"
        if not path.is_file():
            say(f"fold {name}: without {', '.join(sorted(folds[name].speakers))}")
            _keep(path, _score(data, cache, recipe, folds[name], say))
        scored[name] = _kept(path)
    return report(scored)


def _score(
    data: Path, cache: Path, recipe: SpeechRecipe, fold: Fold, say: Callable[[str], None]
) -> Scored:
    sessions = rendered(data, cache, recipe)
    learn = np.array([clip.speaker not in fold.speakers for clip in sessions.clips])
    if all(clip.corpus == READERS for clip in chosen_of(sessions, learn)):
        raise TrainingError(f"fold {fold.name} leaves nobody to learn from")
    towers = train_towers(sessions, learn, recipe, cache, say)
    del sessions
    clips = [c for c in read_clips(data, acted(recipe)) if c.speaker in fold.speakers]
    recordings = Recordings(clips)
    heard = [
        recordings.after(seconds) if recipe.plan.running else recordings.unnormalised()
        for seconds in HEARD_S
    ]
    logits = [_logits(towers, recipe, utterances) for utterances in heard]
    return Scored(
        tuple(clip.speaker for clip in clips),
        tuple(clip.corpus for clip in clips),
        np.array([SPEECH_LABELS.index(clip.label) for clip in clips], np.int64),
        np.stack(logits),
    )


@torch.no_grad()
def _logits(towers: Towers, recipe: SpeechRecipe, utterances: Sequence[Utterance]) -> FloatArray:
    """Logits [P, N, C] of each part; an utterance that nothing can be heard of scores 0."""
    together = assembled(towers, TEMPERATURES, recipe)
    found = np.zeros((len(PARTS), len(utterances), len(SPEECH_LABELS)), np.float32)
    for n, utterance in enumerate(utterances):
        heard = listen(utterance)
        if not isinstance(heard, Listened):
            continue
        fed = {name: torch.from_numpy(value) for name, value in speech_feeds([heard]).items()}
        features, mask, manner = fed["features"], fed["mask"], fed["manner"]
        parts = (
            towers.sound(features, mask),
            towers.manner.own(manner),
            towers.manner.habits(manner),
            together(features, mask, manner),
        )
        found[:, n] = torch.cat(parts).numpy()
    return found


def report(scored: Mapping[str, Scored]) -> list[str]:
    """Macro-F1 of each corpus over all numbered folds together, of each fold, and across corpora.

    Two intervals stand behind a pooled figure: over other clips, and over other speakers.
    """
    numbered = [of for name, of in scored.items() if name.isdecimal()]
    lines = []
    for corpus in sorted({c for of in numbered for c in of.corpora}):
        for h, seconds in enumerate(HEARD_S):
            for p, part in enumerate(PARTS):
                told = _pooled(numbered, corpus, h, p)
                lines.append(f"{corpus}, {seconds} s heard, {part}: {told}")
        lines += [
            f"{corpus}, fold {name}, {HEARD_S[-1]} s heard: {_pooled([of], corpus, -1, -1)}"
            for name, of in scored.items()
            if name.isdecimal() and corpus in of.corpora
        ]
    for name, of in scored.items():
        if not name.isdecimal():
            lines += [
                f"trained without {name}, {seconds} s heard: {_pooled([of], name, h, -1)}"
                for h, seconds in enumerate(HEARD_S)
            ]
    return lines


def _pooled(folds: Sequence[Scored], corpus: str, h: int, p: int) -> str:
    truth, guess, speakers = [], [], []
    for of in folds:
        mine = np.array([c == corpus for c in of.corpora])
        truth.append(of.truth[mine])
        guess.append(of.logits[h, p][mine].argmax(axis=1))
        speakers += [who for who, counts in zip(of.speakers, mine, strict=True) if counts]
    all_truth, all_guess = np.concatenate(truth), np.concatenate(guess)
    classes = sorted({int(c) for c in all_truth})
    statistic = macro_f1_of(all_truth, all_guess, classes)
    clips = bootstrap(statistic, len(all_truth))
    people = bootstrap(statistic, len(all_truth), speakers)
    neutral = all_truth == NEUTRAL
    missed = float(np.mean(all_guess[neutral] != NEUTRAL))
    return (
        f"macro-F1 {clips} over {clips.units} clips, [{people.low:.3f}, {people.high:.3f}] over "
        f"{people.units} speakers; {len(classes)} classes; neutral labelled otherwise {missed:.3f}"
    )


def _key(recipe: SpeechRecipe) -> str:
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:8]


def _keep(path: Path, scored: Scored) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half.npz")
    np.savez(
        half,
        speakers=np.array(scored.speakers),
        corpora=np.array(scored.corpora),
        truth=scored.truth,
        logits=scored.logits,
    )
    half.replace(path)


def _kept(path: Path) -> Scored:
    with np.load(path) as stored:
        return Scored(
            tuple(stored["speakers"].tolist()),
            tuple(stored["corpora"].tolist()),
            stored["truth"],
            stored["logits"],
        )
