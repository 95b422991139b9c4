"""One training loop for the embedded voters: fixed steps, one cycle, averaged weights."""

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

from abhinaya.train.errors import TrainingError

Batch = tuple[Tensor, ...]
"""What the tower takes, and the targets [B, C] last."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    steps: int = 3_000
    rate: float = 2e-3
    """Highest learning rate of the cycle."""
    weight_decay: float = 0.02
    average: float = 0.998
    """Decay of the averaged weights, which are what is kept: no checkpoint is picked on dev."""
    threads: int = 1
    """Networks this small gain little from a second one, and lose much on a busy machine."""
    report_every: int = 200


def fit(
    tower: nn.Module,
    draw: Callable[[], Batch],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    schedule: Schedule,
    say: Callable[[str], None] = print,
) -> nn.Module:
    """Train `tower` on batches (inputs, targets) and return its averaged copy.

    Raises:
        TrainingError: the loss is no longer a number.

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
        # bfloat16 takes a third off a step; the weights and the loss stay float32
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
    """Name for what these values and the clips of these ids make, in whatever order they come."""
    content = "\n".join([*map(repr, made_of), *sorted(clips)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def kept(
    path: Path, network: nn.Module, train: Callable[[], nn.Module], say: Callable[[str], None]
) -> nn.Module:
    """Fill `network` with the weights at `path`; if there are none, `train` it and keep it there.

    `train` gives a network of the same shape.

    Raises:
        TrainingError: the file cannot be read, or is of a network of another shape.

    """
    if path.is_file():
        say(f"kept from an earlier run: {path}")
        try:
            network.load_state_dict(torch.load(path, weights_only=True))
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, AttributeError) as error:
            raise TrainingError(
                f"{path}: does not hold this network any more ({type(error).__name__}); delete it, "
                "and it is trained again"
            ) from error
        return network
    trained = train()
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    torch.save(trained.state_dict(), half)
    half.replace(path)  # a run that was killed leaves no broken file
    return trained
