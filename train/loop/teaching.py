"""What the votes of each clip teach, in each epoch: shares of the classes [C]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.targets import drop_votes
from abhinaya.train.metrics import Indices
from abhinaya.train.recipes.recipe import TargetRecipe

Doubles = npt.NDArray[np.float64]

_DRAW: Final = 2
"""Tells this draw apart from the others by the same seed, epoch and clip."""


class Teaching:
    """Targets of N clips, for classes that are some or all of LABELS."""

    def __init__(self, clips: Sequence[Clip], classes: Sequence[str], seed: int) -> None:
        self._clips, self._classes, self._seed = clips, tuple(classes), seed
        self._columns = [LABELS.index(name) for name in classes]
        everything = [self._counts(clip.votes) for clip in clips]
        counts = np.array(everything, np.float64).reshape(len(clips), len(self._columns))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
        mean = shares.mean(axis=0) if len(clips) else np.ones(len(self._columns))
        self._rare = np.divide(1.0, mean, out=np.zeros_like(mean), where=mean > 0)

    @property
    def labels(self) -> Indices:
        """Index of each clip's consensus among the classes [N]; -1 without one."""
        known = [c.label if c.label in self._classes else None for c in self._clips]
        return np.array([self._classes.index(x) if x else -1 for x in known], np.int64)

    def shares(self, i: int, target: TargetRecipe, epoch: int) -> FloatArray:
        """Give what clip i teaches [C]; zeros if it has no label and only attributes are learnt."""
        clip = self._clips[i]
        if target.kind == "distribution":
            shares = self._distribution(i, target, epoch)
        else:
            shares = np.zeros(len(self._classes))
            if clip.label in self._classes:
                shares[self._classes.index(clip.label)] = 1.0
        if target.smoothing and shares.any():
            shares = (1.0 - target.smoothing) * shares + target.smoothing / len(shares)
        return shares.astype(np.float32)

    def _distribution(self, i: int, target: TargetRecipe, epoch: int) -> Doubles:
        counts = self._counts(votes := self._clips[i].votes)
        if target.drop_votes:
            rng = np.random.default_rng((self._seed, epoch, i, _DRAW))
            thinned = self._counts(drop_votes(votes, target.drop_votes, rng))
            counts = thinned if thinned.any() else counts  # the one that stayed may be `other`
        if target.reweight:
            counts = counts * self._rare
        shares: Doubles = counts / max(counts.sum(), 1e-9)
        return shares

    def _counts(self, votes: Mapping[str, float]) -> Doubles:
        return np.array([votes.get(LABELS[c], 0.0) for c in self._columns], np.float64)
