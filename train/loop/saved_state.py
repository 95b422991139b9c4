"""What the next step needs of model and optimiser, in a folder.

    learning.safetensors   the weights that learn, by name
    optimiser.safetensors  what AdamW remembers of each: step/NAME, exp_avg/NAME, exp_avg_sq/NAME

Whole tensors by name, however many devices share them (torch.distributed.checkpoint puts them
together and divides them), so that a run can go on on another number of them. Weights that never
change are not in it, and neither is the state of any generator: what is random in a step is seeded
by where the run is. All processes must call these together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule

from abhinaya.models.checkpoint import Tensors, read, save
from abhinaya.models.errors import KeysError, listed

LEARNING: Final = "learning.safetensors"
OPTIMISER: Final = "optimiser.safetensors"
_SAVE: Final = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_LOAD: Final = StateDictOptions(full_state_dict=True, strict=False)


def put(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, main: bool) -> None:
    """Write, in the main process. Raises WriteError: there is no room, or no such folder."""
    weights = learnt(module)
    found: Any = get_optimizer_state_dict(module, optimiser, options=_SAVE)
    if main:
        memory = {
            f"{key}/{name}": t for name, of in found["state"].items() for key, t in of.items()
        }
        save(folder / LEARNING, weights)
        save(folder / OPTIMISER, memory)


def get(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Fill module and optimiser with what `put` wrote.

    Raises ModelError: a file is missing, damaged, or of other weights.
    """
    memory = read(folder / OPTIMISER).tensors
    weights: dict[str, Any] = dict(read(folder / LEARNING).tensors)
    own = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}
    found = {name: t.shape for name, t in weights.items()}
    if wrong := [k for k in sorted(own.keys() | found) if own.get(k) != found.get(k)]:
        raise KeysError(
            folder, f"it is of other weights: {listed(wrong, 4)}", "Resume the run that wrote it"
        )
    state: dict[str, Any] = {}
    for said, tensor in memory.items():
        key, _, name = said.partition("/")
        state.setdefault(name, {})[key] = tensor
    set_model_state_dict(module, weights, options=_LOAD)
    values: Any = get_optimizer_state_dict(module, optimiser, options=_LOAD)
    set_optimizer_state_dict(module, optimiser, {**values, "state": state}, options=_LOAD)


def learnt(module: nn.Module) -> Tensors:
    """Return the weights that learn, whole, on the CPU; empty but in the main process of several.

    A forward pass leaves the outermost weights of a divided module together: they are divided
    again first, since the optimiser knows them so.
    """
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    names = {name for name, p in module.named_parameters() if p.requires_grad}
    found: dict[str, Any] = get_model_state_dict(module, options=_SAVE)
    return {name: tensor for name, tensor in found.items() if name in names}
