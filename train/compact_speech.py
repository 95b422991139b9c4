"""Recipe of the compact speech voter: towers that hear its sound, and that see its manner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.manner import manner
from abhinaya.models.compact.measure import normalised
from abhinaya.models.compact.moments import fixed_statistics
from abhinaya.models.labels import LABELS
from abhinaya.train import losses
from abhinaya.train.calibration import fit_temperature
from abhinaya.train.compact_manner import MannerRecipe, MannerTowers, train_manner
from abhinaya.train.data.clips import Clip, read_clips
from abhinaya.train.data.readers import READERS, pieces_of, read_readers
from abhinaya.train.data.sessions import RENDERING_VERSION, Sessions, render
from abhinaya.train.errors import TrainingError
from abhinaya.train.export import Calibrated, export
from abhinaya.train.kept import kept, key_of
from abhinaya.train.loop import Schedule, fit
from abhinaya.train.metrics import Indices, calibration_error, macro_f1, softmax
from abhinaya.train.speech_batches import BatchPlan, SpeechBatches, columns, heard_before, joined
from abhinaya.train.splits import part_of, select
from abhinaya.train.towers import (
    FirstColumns,
    Mean,
    Silent,
    SpeechTower,
    SpeechTowers,
    trust_in_habits,
)

VERSION: Final = "5"
RENDERING_SEED: Final = 1
BURSTS: Final = "emogator"
ACTED_LABELS: Final = {"ravdess": 7, "nemo": 6}
"""How many labels each acted corpus has; a batch shows a corpus's labels equally often."""


@dataclass(frozen=True)
class SpeechRecipe:
    """Everything that decides what the tower becomes, besides the data."""

    seed: int = 0
    planes: tuple[int, int, int, int] = (16, 32, 48, 64)
    width: int = 128
    dropout: float = 0.3
    sounds: int = 2
    """Sound towers, each from another seed, whose scores are averaged."""
    renderings: int = 2
    """Copies of each clip through drawn channels, besides the clip as it is."""
    plan: BatchPlan = field(default_factory=BatchPlan)
    """With a share for READERS, neutral strangers are learnt from as well."""
    manner: MannerRecipe = field(default_factory=MannerRecipe)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=4_000, rate=3e-3))
    gamma: float = 0.0
    """Of the focal loss; 0 is cross-entropy."""
    smoothing: float = 0.05
    bursts: float = 0.0
    """Share of vocal bursts (EmoGator) in a batch. They have scores of their own, which are cut off
    in the end: they may teach the tower to listen, and never what is speech and what is not."""
    shares: tuple[float, float, float] = (0.4, 0.3, 0.4)
    """What the sound, the manner and what differs from the voice's habits count; without a share
    the sound is not even trained."""
    refit: bool = True
    """Train once more when everything is calibrated, on the tuning speakers as well: people are
    what is short, and the temperatures of the first training serve the second."""

    def __post_init__(self) -> None:
        """Refuse what leaves nobody to speak.

        Raises:
            TrainingError: no towers, or shares that come to nothing.

        """
        if self.sounds < 1 or self.manner.seeds < 1:
            raise TrainingError(
                f"sounds = {self.sounds}, manner.seeds = {self.manner.seeds}: at least 1 each; "
                "shares=[0, 0.5, 0.5] leaves the sound out"
            )
        if min(self.shares) < 0.0 or self.shares[0] + self.shares[1] <= 0.0:
            raise TrainingError(
                f"shares = {list(self.shares)}: none may be below 0, and the first two not both 0: "
                "in a stream's first utterance no habits are known"
            )


@dataclass(frozen=True)
class Towers:
    """The trained towers of a speech voter, before anything is calibrated."""

    sound: nn.Module
    """Features [B, T, F] and mask [B, T] -> logits [B, C]."""
    manner: MannerTowers
    """Manner [B, Q] -> logits [B, C], each."""


