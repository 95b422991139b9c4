"""The training loop of the embedded voters."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from abhinaya.train.command import Say
from abhinaya.train.errors import TrainingError

Batch = tuple[Tensor, ...]
"""Inputs of the network, then the targets [B, C]."""
Network = TypeVar("Network", bound=nn.Module)
REPORT_EVERY: Final = 200
"""Steps."""


@dataclass(frozen=True)
class Schedule:
    """Length and rates of a training."""

    steps: int = 3_000
    rate: float = 2e-3
    """Highest learning rate of the cycle."""
    weight_decay: float = 0.02
    average: float = 0.998
    """Decay of the averaged weights, which are the result. No checkpoint is chosen on dev data."""
    threads: int = 1
    """CPU threads. A second one gains little for such small networks."""


def fit(
    tower: Network,
    draw: Callable[[], Batch],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    say: Say = print,
) -> Network:
    """Train `tower` in one learning-rate cycle and return a copy with the averaged weights.

    Raises TrainingError: the loss is NaN or infinite.
    """
    torch.set_num_threads(schedule.threads)

    def mean(old: Tensor, new: Tensor, step: Tensor | int) -> Tensor:
        return old.lerp(new, 1.0 - min(schedule.average, int(step) / (int(step) + 10)))

    averaged = AveragedModel(tower, avg_fn=mean)
    averaged.n_averaged += 1  # the first step too is averaged with the initial weights
    optimiser = torch.optim.AdamW(
        tower.parameters(), lr=schedule.rate, weight_decay=schedule.weight_decay
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.rate, schedule.steps)
    running, started = 0.0, time.monotonic()
    tower.train()
    for step in range(1, schedule.steps + 1):
        *inputs, targets = draw()
        # bfloat16 saves a third of the time; weights and loss stay float32
        with torch.autocast("cpu", torch.bfloat16):
            logits = tower(*inputs)
        loss = loss_of(logits.float(), targets)
        if not torch.isfinite(loss):
            raise TrainingError(f"loss is {loss.item()} at step {step}; lower the learning rate")
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(tower.parameters(), 5.0)
        optimiser.step()
        cycle.step()
        averaged.update_parameters(tower)
        running += loss.item()
        if step % REPORT_EVERY == 0:
            mean_loss, took = running / REPORT_EVERY, time.monotonic() - started
            say(f"step {step}/{schedule.steps}  loss {mean_loss:.4f}  {took:.0f} s")
            running = 0.0
    return cast("Network", averaged.module.eval())
