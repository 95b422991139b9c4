"""Makes examples of clips: read, augmented and cut audio, with the target from their votes.

Every random choice depends only on (seed, epoch, clip). N clips, C classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import SAMPLE_RATE, FloatArray, Need
from abhinaya.models.labels import LABELS
from abhinaya.train.data.audio import judged_part, read_clip
from abhinaya.train.data.channels import Surroundings, draw_channel, send_through
from abhinaya.train.data.clips import Clip
from abhinaya.train.errors import DataError
from abhinaya.train.learners.base import Example, Outputs
from abhinaya.train.metrics import Indices
from abhinaya.train.recipes.recipe import Recipe
from abhinaya.train.recipes.tables import AugmentRecipe, TargetRecipe

Doubles = npt.NDArray[np.float64]
GENDERS: Final = ("f", "m")
_MODEL_DRAW: Final = 1
_VOTE_DRAW: Final = 2
"""Added to (seed, epoch, clip), so that these draws differ from each other and from `augment`."""


class Teaching:
    """Targets of N clips, made from their votes; the classes are some or all of LABELS."""

    def __init__(self, clips: Sequence[Clip], classes: Sequence[str], seed: int) -> None:
        self._clips, self._classes, self._seed = clips, tuple(classes), seed
        counts = np.array([self._counts(c.votes) for c in clips]).reshape(len(clips), len(classes))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
        mean = shares.mean(axis=0) if len(clips) else np.ones(len(classes))
        self._rare = np.divide(1.0, mean, out=np.zeros_like(mean), where=mean > 0)

    @property
    def labels(self) -> Indices:
        """[N] class index of each clip's consensus; -1 without one."""
        known = [c.consensus if c.consensus in self._classes else None for c in self._clips]
        return np.array([self._classes.index(x) if x else -1 for x in known], np.int64)

    def shares(self, i: int, target: TargetRecipe, epoch: int) -> FloatArray:
        """Return the target of clip `i` [C]; zeros if it has only attributes."""
        clip = self._clips[i]
        if target.kind == "distribution":
            shares = self._distribution(i, target, epoch)
        else:
            shares = self._counts({clip.consensus: 1.0} if clip.consensus else {})
        return shares.astype(np.float32)

    def _distribution(self, i: int, target: TargetRecipe, epoch: int) -> Doubles:
        counts = self._counts(votes := self._clips[i].votes)
        if target.drop_votes:
            rng = np.random.default_rng((self._seed, epoch, i, _VOTE_DRAW))
            thinned = self._counts(drop_votes(votes, target.drop_votes, rng))
            counts = thinned if thinned.any() else counts  # the one vote left may be `other`
        if target.reweight:
            counts = counts * self._rare
        shares: Doubles = counts / max(counts.sum(), 1e-9)
        return shares

    def _counts(self, votes: Mapping[str, float]) -> Doubles:
        return np.array([votes.get(name, 0.0) for name in self._classes], np.float64)


def drop_votes(
    votes: Mapping[str, float], share: float, rng: np.random.Generator
) -> dict[str, float]:
    """Drop each vote for the leading label with probability `share`; one vote always stays.

    SAIL's regularisation: with one annotator fewer the target would be as valid. All labels that
    tie for the lead lose votes; a fraction of a vote is never dropped.
    """
    most = max(votes.values(), default=0.0)
    kept = {
        label: count - rng.binomial(int(count), share) if count == most else count
        for label, count in votes.items()
    }
    if most > 0 and sum(kept.values()) <= 0:
        kept[next(label for label, count in votes.items() if count == most)] = 1.0
    return {label: float(count) for label, count in kept.items() if count > 0}


def class_counts(labels: Indices, classes: Sequence[str] = LABELS) -> tuple[int, ...]:
    """Return the number of clips of each class. Raises DataError if a class has none."""
    counts = tuple(int(np.sum(labels == c)) for c in range(len(classes)))
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise DataError(
            f"classes without a clip to train on: {', '.join(empty)}; add a corpus that has them, "
            "or leave them out of the labels"
        )
    return counts


def secondary_names(clips: Sequence[Clip], most: int = 17) -> tuple[str, ...]:
    """Return the most frequent names of secondary votes, sorted; MSP-Podcast has 17."""
    votes: Counter[str] = Counter()
    for clip in clips:
        votes.update(clip.secondary)
    return tuple(sorted(name for name, _ in votes.most_common(most)))


