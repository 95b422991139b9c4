"""Training batches for a speech tower, with the running normalisation it will meet in service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import (
    HOP_SAMPLES,
    N_MELS,
    SAMPLE_RATE,
)
from abhinaya.models.compact.heard import Heard
from abhinaya.models.compact.listen import pad
from abhinaya.models.compact.measure import normalised
from abhinaya.models.compact.moments import fixed_statistics, heard_from
from abhinaya.models.compact.running import Habits
from abhinaya.models.compact.voice import MEL
from abhinaya.models.labels import LABELS
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.readers import READERS
from abhinaya.train.data.sessions import Sessions

FRAMES_PER_SECOND: Final = SAMPLE_RATE // HOP_SAMPLES


@dataclass(frozen=True)
class BatchPlan:
    """How clips become a batch."""

    size: int = 32
    shares: Mapping[str, float] = field(
        default_factory=lambda: {"ravdess": 0.405, "nemo": 0.495, READERS: 0.1}
    )
    """Share of each corpus; within a corpus every class comes equally often."""
    alone: float = 0.25
    """Share of clips with nothing heard before them."""
    most_heard_s: float = 60.0
    crop_s: tuple[float, float] = (1.5, 4.5)
    masked_bins: int = 12
    """Widest band of mel bins hidden from a clip."""
    masked_frames: int = 40
    """Longest stretch hidden from a clip, in frames."""
    running: bool = True
    """False: the same fixed statistics for everybody, to measure what running ones are worth."""


class SpeechBatches:
    """Draws batches from rendered sessions, by seed.

    C columns: one for each of `labels`, and where bursts are among the clips eight more, for the
    label of a burst.
    """

    def __init__(
        self,
        sessions: Sessions,
        labels: tuple[str, ...],
        plan: BatchPlan,
        seed: int,
        learn: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """`learn` [N] says which clips may be drawn; all unless given."""
        self._sessions = sessions
        self._plan = plan
        self._rng = np.random.default_rng(seed)
        self._columns = columns(sessions.clips, labels)
        self._column = np.array([column(clip, labels) for clip in sessions.clips])
        drawn = np.ones(len(sessions.clips), np.bool_) if learn is None else learn
        self._chance = chances(sessions, self._column, plan.shares, drawn)
        self._members = {
            int(number): np.flatnonzero(sessions.session == number)
            for number in np.unique(sessions.session)
        }

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, T, F], mask [B, T], targets [B, C]."""
        rng, plan = self._rng, self._plan
        chosen = rng.choice(len(self._chance), size=plan.size, p=self._chance)
        crop = int(rng.uniform(*plan.crop_s) * FRAMES_PER_SECOND)
        clips = [self._features(int(i), crop) for i in chosen]
        targets = np.eye(self._columns, dtype=np.float32)[self._column[chosen]]
        features, mask = pad(clips)
        return torch.from_numpy(features), torch.from_numpy(mask), torch.from_numpy(targets)

    def _features(self, i: int, crop: int) -> FloatArray:
        rng, plan = self._rng, self._plan
        seconds = 0.0 if rng.random() < plan.alone else rng.uniform(0.0, plan.most_heard_s)
        others = rng.permutation(self._members[int(self._sessions.session[i])])
        before = before_it(self._sessions, i, others, seconds)
        sums = self._sessions.sums(np.append(before, i))
        seen = self._sessions.seen(i)
        start = int(rng.integers(max(1, len(seen) - crop + 1)))
        seen = seen[start : start + crop]
        heard = heard_from(sums) if plan.running else fixed_statistics()
        return self._hide(normalised(seen, heard))

    def _hide(self, features: FloatArray) -> FloatArray:
        """Hide a band and a stretch of features [T, F] (SpecAugment; Park et al., 2019).

        Of the energies only: the pitch stays.
        """
        rng, plan = self._rng, self._plan
        width = int(rng.integers(plan.masked_bins + 1))
        low = int(rng.integers(N_MELS - width + 1))
        features[:, low : low + width] = 0.0
        length = min(int(rng.integers(plan.masked_frames + 1)), len(features) // 4)
        start = int(rng.integers(len(features) - length + 1))
        features[start : start + length, MEL] = 0.0
        return features


def joined(first: Sessions, second: Sessions) -> Sessions:
    """Two renderings as one."""
    return Sessions(
        clips=first.clips + second.clips,
        session=np.append(first.session, second.session + first.session.max() + 1),
        ends=np.append(first.ends, second.ends + first.ends[-1]),
        frames=np.concatenate([first.frames, second.frames]),
        weights=np.concatenate([first.weights, second.weights]),
        firsts=np.concatenate([first.firsts, second.firsts]),
        seconds=np.concatenate([first.seconds, second.seconds]),
        functionals=np.concatenate([first.functionals, second.functionals]),
    )


def column(clip: Clip, labels: tuple[str, ...]) -> int:
    """Where a clip's label stands among the columns of the targets."""
    if clip.kind == "vocal_burst":
        return len(labels) + LABELS.index(clip.label)
    return labels.index(clip.label)


def columns(clips: Sequence[Clip], labels: tuple[str, ...]) -> int:
    """How many columns clips need: those of speech, and eight for bursts if there are any."""
    bursts = any(clip.kind == "vocal_burst" for clip in clips)
    return len(labels) + len(LABELS) * bursts


def heard_before(
    sessions: Sessions, i: int, others: npt.NDArray[np.int64], seconds: float
) -> Heard:
    """Statistics up to and including clip i, and habits, after `seconds` of speech of `others`."""
    before = before_it(sessions, i, others, seconds)
    habits = Habits.none()
    for other in before:
        habits = habits.after_one(sessions.functionals[other], int(sessions.weights[other, 0]))
    return habits.told(heard_from(sessions.sums(np.append(before, i))))


def before_it(
    sessions: Sessions, i: int, others: npt.NDArray[np.int64], seconds: float
) -> npt.NDArray[np.int64]:
    """As many of `others`, clip i left out, as bring `seconds` of speech."""
    others = others[others != i]
    frames = sessions.weights[others, 1]
    heard_frames = np.cumsum(frames) - frames
    before: npt.NDArray[np.int64] = others[heard_frames < seconds * FRAMES_PER_SECOND]
    return before


def chances(
    sessions: Sessions,
    column: npt.NDArray[np.int64],
    shares: Mapping[str, float],
    learn: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Chance [N] of each clip: of each corpus by its share, of its classes (`column` [N]) alike."""
    corpus = np.array([clip.corpus for clip in sessions.clips])
    chance = np.zeros(len(column))
    for name, share in shares.items():
        inside = (corpus == name) & learn
        classes, counts = np.unique(column[inside], return_counts=True)
        for c, count in zip(classes, counts, strict=True):
            chance[inside & (column == c)] = share / (len(classes) * count)
    normalised: npt.NDArray[np.float64] = chance / chance.sum()
    return normalised
