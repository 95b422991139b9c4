"""Clips as the model sees them: read, augmented, cut, with what their votes teach.

Every draw is by (seed, epoch, clip), never by what ran before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.base import SAMPLE_RATE, FloatArray, Need
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.augment import Plan, Sound, augment
from abhinaya.train.data.channels import Surroundings
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.targets import attributes
from abhinaya.train.learners.base import Example
from abhinaya.train.loop.teaching import Teaching
from abhinaya.train.metrics import Indices
from abhinaya.train.recipes.recipe import Recipe, TargetRecipe

_DRAW: Final = 1
"""Tells this draw apart from those of augmentation and votes."""


class Examples:
    """Clips of one part of a corpus."""

    def __init__(
        self, root: Path, clips: Sequence[Clip], recipe: Recipe, needs: frozenset[Need]
    ) -> None:
        self.clips = clips
        self._root, self._recipe, self._needs = root, recipe, needs
        self._teaching = Teaching(clips, recipe.data.classes, recipe.seed)
        self._attributes = attributes(clips)
        a = recipe.augment
        self._plan = Plan(
            crop_s=recipe.data.max_s if recipe.data.crop == "random" else None,
            channel=a.channel,
            codec=a.codec,
            pair=a.pair,
            pair_s=(a.pair_from_s, a.pair_to_s),
        )
        self._around = (
            Surroundings.find(Path(a.surroundings)) if a.surroundings else Surroundings((), ())
        )

    @property
    def labels(self) -> Indices:
        """Index of each clip's consensus among the classes [N]; -1 without one."""
        return self._teaching.labels

    def learnt(self, i: int, target: TargetRecipe, epoch: int) -> Example:
        """Clip i as it is learnt from in an epoch (counted through all stages).

        Raises DataError: its audio cannot be read.
        """
        seed = self._recipe.seed
        draw = int(np.random.default_rng((seed, epoch, i, _DRAW)).integers(1 << 30))
        if "audio" not in self._needs:
            return self._example(i, np.zeros(0, np.float32), self._shares(i, target, epoch), draw)
        sounds = _Sounds(self, target, epoch)
        sound = augment(sounds, i, self._plan, self._around, seed, epoch)
        return self._example(i, sound.samples, sound.votes, draw)

    def judged(self, i: int) -> Example:
        """Clip i as it is judged by: as it is, but for its length.

        Raises DataError: its audio cannot be read.
        """
        samples = self.read(i) if "audio" in self._needs else np.zeros(0, np.float32)
        return self._example(i, samples, self._shares(i, TargetRecipe(), 0), 0)

    def read(self, i: int) -> FloatArray:
        """Read the samples [n] of clip i, all of it."""
        return read_clip(self._root, self.clips[i])

    def sound(self, i: int, target: TargetRecipe, epoch: int) -> Sound:
        """Clip i before augmentation."""
        return Sound(self.read(i), self._shares(i, target, epoch))

    def _shares(self, i: int, target: TargetRecipe, epoch: int) -> FloatArray:
        return self._teaching.shares(i, target, epoch)

    def _example(self, i: int, samples: FloatArray, shares: FloatArray, draw: int) -> Example:
        clip = self.clips[i]
        longest = round(self._recipe.data.max_s * SAMPLE_RATE)
        return Example(
            name=clip.path or clip.id,
            samples=samples[:longest],
            transcript=clip.transcript,
            shares=shares,
            attributes=self._attributes[i],
            draw=draw,
        )


class _Sounds(Sequence[Sound]):
    """All sounds of an epoch, each read when it is asked for."""

    def __init__(self, examples: Examples, target: TargetRecipe, epoch: int) -> None:
        self._examples, self._target, self._epoch = examples, target, epoch

    def __len__(self) -> int:
        return len(self._examples.clips)

    def __getitem__(self, i: int) -> Sound:  # type: ignore[override]
        return self._examples.sound(i, self._target, self._epoch)
