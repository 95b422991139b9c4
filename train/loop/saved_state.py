"""What the next step needs of model and optimiser, in a folder.

    learning.safetensors   the weights that learn, by name
    optimiser.safetensors  what AdamW remembers of each: step/NAME, exp_avg/NAME, exp_avg_sq/NAME

Whole tensors by name, however many devices shared them, so that a run can go on on another number
of them. Weights that never change are not in it, and neither is the state of any generator: what is
random in a step is seeded by where the run is.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from abhinaya.models.checkpoint import Tensors, read, save
from abhinaya.models.errors import KeysError, listed
from abhinaya.train.loop.sharded import spread_like, whole

LEARNING: Final = "learning.safetensors"
OPTIMISER: Final = "optimiser.safetensors"
COUNTED: Final = "step"
Named = Iterable[tuple[str, Tensor]]
"""Parameters that learn, by name."""


def put(folder: Path, learning: Named, optimiser: Any, main: bool) -> None:
    """Write; all processes take part, and `main` alone writes.

    Raises WriteError: there is no room, or no such folder.
    """
    weights: Tensors = {}
    memory: Tensors = {}
    for name, parameter in learning:
        of_it = optimiser.state.get(parameter, {})
        gathered = {name: whole(parameter.detach())}
        remembered = {f"{key}/{name}": whole(value) for key, value in of_it.items()}
        if main:  # the others need not keep what they helped to put together
            weights |= {k: t.cpu() for k, t in gathered.items()}
            memory |= {k: t.cpu() for k, t in remembered.items()}
    if main:
        save(folder / LEARNING, weights)
        save(folder / OPTIMISER, memory)


def get(folder: Path, learning: Named, optimiser: Any) -> None:
    """Fill parameters and optimiser with what `put` wrote.

    Raises ModelError: a file is missing, damaged, or of other weights.
    """
    weights, memory = read(folder / LEARNING).tensors, read(folder / OPTIMISER).tensors
    found = dict(learning)
    if wrong := [
        *sorted(weights.keys() ^ found.keys()),
        *(k for k, p in found.items() if k in weights and weights[k].shape != p.shape),
    ]:
        raise KeysError(
            folder, f"it is of other weights: {listed(wrong, 4)}", "Resume the run that wrote it"
        )
    of_each: dict[str, Tensors] = {}
    for said, tensor in memory.items():
        key, _, name = said.partition("/")
        of_each.setdefault(name, {})[key] = tensor
    for name, parameter in found.items():
        with torch.no_grad():
            parameter.copy_(spread_like(weights[name], parameter))
        optimiser.state[parameter] = {
            # AdamW counts steps on the CPU, wherever the weights are
            key: tensor if key == COUNTED else spread_like(tensor, parameter)
            for key, tensor in of_each.get(name, {}).items()
        }
