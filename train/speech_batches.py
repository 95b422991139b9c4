"""Training batches for a speech tower, with the running normalisation it will meet in service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray, Heard
from abhinaya.models.compact.features import HOP_SAMPLES, SAMPLE_RATE, heard_from, normalise
from abhinaya.models.compact.listen import pad
from abhinaya.train.data.sessions import Sessions

FRAMES_PER_SECOND = SAMPLE_RATE // HOP_SAMPLES


@dataclass(frozen=True)
class BatchPlan:
    """How clips become a batch."""

    size: int = 32
    shares: Mapping[str, float] = field(default_factory=lambda: {"ravdess": 0.45, "nemo": 0.55})
    """Share of each corpus; within a corpus every class comes equally often."""
    alone: float = 0.25
    """Share of clips with nothing heard before them."""
    most_heard_s: float = 60.0
    crop_s: tuple[float, float] = (1.5, 4.5)
    masked_bins: int = 12
    """Widest band of mel bins hidden from a clip."""
    masked_frames: int = 40
    """Longest stretch hidden from a clip, in frames."""


class SpeechBatches:
    """Draws batches from rendered sessions, by seed."""

    def __init__(
        self, sessions: Sessions, labels: tuple[str, ...], plan: BatchPlan, seed: int
    ) -> None:
        self._sessions = sessions
        self._plan = plan
        self._rng = np.random.default_rng(seed)
        self._classes = len(labels)
        self._label = np.array([labels.index(c.label) for c in sessions.clips])
        self._chance = _chances(sessions, self._label, plan.shares)
        self._members = {
            int(number): np.flatnonzero(sessions.session == number)
            for number in np.unique(sessions.session)
        }

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, T, M], mask [B, T], targets [B, C]."""
        rng, plan = self._rng, self._plan
        chosen = rng.choice(len(self._chance), size=plan.size, p=self._chance)
        crop = int(rng.uniform(*plan.crop_s) * FRAMES_PER_SECOND)
        clips = [self._features(int(i), crop) for i in chosen]
        targets = np.eye(self._classes, dtype=np.float32)[self._label[chosen]]
        features, mask = pad(clips)
        return torch.from_numpy(features), torch.from_numpy(mask), torch.from_numpy(targets)

    def _features(self, i: int, crop: int) -> FloatArray:
        rng, plan = self._rng, self._plan
        seconds = 0.0 if rng.random() < plan.alone else rng.uniform(0.0, plan.most_heard_s)
        others = rng.permutation(self._members[int(self._sessions.session[i])])
        heard = heard_before(self._sessions, i, others, seconds)
        energies = self._sessions.energies(i)
        start = int(rng.integers(max(1, len(energies) - crop + 1)))
        return self._hide(normalise(energies[start : start + crop], heard))

    def _hide(self, features: FloatArray) -> FloatArray:
        """Hide a band and a stretch of features [T, M] (SpecAugment; Park et al., 2019)."""
        rng, plan = self._rng, self._plan
        width = int(rng.integers(plan.masked_bins + 1))
        low = int(rng.integers(features.shape[1] - width + 1))
        features[:, low : low + width] = 0.0
        length = min(int(rng.integers(plan.masked_frames + 1)), len(features) // 4)
        start = int(rng.integers(len(features) - length + 1))
        features[start : start + length] = 0.0
        return features


def heard_before(
    sessions: Sessions, i: int, others: npt.NDArray[np.int64], seconds: float
) -> Heard:
    """Statistics up to and including clip i, after `seconds` of the speech of `others`."""
    others = others[others != i]
    heard_frames = np.cumsum(sessions.weights[others]) - sessions.weights[others]
    before = others[heard_frames < seconds * FRAMES_PER_SECOND]
    return heard_from(sessions.sums(np.append(before, i)))


def _chances(
    sessions: Sessions, label: npt.NDArray[np.int64], shares: Mapping[str, float]
) -> npt.NDArray[np.float64]:
    corpus = np.array([clip.corpus for clip in sessions.clips])
    chance = np.zeros(len(label))
    for name, share in shares.items():
        inside = corpus == name
        classes, counts = np.unique(label[inside], return_counts=True)
        for c, count in zip(classes, counts, strict=True):
            chance[inside & (label == c)] = share / (len(classes) * count)
    normalised: npt.NDArray[np.float64] = chance / chance.sum()
    return normalised