class Examples:
    """Makes the examples of the training clips or of the validation clips."""

    def __init__(
        self,
        root: Path,
        clips: Sequence[Clip],
        recipe: Recipe,
        needs: frozenset[Need],
        outputs: Outputs,
    ) -> None:
        self.clips, self._outputs = clips, outputs
        self._root, self._recipe, self._needs_audio = root, recipe, "audio" in needs
        self._teaching = Teaching(clips, recipe.data.classes, recipe.seed)
        self._crop_s = None if recipe.data.crop == "first" else recipe.data.max_s
        found = recipe.augment.surroundings
        _, where, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        self._partners = np.cumsum(1.0 / counts[where]) if len(clips) else np.zeros(0)
        self._around = Surroundings.find(Path(found)) if found else Surroundings((), ())

    @property
    def labels(self) -> Indices:
        """[N] class index of each clip's consensus; -1 without one."""
        return self._teaching.labels

    def learnt(self, i: int, target: TargetRecipe, epoch: int) -> Example:
        """Return clip `i` for training in an epoch, counted through all stages.

        Raises DataError: the audio cannot be read.
        """
        seed = self._recipe.seed
        draw = int(np.random.default_rng((seed, epoch, i, _MODEL_DRAW)).integers(1 << 30))
        if not self._needs_audio:
            return self._example(i, self._sound(i, target, epoch), draw)
        sound = augment(
            lambda k: self._sound(k, target, epoch),
            self._partners,
            i,
            self._recipe.augment,
            self._crop_s,
            self._around,
            seed,
            epoch,
            self._recipe.data.crop == "once",
        )
        return self._example(i, sound, draw)

    def judged(self, i: int) -> Example:
        """Return clip `i` for validation: not augmented, only cut."""
        return self._example(i, self._sound(i, TargetRecipe(), 0), 0)

    def _sound(self, i: int, target: TargetRecipe, epoch: int) -> Sound:
        """Return clip `i` before augmentation; without samples for a text model."""
        empty = np.zeros(0, np.float32)
        samples = read_clip(self._root, self.clips[i]) if self._needs_audio else empty
        return Sound(samples, self._targets(i, target, epoch), self.clips[i].transcript)

    def _targets(self, i: int, target: TargetRecipe, epoch: int) -> FloatArray:
        """Return the target of each of the K outputs."""
        clip, found = self.clips[i], [np.zeros(0, np.float32)]
        for head, names in self._outputs.heads.items():
            row = np.full(len(names), np.nan, np.float32)
            match head:
                case "primary":
                    row = self._teaching.shares(i, target, epoch)
                case "attributes":
                    row[:] = [clip.attributes.get(name, math.nan) for name in names]
                case "secondary" if total := sum(clip.secondary.get(name, 0.0) for name in names):
                    row[:] = [clip.secondary.get(name, 0.0) / total for name in names]
                case "gender" if clip.gender in names:
                    row[:] = [float(clip.gender == name) for name in names]
            found.append(row)
        return np.concatenate(found)

    def _example(self, i: int, sound: Sound, draw: int) -> Example:
        clip = self.clips[i]
        return Example(
            name=clip.path or clip.id,
            samples=judged_part(sound.samples, self._recipe.data.max_s),
            transcript=sound.words,
            targets=sound.targets,
            draw=draw,
            repeats=sound.repeats,
        )


# --- augmentation -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sound:
    """The samples of a clip, its target and its words."""

    samples: FloatArray
    """[n] 16 kHz mono in [-1, 1]."""
    targets: FloatArray
    """[K] target of each output."""
    words: str = ""
    repeats: bool = True
    """Whether every epoch has these samples."""


def augment(
    sound_of: Callable[[int], Sound],
    partners: Doubles,
    i: int,
    recipe: AugmentRecipe,
    crop_s: float | None,
    around: Surroundings,
    seed: int,
    epoch: int = 0,
    once: bool = False,
) -> Sound:
    """Augment sound `i`, perhaps joined with another, as (seed, epoch, i) draws it.

    `partners` [N] are the cumulative weights of the others. As in SAIL's mixing (arXiv 2505.22133)
    the order of the two is random, and a gap as likely as an overlap.
    Clips longer than `crop_s` seconds are cut to it at a random place; in the paper 10 s. With
    `once` the place is the same in all epochs.
    """
    rng = np.random.default_rng((seed, epoch, i))
    sound, repeats = sound_of(i), True
    if rng.random() < recipe.pair:
        other = sound_of(int(np.searchsorted(partners, rng.random() * partners[-1], "right")))
        gap_s = float(rng.uniform(-1.0, 1.0)) * recipe.pair_s
        pair = (sound, other) if rng.random() < 0.5 else (other, sound)
        sound, repeats = mix_pair(*pair, gap_s), False
    samples = sound.samples
    if crop_s is not None:
        samples = crop(samples, crop_s, np.random.default_rng((seed, i)) if once else rng)
        repeats = repeats and (once or len(samples) == len(sound.samples))
    if rng.random() < recipe.channel:
        samples, repeats = send_through(samples, draw_channel(rng, around), rng), False
    return replace(sound, samples=samples, repeats=repeats)


def crop(samples: FloatArray, seconds: float, rng: np.random.Generator) -> FloatArray:
    """Return at most `seconds` of samples [n], from a random place."""
    longest = round(seconds * SAMPLE_RATE)
    if len(samples) <= longest:
        return samples
    start = int(rng.integers(len(samples) - longest + 1))
    return samples[start : start + longest]


def mix_pair(first: Sound, second: Sound, gap_s: float) -> Sound:
    """Join two clips with a gap of `gap_s` seconds between them; below 0 they overlap.

    The targets are the mean of both, as in SAIL's mixing. An overlap is at most as long as the
    shorter clip. The sum is scaled down only if it would clip.
    """
    gap = max(round(gap_s * SAMPLE_RATE), -min(len(first.samples), len(second.samples)))
    start = len(first.samples) + gap
    mixed = np.zeros(max(len(first.samples), start + len(second.samples)), np.float32)
    mixed[: len(first.samples)] += first.samples
    mixed[start : start + len(second.samples)] += second.samples
    peak = float(np.abs(mixed).max(initial=0.0))
    targets: FloatArray = ((first.targets + second.targets) / 2.0).astype(np.float32)
    return Sound(mixed / max(1.0, peak), targets, f"{first.words} {second.words}".strip())