@dataclass(frozen=True)
class Tuned:
    """A trained network with its calibration, ready for export."""

    network: Calibrated
    held_out: Calibrated
    """The one that has not met the tuning speakers; what is fitted later is fitted on it."""
    labels: tuple[str, ...]
    temperatures: tuple[float, float, float, float]
    """Of the sound, of the manner, of the habits, and of their mean."""


SPEECH_LABELS: Final = tuple(label for label in LABELS if label != "contempt")
"""No speech here has contempt; EmoGator's scoffs are bursts without words."""


def train_speech(
    data: Path, cache: Path, recipe: SpeechRecipe, say: Callable[[str], None] = print
) -> Tuned:
    """Train and calibrate a speech network on the clips below `data`.

    Raises:
        DataError: the data is missing or broken.
        TrainingError: the loss is no longer a number.

    """
    sessions = rendered(data, cache, recipe)
    part = np.array([part_of(clip) for clip in sessions.clips])
    towers = train_towers(sessions, part == "fit", recipe, cache, say)
    clips = select(read_clips(data, acted(recipe)), "tune")
    tuning = render(clips, data, cache, 0, RENDERING_SEED)
    tuned = calibrate(towers, tuning, recipe)
    for line in tuning_report(tuned, towers, tuning, recipe):
        say(line)
    if not recipe.refit:
        return tuned
    say("once more, on the tuning speakers as well")
    towers = train_towers(sessions, part != "dev", recipe, cache, say)
    network = assembled(towers, tuned.temperatures, recipe)
    return replace(tuned, network=network)


def rendered(data: Path, cache: Path, recipe: SpeechRecipe) -> Sessions:
    """Every clip that the recipe could learn from, of whatever split, through drawn channels."""
    clips = read_clips(data, acted(recipe))
    sessions = render(clips, data, cache, recipe.renderings, RENDERING_SEED)
    if recipe.plan.shares.get(READERS, 0.0) > 0.0:
        pieces = pieces_of(read_readers(data, "train"), RENDERING_SEED)
        more = render(pieces, data, cache, recipe.renderings, RENDERING_SEED)
        sessions = joined(sessions, more)
    if recipe.bursts:
        bursts = render(read_clips(data, [BURSTS]), data, cache, 1, RENDERING_SEED)
        sessions = joined(sessions, bursts)
    return sessions


def acted(recipe: SpeechRecipe) -> tuple[str, ...]:
    """Corpora of the recipe whose speakers are in the index: all but the neutral readers."""
    return tuple(corpus for corpus in recipe.plan.shares if corpus != READERS)


def train_towers(
    sessions: Sessions,
    learn: npt.NDArray[np.bool_],
    recipe: SpeechRecipe,
    cache: Path,
    say: Callable[[str], None] = print,
) -> Towers:
    """Train all towers on the clips that `learn` [N] lets them; the sound is kept in `cache`.

    Raises:
        TrainingError: the loss is no longer a number.

    """
    plan = recipe.plan
    if recipe.bursts:
        plan = replace(plan, shares={**plan.shares, BURSTS: recipe.bursts})
    learnt = {clip.id for clip in chosen_of(sessions, learn)}
    say(f"{learn.sum()} renderings of {len(learnt)} clips")
    of_manner = train_manner(
        sessions, learn, SPEECH_LABELS, recipe.plan, recipe.manner, recipe.seed, say
    )
    if recipe.shares[0] <= 0.0:
        return Towers(Silent(len(SPEECH_LABELS)), of_manner)
    towers = []
    for number in range(recipe.sounds):
        seed = recipe.seed + 1_000 * number
        # what makes one sound tower, and nothing of what else the voter is made of
        made_of = replace(
            recipe, seed=seed, sounds=1, manner=MannerRecipe(), shares=(1.0, 0.0, 0.0), refit=True
        )
        key = key_of(made_of, RENDERING_VERSION, clips=learnt)
        path = cache / "towers" / f"sound-{key}.pt"
        towers.append(_sound_tower(sessions, learn, replace(made_of, plan=plan), path, say))
    return Towers(Mean(towers).eval(), of_manner)


