"""Recipe of the compact speech voter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import normalise
from abhinaya.models.labels import LABELS
from abhinaya.train import losses
from abhinaya.train.calibration import fit_temperature, prior_bias
from abhinaya.train.data.clips import read_clips
from abhinaya.train.data.sessions import Sessions, render
from abhinaya.train.export import Calibrated, export
from abhinaya.train.loop import Schedule, fit
from abhinaya.train.metrics import Indices
from abhinaya.train.speech_batches import BatchPlan, SpeechBatches, heard_before
from abhinaya.train.splits import select
from abhinaya.train.towers import SpeechTower

VERSION: Final = "1"
RENDERING_SEED: Final = 1


@dataclass(frozen=True)
class SpeechRecipe:
    """Everything that decides what the tower becomes, besides the data."""

    seed: int = 0
    planes: tuple[int, int, int, int] = (16, 32, 48, 64)
    width: int = 128
    dropout: float = 0.3
    renderings: int = 3
    """Copies of each clip through drawn channels, besides the clip as it is."""
    plan: BatchPlan = field(default_factory=BatchPlan)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=7_000, rate=3e-3))
    gamma: float = 0.0
    """Of the focal loss; 0 is cross-entropy."""
    smoothing: float = 0.05
    neutral_prior: float = 0.5
    """Share of neutral segments to expect in life; training shows every class equally often."""


@dataclass(frozen=True)
class Tuned:
    """A trained tower with its calibration, ready for export."""

    network: Calibrated
    labels: tuple[str, ...]
    temperature: float
    neutral_bias: float


def labels_of(corpora: Mapping[str, float]) -> tuple[str, ...]:
    """Labels that these corpora can teach: contempt only comes from EmoGator's scoffs."""
    return tuple(label for label in LABELS if label != "contempt" or "emogator" in corpora)


def train_speech(
    data: Path, cache: Path, recipe: SpeechRecipe, say: Callable[[str], None] = print
) -> Tuned:
    """Train and calibrate a speech tower on the clips below `data`.

    Raises:
        DataError: the data is missing or broken.
        TrainingError: the loss is no longer a number.

    """
    corpora = tuple(recipe.plan.shares)
    clips = read_clips(data, corpora)
    labels = labels_of(recipe.plan.shares)
    fitting = render(select(clips, "fit"), data, cache, recipe.renderings, RENDERING_SEED)
    say(f"{len(fitting.clips)} renderings of {len(select(clips, 'fit'))} clips")
    torch.manual_seed(recipe.seed)
    tower = SpeechTower(len(labels), recipe.planes, recipe.width, recipe.dropout)
    batches = SpeechBatches(fitting, labels, recipe.plan, recipe.seed)

    def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
        soft = targets * (1.0 - recipe.smoothing) + recipe.smoothing / targets.shape[1]
        return losses.focal(logits, soft, recipe.gamma)

    trained = fit(tower, batches.draw, loss_of, recipe.schedule, say)
    speech = [clip for clip in select(clips, "tune") if clip.kind == "speech"]
    tuning = render(speech, data, cache, 0, RENDERING_SEED)
    return calibrate(trained, tuning, labels, recipe.neutral_prior)


@torch.no_grad()
def tuning_scores(
    tower: torch.nn.Module, sessions: Sessions, labels: tuple[str, ...], seed: int = 0
) -> tuple[FloatArray, Indices]:
    """Logits [N, C] and labels [N] of clips, each after 0 to 40 s of its speaker."""
    rng = np.random.default_rng(seed)
    speakers = np.array([clip.speaker for clip in sessions.clips])
    rows = []
    for i in range(len(sessions.clips)):
        others = rng.permutation(np.flatnonzero(speakers == speakers[i]))
        heard = heard_before(sessions, i, others, rng.uniform(0.0, 40.0))
        features = torch.from_numpy(normalise(sessions.energies(i), heard)).unsqueeze(0)
        rows.append(tower(features, torch.ones(features.shape[:2]))[0].numpy())
    truth = np.array([labels.index(clip.label) for clip in sessions.clips], np.int64)
    return np.stack(rows), truth


def calibrate(
    tower: torch.nn.Module, sessions: Sessions, labels: tuple[str, ...], neutral_prior: float
) -> Tuned:
    """Fit the temperature, every speaker of `sessions` counting the same, and add the prior."""
    logits, truth = tuning_scores(tower, sessions, labels)
    clips_of = Counter(clip.speaker for clip in sessions.clips)
    weights = np.array([1.0 / clips_of[clip.speaker] for clip in sessions.clips], np.float32)
    temperature = fit_temperature(logits, truth, weights)
    bias = [0.0] * len(labels)
    bias[labels.index("neutral")] = prior_bias(neutral_prior, len(labels))
    return Tuned(Calibrated(tower, temperature, bias), labels, temperature, max(bias))


def train_compact_speech(
    data: Path,
    cache: Path,
    out: Path,
    recipe: SpeechRecipe | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the voter and write `out`/compact-speech.onnx."""
    tuned = train_speech(data, cache, recipe or SpeechRecipe(), say)
    say(f"temperature {tuned.temperature:.2f}, neutral bias {tuned.neutral_bias:.2f}")
    path = out / "compact-speech.onnx"
    settings = {"temperature": tuned.temperature, "neutral_bias": tuned.neutral_bias}
    export(tuned.network, path, "compact-speech", VERSION, tuned.labels, settings)
    return path
