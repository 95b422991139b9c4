"""The training loop of the embedded voters, and a cache of trained networks.

The name of a cached file has a hash of recipe and data, so that each network is trained once. After
a change to the training code, empty the folder.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from abhinaya.train.command import Say
from abhinaya.train.errors import TrainingError

Batch = tuple[Tensor, ...]
"""Inputs of the network, then the targets [B, C]."""


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
    report_every: int = 200


def fit(
    tower: nn.Module,
    draw: Callable[[], Batch],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    say: Say = print,
) -> nn.Module:
    """Train `tower` in one learning-rate cycle and return a copy with the averaged weights.

    Raises TrainingError: the loss is NaN or infinite.
    """
    torch.set_num_threads(schedule.threads)
    averaged = copy.deepcopy(tower).eval()
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
        _average(averaged, tower, min(schedule.average, step / (step + 10)))
        running += loss.item()
        if step % schedule.report_every == 0:
            mean, took = running / schedule.report_every, time.monotonic() - started
            say(f"step {step}/{schedule.steps}  loss {mean:.4f}  {took:.0f} s")
            running = 0.0
    return averaged


@torch.no_grad()
def _average(averaged: nn.Module, tower: nn.Module, keep: float) -> None:
    new = tower.state_dict()
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(new[name], 1.0 - keep)
        else:
            value.copy_(new[name])


def key_of(*made_of: object, clips: Iterable[str]) -> str:
    """Return a hash of these values and of the clip ids; the order of the ids has no effect."""
    content = "\n".join([*map(repr, made_of), *sorted(clips)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def kept(path: Path, network: nn.Module, train: Callable[[], nn.Module], say: Say) -> nn.Module:
    """Return `network` with the weights at `path`; without such a file, call `train` and save them.

    `train` must return a network of the same shape.

    Raises TrainingError: the file cannot be read, or has weights of another shape.
    """
    if path.is_file():
        say(f"kept from an earlier run: {path}")
        try:
            network.load_state_dict(torch.load(path, weights_only=True))
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, AttributeError) as error:
            raise TrainingError(
                f"{path}: does not hold this network ({type(error).__name__}); delete it to train "
                "the network again"
            ) from error
        return network
    trained = train()
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    torch.save(trained.state_dict(), half)
    half.replace(path)  # an interrupted run leaves no broken file
    return trained
