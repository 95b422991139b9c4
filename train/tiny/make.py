"""From the recipe of S1 or ST1 to a calibrated file that the monitor opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.tiny.speech import WORDS, Settings
from abhinaya.train.calibration import fit_temperature
from abhinaya.train.tiny.speech import (
    SPEECH_LABELS,
    SpeechRecipe,
    is_tune,
    read_sessions,
    scores_of,
    train_heads,
    words_of,
    write,
)

ENOUGH_S: Final = 2.0
CALM: Final = 0.9


def train_and_write(
    name: str,
    data: Path,
    cache: Path,
    out: Path,
    recipe: SpeechRecipe,
    say: Callable[[str], None] = print,
) -> Path:
    """Train `name` without the tuning speakers, fit its temperature on them, and write it.

    Raises:
        DataError: data is missing.
        ModelError: Whisper's encoder is.
        TrainingError: the loss is no longer a number.

    """
    items = read_sessions(data, cache, recipe, say)
    tune = is_tune(items)
    trained = train_heads(items.of(~tune), recipe, words_of(data, recipe), say)
    tuning = items.of(tune & (items.rendering == 0))
    scores = scores_of(trained, tuning, words=_no_words if recipe.words else None)
    truth = np.array([SPEECH_LABELS.index(label) for label in tuning.label])
    temperature = fit_temperature(scores, truth)
    say(f"temperature {temperature:.2f}")
    path = out / f"{name}.safetensors"
    write(path, name, trained, Settings(temperature, 0.0, ENOUGH_S, CALM))
    return path


def _no_words(_: int) -> FloatArray:
    return np.zeros(WORDS, np.float32)
