"""In which batches an epoch is seen: drawn by seed, so that a resumed run sees the same.

A step is `accumulate` batches of `batch` clips, whatever the number of processes: process r of W
runs the batches r, r + W, ... of each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from abhinaya.train.data.clips import DataError
from abhinaya.train.data.targets import balanced_draw, undersample
from abhinaya.train.metrics import Indices, Numbers
from abhinaya.train.recipes.recipe import TrainRecipe

POOL: Final = 64
"""Batches whose clips are sorted by length together: little padding, and still a shuffled order."""

Step = tuple[tuple[int, ...], ...]
"""[accumulate][batch] rows of the training clips."""


def epoch_steps(
    labels: Indices, lengths: Numbers, stage: TrainRecipe, seed: Sequence[int]
) -> list[Step]:
    """Divide an epoch into steps; what fills no whole step is left to another epoch's order.

    `labels` and `lengths` [N] are of the training clips, `seed` is of this epoch.

    Raises DataError: there are too few clips for one step.
    """
    rng = np.random.default_rng(list(seed))
    rows = _rows(labels, stage, rng)
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(rows), POOL * stage.batch):
        pool = rows[start : start + POOL * stage.batch]
        ordered = pool[np.argsort(lengths[pool], kind="stable")]
        whole = len(ordered) // stage.batch * stage.batch
        cut = rng.permutation(len(ordered))[:whole]  # who sits out is drawn, not the longest
        chosen = ordered[np.sort(cut)].reshape(-1, stage.batch)
        batches += [tuple(int(i) for i in batch) for batch in chosen]
    order = rng.permutation(len(batches))
    count = len(batches) // stage.accumulate
    if not count:
        raise DataError(
            f"{len(rows)} training clips fill no step of {stage.accumulate} batches of "
            f"{stage.batch}; lower train.accumulate or train.batch"
        )
    each = order[: count * stage.accumulate].reshape(count, stage.accumulate)
    return [tuple(batches[int(b)] for b in step) for step in each]


def _rows(labels: Indices, stage: TrainRecipe, rng: np.random.Generator) -> Indices:
    if stage.sampler == "undersample":
        return undersample(labels, stage.cap, rng)
    if stage.sampler == "balanced":
        return balanced_draw(labels, len(labels), rng)
    return rng.permutation(len(labels))


def validation_batches(lengths: Numbers, batch: int) -> list[tuple[int, ...]]:
    """Every row once, sorted by length, the last batch as short as it comes."""
    order = np.argsort(lengths, kind="stable")
    return [tuple(int(i) for i in order[k : k + batch]) for k in range(0, len(order), batch)]


def rate_at(stage: TrainRecipe, step: int, steps: int) -> float:
    """Learning rate of step 0 <= `step` < `steps` of a stage; no state, so nothing to resume."""
    warm = round(stage.warmup * steps)
    if step < warm:
        return stage.rate * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if stage.schedule == "linear":
        return stage.rate * (1.0 - done)
    if stage.schedule == "cosine":
        return stage.rate * 0.5 * (1.0 + float(np.cos(np.pi * done)))
    return stage.rate
