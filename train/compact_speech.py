"""Recipe of the compact speech voter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import fixed_statistics, normalise
from abhinaya.models.labels import LABELS
from abhinaya.train import losses
from abhinaya.train.calibration import fit_temperature, prior_bias
from abhinaya.train.data.clips import read_clips
from abhinaya.train.data.sessions import Sessions, render
from abhinaya.train.export import Calibrated, export
from abhinaya.train.loop import Schedule, fit
from abhinaya.train.metrics import Indices, calibration_error, macro_f1, softmax
from abhinaya.train.speech_batches import BatchPlan, SpeechBatches, columns, heard_before, joined
from abhinaya.train.splits import part_of, select
from abhinaya.train.towers import FirstColumns, SpeechTower

VERSION: Final = "2"
RENDERING_SEED: Final = 1
BURSTS: Final = "emogator"


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
    bursts: float = 0.0
    """Share of vocal bursts (EmoGator) in a batch. They have scores of their own, which are cut off
    in the end: they may teach the tower to listen, and never what is speech and what is not."""
    neutral_prior: float = 0.5
    """Share of neutral segments to expect in life; training shows every class equally often."""


@dataclass(frozen=True)
class Tuned:
    """A trained tower with its calibration, ready for export."""

    network: Calibrated
    labels: tuple[str, ...]
    temperature: float
    neutral_bias: float


SPEECH_LABELS: Final = tuple(label for label in LABELS if label != "contempt")
"""No speech here has contempt; EmoGator's scoffs are bursts without words."""


def train_speech(
    data: Path, cache: Path, recipe: SpeechRecipe, say: Callable[[str], None] = print
) -> Tuned:
    """Train and calibrate a speech tower on the clips below `data`.

    Raises:
        DataError: the data is missing or broken.
        TrainingError: the loss is no longer a number.

    """
    plan = recipe.plan
    clips = [clip for clip in read_clips(data, tuple(plan.shares)) if clip.split == "train"]
    sessions = render(clips, data, cache, recipe.renderings, RENDERING_SEED)
    if recipe.bursts:
        plan = replace(plan, shares={**plan.shares, BURSTS: recipe.bursts})
        more = [clip for clip in read_clips(data, [BURSTS]) if clip.split == "train"]
        sessions = joined(sessions, render(more, data, cache, 1, RENDERING_SEED))
    learn = np.array([part_of(clip) == "fit" for clip in sessions.clips])
    learnt = {clip.path for clip, drawn in zip(sessions.clips, learn, strict=True) if drawn}
    say(f"{learn.sum()} renderings of {len(learnt)} clips")
    torch.manual_seed(recipe.seed)
    classes = columns(sessions.clips, SPEECH_LABELS)
    tower = SpeechTower(classes, recipe.planes, recipe.width, recipe.dropout)
    batches = SpeechBatches(sessions, SPEECH_LABELS, plan, recipe.seed, learn)

    def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
        apart, soft = smoothed(logits, targets, len(SPEECH_LABELS), recipe.smoothing)
        return losses.focal(apart, soft, recipe.gamma)

    trained: nn.Module = fit(tower, batches.draw, loss_of, recipe.schedule, say)
    del sessions, batches
    tuning = render(select(clips, "tune"), data, cache, 0, RENDERING_SEED)
    if classes > len(SPEECH_LABELS):
        trained = FirstColumns(trained, len(SPEECH_LABELS))
    tuned = calibrate(trained.eval(), tuning, recipe)
    for line in tuning_report(tuned, tuning, recipe):
        say(line)
    return tuned


def smoothed(logits: Tensor, targets: Tensor, speech: int, by: float) -> tuple[Tensor, Tensor]:
    """Logits [B, C] without the columns of the other kind, and targets [B, C] smoothed `by`.

    The first `speech` columns are of speech, the others of bursts; each row is of one kind.
    """
    of_speech = torch.arange(targets.shape[1]) < speech
    is_speech = targets[:, :speech].sum(dim=1, keepdim=True) > 0.5
    own = torch.where(is_speech, of_speech, ~of_speech).float()
    soft = targets * (1.0 - by) + by * own / own.sum(dim=1, keepdim=True)
    return logits.masked_fill(own < 0.5, -1e4), soft


@torch.no_grad()
def tuning_scores(
    tower: nn.Module,
    sessions: Sessions,
    running: bool = True,
    heard_s: tuple[float, float] = (0.0, 40.0),
    seed: int = 0,
) -> tuple[FloatArray, Indices]:
    """Logits [N, C] and labels [N] of clips, each after `heard_s` (from, to) of its speaker."""
    rng = np.random.default_rng(seed)
    speakers = np.array([clip.speaker for clip in sessions.clips])
    rows = []
    for i in range(len(sessions.clips)):
        others = rng.permutation(np.flatnonzero(speakers == speakers[i]))
        heard = heard_before(sessions, i, others, rng.uniform(*heard_s))
        heard = heard if running else fixed_statistics()
        features = torch.from_numpy(normalise(sessions.energies(i), heard)).unsqueeze(0)
        rows.append(tower(features, torch.ones(features.shape[:2]))[0].numpy())
    truth = np.array([SPEECH_LABELS.index(clip.label) for clip in sessions.clips], np.int64)
    return np.stack(rows), truth


def calibrate(tower: nn.Module, sessions: Sessions, recipe: SpeechRecipe) -> Tuned:
    """Fit the temperature, every speaker of `sessions` counting the same, and add the prior."""
    logits, truth = tuning_scores(tower, sessions, recipe.plan.running)
    clips_of = Counter(clip.speaker for clip in sessions.clips)
    weights = np.array([1.0 / clips_of[clip.speaker] for clip in sessions.clips], np.float32)
    temperature = fit_temperature(logits, truth, weights)
    bias = [0.0] * len(SPEECH_LABELS)
    bias[SPEECH_LABELS.index("neutral")] = prior_bias(recipe.neutral_prior, len(SPEECH_LABELS))
    return Tuned(Calibrated(tower, temperature, bias), SPEECH_LABELS, temperature, max(bias))


def tuning_report(tuned: Tuned, sessions: Sessions, recipe: SpeechRecipe) -> list[str]:
    """Say how good the tuned network is on each tuning speaker: what choices are made by."""
    speakers = np.array([clip.speaker for clip in sessions.clips])
    lines = []
    for seconds in (0.0, 20.0):
        heard_s = (seconds, seconds)
        logits, truth = tuning_scores(tuned.network, sessions, recipe.plan.running, heard_s)
        told = []
        for who in sorted(set(speakers.tolist())):
            mine = speakers == who
            f1 = macro_f1(truth[mine], logits[mine].argmax(axis=1), sorted(set(truth[mine])))
            error = calibration_error(softmax(logits[mine]), truth[mine])
            told.append(f"{who} {f1:.3f} (calibration {error:.2f}, n {mine.sum()})")
        lines.append(f"tune, {seconds:.0f} s heard: macro-F1 " + ", ".join(told))
    return lines


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