def _sound_tower(
    sessions: Sessions,
    learn: npt.NDArray[np.bool_],
    recipe: SpeechRecipe,
    path: Path,
    say: Callable[[str], None],
) -> nn.Module:
    """Train one sound tower, or take it from `path`, where it is kept."""
    torch.manual_seed(recipe.seed)
    classes = columns(sessions.clips, SPEECH_LABELS)
    tower = SpeechTower(classes, recipe.planes, recipe.width, recipe.dropout)
    batches = SpeechBatches(sessions, SPEECH_LABELS, recipe.plan, recipe.seed, learn)

    def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
        apart, soft = smoothed(logits, targets, len(SPEECH_LABELS), recipe.smoothing)
        return losses.focal(apart, soft, recipe.gamma)

    sound = kept(path, tower, lambda: fit(tower, batches.draw, loss_of, recipe.schedule, say), say)
    return FirstColumns(sound, len(SPEECH_LABELS)) if classes > len(SPEECH_LABELS) else sound


def chosen_of(sessions: Sessions, chosen: npt.NDArray[np.bool_]) -> list[Clip]:
    """Clips of `sessions` that are `chosen` [N], each as often as it was rendered."""
    return [clip for clip, one in zip(sessions.clips, chosen, strict=True) if one]


def smoothed(logits: Tensor, targets: Tensor, speech: int, by: float) -> tuple[Tensor, Tensor]:
    """Logits [B, C] without the columns of the other kind, and targets [B, C] smoothed `by`.

    The first `speech` columns are of speech, the others of bursts; each row is of one kind.
    """
    of_speech = torch.arange(targets.shape[1]) < speech
    is_speech = targets[:, :speech].sum(dim=1, keepdim=True) > 0.5
    own = torch.where(is_speech, of_speech, ~of_speech).float()
    soft = targets * (1.0 - by) + by * own / own.sum(dim=1, keepdim=True)
    return logits.masked_fill(own < 0.5, -1e4), soft


def held_out(cache: Path) -> Path:
    """Folder of the weights that have met nobody of the tuning speakers."""
    return cache / "held-out"


Fed = tuple[Tensor, Tensor, Tensor]
"""Features [1, T, F], mask [1, T] and manner [1, Q] of one clip."""


def feeds_of(
    sessions: Sessions,
    running: bool = True,
    heard_s: tuple[float, float] = (0.0, 40.0),
    seed: int = 0,
) -> list[Fed]:
    """Give what the networks see of each clip, after `heard_s` (from, to) of its speaker."""
    rng = np.random.default_rng(seed)
    speakers = np.array([clip.speaker for clip in sessions.clips])
    fed = []
    for i in range(len(sessions.clips)):
        others = rng.permutation(np.flatnonzero(speakers == speakers[i]))
        heard = heard_before(sessions, i, others, rng.uniform(*heard_s))
        heard = heard if running else fixed_statistics()
        features = torch.from_numpy(normalised(sessions.seen(i), heard)).unsqueeze(0)
        told = torch.from_numpy(manner(sessions.spoken(i), heard)).unsqueeze(0)
        fed.append((features, torch.ones(features.shape[:2]), told))
    return fed


@torch.no_grad()
def scores(network: nn.Module, fed: Sequence[tuple[Tensor, ...]]) -> FloatArray:
    """Logits [N, C] of clips, each alone."""
    return np.stack([network(*one)[0].numpy() for one in fed])


def truth_of(sessions: Sessions) -> Indices:
    """Index [N] of each clip's label in SPEECH_LABELS."""
    return np.array([SPEECH_LABELS.index(clip.label) for clip in sessions.clips], np.int64)


