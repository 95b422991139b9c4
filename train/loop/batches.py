"""Batches read ahead in other processes, in an order that is decided beforehand."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from abhinaya.train.data.clips import DataError
from abhinaya.train.learners.base import Example, Inputs, Learner


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips that are run together."""

    names: tuple[str, ...]
    inputs: Inputs
    shares: Tensor
    """[B, C] of the votes."""
    attributes: Tensor
    """[B, 3], NaN where unknown."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """An error of a reading process: as a value it arrives without a traceback around it."""

    text: str


class _Batches(Dataset[Batch | _Fault]):
    def __init__(
        self,
        rows: Sequence[tuple[int, ...]],
        example: Callable[[int], Example],
        learner: Learner,
    ) -> None:
        self._rows, self._example, self._learner = rows, example, learner

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, k: int) -> Batch | _Fault:
        try:
            examples = [self._example(i) for i in self._rows[k]]
        except DataError as error:
            return _Fault(str(error))
        return Batch(
            names=tuple(e.name for e in examples),
            inputs=self._learner.inputs(examples),
            shares=torch.from_numpy(np.stack([e.shares for e in examples])),
            attributes=torch.from_numpy(np.stack([e.attributes for e in examples])),
        )


def read_batches(
    rows: Sequence[tuple[int, ...]],
    example: Callable[[int], Example],
    learner: Learner,
    workers: int,
) -> Iterator[Batch]:
    """Make a batch of each of `rows`, in order, `workers` processes ahead.

    Raises DataError: audio cannot be read; it names the file.
    """
    # Forked, readers share corpus and tokenizer without a copy; without fork, nobody reads ahead.
    count = min(workers, len(rows)) if "fork" in get_all_start_methods() else 0
    loader: Any = DataLoader(
        _Batches(rows, example, learner),
        batch_size=None,
        num_workers=count,
        worker_init_fn=_quiet,
        multiprocessing_context="fork" if count else None,
    )
    for batch in loader:
        if isinstance(batch, _Fault):
            raise DataError(
                f"{batch.text}; mend or remove the file (abhinaya data check finds all such), and "
                "continue with --resume --despite-changes"
            )
        yield batch


def _quiet(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM, which reach the whole group, to the process that trains."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
