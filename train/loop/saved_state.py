"""Saves and loads model and optimiser of a run, in a folder.

    learning.safetensors   the trainable weights, by name
    optimiser.safetensors  AdamW's state of each: step/NAME, exp_avg/NAME, exp_avg_sq/NAME

Tensors are whole, so a run can continue on another number of devices (torch.distributed.checkpoint
gathers and divides them). Frozen weights are not saved, nor are random generators: each step seeds
them from its position. All processes must call these functions together.
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
    """Write both files, in the main process. Raises WriteError if a file cannot be written."""
    weights = learnt(module)
    found: Any = get_optimizer_state_dict(module, optimiser, options=_SAVE)
    if main:
        moments = {
            f"{key}/{name}": t for name, of in found["state"].items() for key, t in of.items()
        }
        save(folder / LEARNING, weights)
        save(folder / OPTIMISER, moments)


def get(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Load into module and optimiser the files that `put` wrote.

    Raises ModelError: a file is missing, damaged, or of other weights.
    """
    moments = read(folder / OPTIMISER).tensors
    weights: dict[str, Any] = dict(read(folder / LEARNING).tensors)
    own = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}
    found = {name: t.shape for name, t in weights.items()}
    if wrong := [k for k in sorted(own.keys() | found) if own.get(k) != found.get(k)]:
        raise KeysError(
            folder, f"its weights differ: {listed(wrong, 4)}", "resume the run that wrote it"
        )
    state: dict[str, Any] = {}
    for path, tensor in moments.items():
        key, _, name = path.partition("/")
        state.setdefault(name, {})[key] = tensor
    set_model_state_dict(module, weights, options=_LOAD)
    values: Any = get_optimizer_state_dict(module, optimiser, options=_LOAD)
    set_optimizer_state_dict(module, optimiser, {**values, "state": state}, options=_LOAD)


def learnt(module: nn.Module) -> Tensors:
    """Return the whole trainable weights, on the CPU; empty in processes other than the main one.

    After a forward pass, FSDP keeps the outermost weights gathered. They are divided again first,
    as the optimiser expects.
    """
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    names = {name for name, p in module.named_parameters() if p.requires_grad}
    found: dict[str, Any] = get_model_state_dict(module, options=_SAVE)
    return {name: tensor for name, tensor in found.items() if name in names}
