"""The interface between the trainer and a model: `Learner`, and the examples that it gets.

B examples in a batch, C classes, K outputs: those of each head that the recipe has a loss on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from abhinaya.models.base import FloatArray
from abhinaya.models.checkpoint import Tensors
from abhinaya.models.errors import KeysError, LabelsError, listed
from abhinaya.models.labels import ATTRIBUTES

Inputs = dict[str, Any]
"""A model's inputs for one batch; the trainer moves the tensors in it to the device."""


@dataclass(frozen=True, slots=True)
class Example:
    """One clip, ready to be used in one epoch."""

    name: str
    """File or id of the clip, for messages."""
    samples: FloatArray
    """[n] 16 kHz mono, augmented and cut; empty for a model that needs no audio."""
    transcript: str
    targets: FloatArray
    """[K] target of each output: shares of votes for labels, values from 0 to 1 for attributes. A
    head without a known target has zeros (shares) or NaN."""
    draw: int = 0
    """Random number of this clip and epoch, for choices of the model; 0 in validation."""
    repeats: bool = False
    """Whether every epoch has these samples, so that their features are worth storing."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Names of the K outputs of a model, by head."""

    heads: Mapping[str, tuple[str, ...]]

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels, in order; empty if the model gives none."""
        return self.heads.get("primary", ())

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of each of the K outputs; auxiliary ones begin with their head."""
        plain: tuple[str, ...] = ("primary", "attributes")
        return tuple(
            name if head in plain else f"{head} {name}"
            for head, names in self.heads.items()
            for name in names
        )

    def columns(self, head: str) -> slice:
        """Return the columns of a head among the K outputs."""
        start = 0
        for name, outputs in self.heads.items():
            if name == head:
                return slice(start, start + len(outputs))
            start += len(outputs)
        return slice(start, start)


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that the trainer can train and save as a checkpoint that the registry loads."""

    module: nn.Module
    """All trainable weights. Frozen parts may be outside it: then no checkpoint has them."""
    inputs: Callable[[Sequence[Example]], Inputs]
    """Builds the model's inputs from examples; runs on the CPU, often in a worker process."""
    save: Callable[[Path, Tensors, Mapping[str, Any]], None]
    """Writes a checkpoint to a folder: state of the module, metadata. Raises WriteError."""
    outputs: Outputs
    """The outputs of the module."""
    model: str
    """Name, in the registry, of the voter that loads the checkpoint."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of that voter, without the folder of the checkpoint."""
    arguments: Callable[[Inputs], Iterable[Any]] = dict.values
    """Returns the positional arguments of the module, from inputs on its device. With mixup, inputs
    have a `mix` of `models/published/fusion.py`."""
    shortest: int = 0
    """Fewest samples of a clip that the model can be trained on."""

    def scores(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Return the scores [B, K]; `module` is `self.module`, wrapped where it runs on devices."""
        found: Tensor = module(*self.arguments(inputs))
        return found

    def voter(self, folder: Path | str) -> tuple[str, dict[str, Any]]:
        """Return the model name and options that load the checkpoint in `folder`."""
        return self.model, {**self.options, "checkpoint": str(folder)}


def ordered(
    state: Mapping[str, Tensor], names: Sequence[str], wanted: Sequence[str], layer: str, of: object
) -> Tensors:
    """Return `state` with the outputs of a linear layer, called `names`, in the order of `wanted`.

    Attributes that are not wanted are left out. Raises LabelsError: `names` are other outputs.
    """
    if set(wanted) - set(names) or set(names) - set(wanted) - {*ATTRIBUTES}:
        raise LabelsError(
            of,
            f"its outputs are {', '.join(names)}, the recipe's are {', '.join(wanted)}",
            "start from a checkpoint with the same ones, or set data.classes to its",
        )
    rows = torch.tensor([list(names).index(name) for name in wanted])
    turned = {f"{layer}.weight", f"{layer}.bias"}
    return {k: t[rows] if k in turned else t for k, t in state.items()}


def start_from(module: nn.Module, state: Mapping[str, Tensor], of: object) -> None:
    """Load `state` into `module`; weights that it lacks keep their values.

    Raises KeysError: the weights belong to another model.
    """
    own = {k: t.shape for k, t in module.state_dict().items()}
    if wrong := [k for k, t in state.items() if own.get(k) != t.shape]:
        raise KeysError(
            of,
            f"weights of another model or size: {listed(wrong, 4)}",
            "use the recipe that it was trained with",
        )
    module.load_state_dict(state, strict=False)
