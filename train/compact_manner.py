"""Training of the manner towers: how an utterance is spoken against what was heard of its speaker.

Its inputs are a few numbers, so that all of them fit in memory and several seeds cost less than
one run of the spectrogram tower; what the seeds do not agree on is what one of them overfitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.manner import APART, COUNT, N_MANNER, OWN, manner
from abhinaya.models.compact.moments import fixed_statistics
from abhinaya.train import losses
from abhinaya.train.data.sessions import Sessions
from abhinaya.train.loop import Schedule, fit
from abhinaya.train.speech_batches import BatchPlan, chances, column, heard_before
from abhinaya.train.towers import MannerTower, Mean


@dataclass(frozen=True)
class MannerRecipe:
    """Everything that decides what the manner towers become, besides the data."""

    seeds: int = 4
    """Towers of either kind, each from another seed, whose scores are averaged."""
    hidden: int = 128
    dropout: float = 0.5
    size: int = 256
    hearings: int = 4
    """How many times each clip is measured, each time after other speech of its session."""
    smoothing: float = 0.1
    mixing: float = 0.3
    """Both parameters of the beta distribution of mixup (Zhang et al., 2018); 0 mixes nothing."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=2_000, rate=3e-3, weight_decay=0.05, average=0.99, report_every=1_000
        )
    )


def measured_manners(
    sessions: Sessions, plan: BatchPlan, hearings: int, rng: np.random.Generator
) -> FloatArray:
    """Manner [N, H, Q] of each clip, each time after another amount of its session's speech."""
    members = {
        int(number): np.flatnonzero(sessions.session == number)
        for number in np.unique(sessions.session)
    }
    rows = []
    for i, number in enumerate(sessions.session):
        said, of = sessions.spoken(i), []
        for _ in range(hearings):
            seconds = 0.0 if rng.random() < plan.alone else rng.uniform(0.0, plan.most_heard_s)
            others = rng.permutation(members[int(number)])
            heard = heard_before(sessions, i, others, seconds)
            of.append(manner(said, heard if plan.running else fixed_statistics()))
        rows.append(np.stack(of))
    return np.stack(rows)


class MannerBatches:
    """Draws mixed batches of manners, by seed; every corpus by its share, its classes alike."""

    def __init__(
        self,
        manners: FloatArray,
        column_of: npt.NDArray[np.int64],
        chance: npt.NDArray[np.float64],
        classes: int,
        recipe: MannerRecipe,
        seed: int,
    ) -> None:
        """`manners` [N, H, Q]; `column_of` [N] the class; `chance` [N] to be drawn."""
        self._manners, self._chance, self._recipe = manners, chance, recipe
        self._targets = np.eye(classes, dtype=np.float32)[column_of]
        self._rng = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Manner [B, Q], targets [B, C]."""
        rng, recipe = self._rng, self._recipe
        chosen = rng.choice(len(self._chance), size=recipe.size, p=self._chance)
        hearing = rng.integers(self._manners.shape[1], size=recipe.size)
        x, classes = self._manners[chosen, hearing], self._targets.shape[1]
        targets = self._targets[chosen] * (1.0 - recipe.smoothing) + recipe.smoothing / classes
        if recipe.mixing > 0.0:
            share = rng.beta(recipe.mixing, recipe.mixing, (recipe.size, 1)).astype(np.float32)
            other = rng.permutation(recipe.size)
            x = share * x + (1.0 - share) * x[other]
            targets = share * targets + (1.0 - share) * targets[other]
        return torch.from_numpy(x), torch.from_numpy(targets.astype(np.float32))


@dataclass(frozen=True)
class MannerTowers:
    """Manner [B, Q] -> logits [B, C], by what either of them looks at."""

    own: nn.Module
    """How the utterance is in units of the voice."""
    habits: nn.Module
    """How it differs from the voice's habits. What it learns carries over to speakers and corpora
    that are unlike those of training, where the other one takes their way to speak for neutral."""


def train_manner(
    sessions: Sessions,
    learn: npt.NDArray[np.bool_],
    labels: tuple[str, ...],
    plan: BatchPlan,
    recipe: MannerRecipe,
    seed: int,
    say: Callable[[str], None] = print,
) -> MannerTowers:
    """Train towers of both kinds, one a seed, on the clips that `learn` [N] lets them.

    Raises:
        TrainingError: the loss is no longer a number.

    """
    speech = learn & np.array([clip.kind == "speech" for clip in sessions.clips])
    chosen = part_of_sessions(sessions, speech)
    manners = measured_manners(chosen, plan, recipe.hearings, np.random.default_rng(seed))
    classes = np.array([column(clip, labels) for clip in chosen.clips])
    corpora = {clip.corpus for clip in chosen.clips}
    shares: Mapping[str, float] = {c: s for c, s in plan.shares.items() if c in corpora}
    chance = chances(chosen, classes, shares, np.ones(len(classes), np.bool_))
    every = manners.reshape(-1, manners.shape[-1])
    centre, spread = every.mean(axis=0), every.std(axis=0)

    def towers(part: slice, first_seed: int) -> nn.Module:
        columns = [*range(N_MANNER)[part], COUNT]
        found = []
        for number in range(first_seed, first_seed + recipe.seeds):
            torch.manual_seed(number)
            tower = MannerTower(
                centre[columns], spread[columns], columns, len(labels), recipe.hidden,
                recipe.dropout,
            )  # fmt: skip
            batches = MannerBatches(manners, classes, chance, len(labels), recipe, number)
            found.append(fit(tower, batches.draw, losses.cross_entropy, recipe.schedule, say))
        return Mean(found).eval()

    return MannerTowers(towers(OWN, seed * 100), towers(APART, seed * 100 + 50))


def part_of_sessions(sessions: Sessions, chosen: npt.NDArray[np.bool_]) -> Sessions:
    """Those clips of `sessions` that are `chosen` [N], without their frames."""
    rows = np.flatnonzero(chosen)
    return replace(
        sessions,
        clips=tuple(sessions.clips[i] for i in rows),
        session=sessions.session[rows],
        ends=np.zeros(len(rows), np.int64),
        frames=sessions.frames[:0],
        weights=sessions.weights[rows],
        firsts=sessions.firsts[rows],
        seconds=sessions.seconds[rows],
        functionals=sessions.functionals[rows],
    )
