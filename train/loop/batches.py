"""The batches of an epoch, in order, and worker processes that read them ahead.

The order depends only on the seed, so a resumed run has the same one. A step has `accumulate`
batches of `batch` clips; of W processes, process r runs batches r, r + W, ... of each step.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from abhinaya.models.interrupts import SIGNALS
from abhinaya.train.errors import DataError
from abhinaya.train.learners.base import Example, Inputs, Learner
from abhinaya.train.metrics import Indices, Numbers
from abhinaya.train.recipes.tables import TrainRecipe

POOL: Final = 64
"""Batches whose clips are sorted by length together, for little padding in a shuffled order."""

Rows = tuple[int, ...]
"""[batch] row numbers of the clips."""
Step = tuple[Rows, ...]
"""[accumulate] batches."""


def epoch_steps(
    labels: Indices, lengths: Numbers, stage: TrainRecipe, seed: Sequence[int], neutral: int = 0
) -> list[Step]:
    """Divide an epoch into steps; clips that do not fill a whole step are left out.

    `labels` and `lengths` [N] describe the training clips; `seed` belongs to this epoch; `neutral`
    is the class of neutral clips. Raises DataError if there are too few clips for one step.
    """
    rng = np.random.default_rng(list(seed))
    rows = _rows(labels, stage, neutral, rng)
    batches: list[Rows] = []
    for start in range(0, len(rows), POOL * stage.batch):
        pool = rows[start : start + POOL * stage.batch]
        ordered = pool[np.argsort(lengths[pool], kind="stable")]
        whole = len(ordered) // stage.batch * stage.batch
        cut = rng.permutation(len(ordered))[:whole]  # the remainder left out is random
        batches += map(tuple, ordered[np.sort(cut)].reshape(-1, stage.batch).tolist())
    order = rng.permutation(len(batches))
    count = len(batches) // stage.accumulate
    if not count:
        raise DataError(
            f"{len(rows)} training clips fill no step of {stage.accumulate} batches of "
            f"{stage.batch}; lower train.accumulate or train.batch"
        )
    each = order[: count * stage.accumulate].reshape(count, stage.accumulate)
    return [tuple(batches[int(b)] for b in step) for step in each]


def _rows(labels: Indices, stage: TrainRecipe, neutral: int, rng: np.random.Generator) -> Indices:
    if stage.sampler == "shuffle":
        return rng.permutation(len(labels))
    if stage.sampler == "undersample":
        chosen = undersample(labels, stage.cap, rng)
    elif stage.sampler == "balanced":
        chosen = balanced_draw(labels, len(labels), rng)
    else:
        groups = np.where(labels >= 0, labels == neutral, -1)
        chosen = balanced_draw(groups, len(labels), rng)
    others = rng.permutation(np.flatnonzero(labels < 0))[: round(stage.others * len(chosen))]
    return rng.permutation(np.concatenate([chosen, others]))


def undersample(labels: Indices, cap: int, rng: np.random.Generator) -> Indices:
    """Return rows [<= N]: at most `cap` of each class, drawn at random; 0: as in the rarest class.

    Rows without a label (-1) are left out.
    """
    of = [np.flatnonzero(labels == c) for c in np.unique(labels[labels >= 0])]
    most = cap or min((len(rows) for rows in of), default=0)
    return np.concatenate([rng.permutation(rows)[:most] for rows in of] or [labels[:0]])


def balanced_draw(labels: Indices, size: int, rng: np.random.Generator) -> Indices:
    """Draw rows [size] with replacement; all classes that occur are equally likely."""
    known = np.flatnonzero(labels >= 0)
    if not len(known):
        raise DataError("balanced sampling: no clip has a label; is this a hidden test set?")
    _, where, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
    chance = 1.0 / counts[where]
    return rng.choice(known, size, p=chance / chance.sum())


def validation_batches(lengths: Numbers, batch: int) -> list[Rows]:
    """Return batches of all rows, sorted by length; the last batch may be short."""
    order = np.argsort(lengths, kind="stable").tolist()
    return [tuple(order[k : k + batch]) for k in range(0, len(order), batch)]


def rate_factor(stage: TrainRecipe, step: int, steps: int) -> float:
    """Return the share of the highest learning rate in step 0 <= `step` < `steps` of a stage."""
    warm = round(stage.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    if stage.schedule == "linear":
        return 1.0 - done
    if stage.schedule == "cosine":
        return 0.5 * (1.0 + float(np.cos(np.pi * done)))
    return 1.0


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of clips."""

    names: tuple[str, ...]
    inputs: Inputs
    targets: Tensor
    """[B, K] target of each output."""


class _Batches(Dataset[Batch | str]):
    def __init__(
        self, rows: Sequence[Rows], example: Callable[[int], Example], learner: Learner
    ) -> None:
        self._rows, self._example, self._learner = rows, example, learner

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, k: int) -> Batch | str:
        """Return a batch or an error message: an exception would bring a worker's traceback."""
        try:
            examples = [self._example(i) for i in self._rows[k]]
        except DataError as error:
            return str(error)
        return Batch(
            names=tuple(e.name for e in examples),
            inputs=self._learner.inputs(examples),
            targets=torch.from_numpy(np.stack([e.targets for e in examples])),
        )


def read_batches(
    rows: Sequence[Rows], example: Callable[[int], Example], learner: Learner, workers: int
) -> Iterator[Batch]:
    """Yield the batch of each of `rows`, in order, read ahead by `workers` processes.

    Raises DataError: audio cannot be read; the message names the file.
    """
    # Forked workers share corpus and tokenizer without a copy; without fork there are no workers.
    count = min(workers, len(rows)) if "fork" in get_all_start_methods() else 0
    loader: Any = DataLoader(
        _Batches(rows, example, learner),
        batch_size=None,
        num_workers=count,
        worker_init_fn=_quiet,
        multiprocessing_context="fork" if count else None,
    )
    for batch in loader:
        if isinstance(batch, str):
            raise DataError(
                f"{batch}; repair or remove the file (`abhinaya data check` lists all such files), "
                "and continue with --resume --despite-changes"
            )
        yield batch


def _quiet(worker: int) -> None:
    """Ignore Ctrl-C and its like, which also reach the trainer: it stops the workers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
