"""Makes the file of S1 or ST1: calibrates on tuning speakers, then trains on them as well.

The dev speakers of the index are never trained on. The figures of the shipped weights are of them.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.tiny.speech import Settings
from abhinaya.train.command import Say
from abhinaya.train.data.clips import READERS
from abhinaya.train.metrics import Flags, fit_temperature
from abhinaya.train.tiny.context import Words
from abhinaya.train.tiny.sessions import Sessions
from abhinaya.train.tiny.speech import (
    NEUTRAL,
    SPEECH_LABELS,
    SpeechRecipe,
    Trained,
    read_sessions,
    scores_of,
    train_heads,
    words_of,
    write,
)

TUNE_SPEAKERS = frozenset({"ravdess_15", "ravdess_16", "nemo_MK0", "nemo_MP0"})
"""A man and a woman each of RAVDESS and nEMO, from the training split. MK0 has no surprise; MP0 has
every class and the fewest clips, so that little training data is lost."""
TUNE_READERS = 5
"""One of this many readers is left out for calibration."""
NEUTRAL_SHARE = 0.5
"""Weight of neutral in the calibration; its share in acted corpora is not that of real speech."""


def train_and_write(
    name: str, data: Path, cache: Path, out: Path, recipe: SpeechRecipe, say: Say = print
) -> Path:
    """Train a voter and write `out`/`name`.safetensors; return its path.

    The voter trained without the tuning speakers stays in `held_out(cache)`. The vote rule is
    fitted on its votes on these speakers.

    Raises DataError: data is missing; ModelError: Whisper's encoder or the text network is missing;
    TrainingError: the loss is NaN or infinite.
    """
    items = read_sessions(data, cache, recipe, say)
    items = items.of(items.split != "dev")
    words = words_of(data, recipe)
    tune = for_tuning(items)
    first = train_heads(items.of(~tune), replace(recipe, heads=1), words, say)
    settings = calibrate(first, items.of(tune), recipe, words)
    say(f"temperature {settings.temperature:.2f}")
    write(held_out(cache) / f"{name}.safetensors", name, first, settings)
    say("training again, with the tuning speakers")
    path = out / f"{name}.safetensors"
    write(path, name, train_heads(items, recipe, words, say), settings)
    return path


def held_out(cache: Path) -> Path:
    """Return the folder of voters trained without the tuning speakers."""
    return cache / "held-out"


def for_tuning(items: Sessions) -> Flags:
    """Return a mask [N] of the items of tuning speakers."""
    drawn = [zlib.crc32(name.encode()) % TUNE_READERS == 0 for name in items.speaker]
    readers = (items.corpus == READERS) & np.array(drawn)
    tune: Flags = np.isin(items.speaker, sorted(TUNE_SPEAKERS)) | readers
    return tune


def calibrate(
    trained: Trained, tuning: Sessions, recipe: SpeechRecipe, words: Words | None
) -> Settings:
    """Return the settings of a recipe with the temperature fitted on its tuning speakers."""
    label = np.array([SPEECH_LABELS.index(name) for name in tuning.label])
    rng = np.random.default_rng(recipe.seed)

    def drawn(item: int) -> FloatArray:
        assert words is not None
        return words.draw(int(label[item]), recipe.pairing, rng)[0]

    scores = scores_of(trained, tuning, words=drawn if words else None)
    counts = np.bincount(label, minlength=len(SPEECH_LABELS))
    share = np.full(len(counts), (1 - NEUTRAL_SHARE) / (len(counts) - 1))
    share[NEUTRAL] = NEUTRAL_SHARE
    weights = (share / np.maximum(1, counts))[label].astype(np.float32)
    leaning = recipe.settings.neutral * np.eye(len(counts), dtype=np.float32)[NEUTRAL]
    return replace(recipe.settings, temperature=fit_temperature(scores + leaning, label, weights))