def calibrate(towers: Towers, sessions: Sessions, recipe: SpeechRecipe) -> Tuned:
    """Fit the temperatures, every speaker of `sessions` counting the same."""
    fed, truth = feeds_of(sessions, recipe.plan.running), truth_of(sessions)
    clips_of = Counter(clip.speaker for clip in sessions.clips)
    weights = np.array([1.0 / clips_of[clip.speaker] for clip in sessions.clips], np.float32)
    trust = np.concatenate([trust_in_habits(one[2])[0].numpy() for one in fed])
    of_sound, of_manner, of_habits = (
        fit_temperature(scores(tower, seen), truth, counting)
        for tower, seen, counting in (
            (towers.sound, [one[:2] for one in fed], weights),
            (towers.manner.own, [one[2:] for one in fed], weights),
            (towers.manner.habits, [one[2:] for one in fed], weights * trust),
        )
    )
    apart = SpeechTowers(
        towers.sound,
        towers.manner.own,
        towers.manner.habits,
        (of_sound, of_manner, of_habits),
        recipe.shares,
    )
    together = fit_temperature(scores(apart, fed), truth, weights)
    temperatures = of_sound, of_manner, of_habits, together
    network = assembled(towers, temperatures, recipe)
    return Tuned(network, network, SPEECH_LABELS, temperatures)


def assembled(
    towers: Towers,
    temperatures: tuple[float, float, float, float],
    recipe: SpeechRecipe,
) -> Calibrated:
    """Make one network of the towers, with these temperatures."""
    manner = towers.manner
    network = SpeechTowers(towers.sound, manner.own, manner.habits, temperatures[:3], recipe.shares)
    bias = [0.0] * len(SPEECH_LABELS)
    bias[SPEECH_LABELS.index("neutral")] = -excess_of_neutral(recipe.plan)
    return Calibrated(network, temperatures[3], bias).eval()


def excess_of_neutral(plan: BatchPlan) -> float:
    """By how many nats the readers made neutral more frequent in training than the other labels.

    They teach what neutral sounds like, not how often it occurs (Saerens et al., 2002, for such a
    correction of scores to other priors).
    """
    acted = sum(plan.shares.get(corpus, 0.0) / count for corpus, count in ACTED_LABELS.items())
    return float(np.log1p(plan.shares.get(READERS, 0.0) / acted)) if acted else 0.0


def tuning_report(
    tuned: Tuned, towers: Towers, sessions: Sessions, recipe: SpeechRecipe
) -> list[str]:
    """Say how good the tuned network is on each tuning speaker: what choices are made by."""
    speakers = np.array([clip.speaker for clip in sessions.clips])
    truth, lines = truth_of(sessions), []
    for seconds in (0.0, 20.0):
        fed = feeds_of(sessions, recipe.plan.running, (seconds, seconds))
        parts: dict[str, FloatArray] = {
            "sound": scores(towers.sound, [one[:2] for one in fed]),
            "manner": scores(towers.manner.own, [one[2:] for one in fed]),
            "habits": scores(towers.manner.habits, [one[2:] for one in fed]),
            "all": scores(tuned.network, fed),
        }
        for name, logits in parts.items():
            told = []
            for who in sorted(set(speakers.tolist())):
                mine = speakers == who
                f1 = macro_f1(truth[mine], logits[mine].argmax(axis=1), sorted(set(truth[mine])))
                error = calibration_error(softmax(logits[mine]), truth[mine])
                told.append(f"{who} {f1:.3f} (calibration {error:.2f}, n {mine.sum()})")
            lines.append(f"tune, {seconds:.0f} s heard, {name}: macro-F1 " + ", ".join(told))
    return lines


def train_compact_speech(
    data: Path,
    cache: Path,
    out: Path,
    recipe: SpeechRecipe | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the voter and write `out`/compact-speech.onnx.

    The one that has not met the tuning speakers goes to `cache`/held-out, for what is fitted on
    them.
    """
    tuned = train_speech(data, cache, recipe or SpeechRecipe(), say)
    told = ", ".join(f"{temperature:.2f}" for temperature in tuned.temperatures)
    say(f"temperatures {told}")
    path = out / "compact-speech.onnx"
    settings = {"temperatures": tuned.temperatures}
    for network, where in ((tuned.network, path), (tuned.held_out, held_out(cache) / path.name)):
        export(network, where, "compact-speech", VERSION, tuned.labels, settings)
    return path
