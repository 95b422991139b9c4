"""The interface between the trainer and a model: `Learner`, and the examples that it gets.

B examples in a batch, C classes, K outputs: the classes, then the 3 attributes, each only if the
recipe has a loss on them.
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
from abhinaya.train.data.clips import ATTRIBUTES

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
    shares: FloatArray
    """[C] target: share of the votes for each class; zeros if only attributes are known."""
    attributes: FloatArray
    """[3] arousal, valence, dominance from 0 to 1; NaN if the corpus has none."""
    draw: int = 0
    """Random number of this clip and epoch, for choices of the model; 0 in validation."""
    repeats: bool = False
    """Whether every epoch has these samples, so that their features are worth storing."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Names of the K outputs of a model."""

    classes: tuple[str, ...]
    """Labels, in order; empty if the model gives only attributes."""
    attributes: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of each of the K outputs."""
        return (*self.classes, *(ATTRIBUTES if self.attributes else ()))

    @property
    def kept(self) -> tuple[str, ...]:
        """Outputs stored in a checkpoint: the labels if there are any, else the attributes."""
        return self.classes or ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that the trainer can train and save as a checkpoint that the registry loads."""

    module: nn.Module
    """All trainable weights. Frozen parts may be outside it: then no checkpoint has them."""
    inputs: Callable[[Sequence[Example]], Inputs]
    """Builds the model's inputs from examples; runs on the CPU, often in a worker process."""
    save: Callable[[Path, Tensors, Mapping[str, Any]], None]
    """Writes a checkpoint to a folder: state of the module, metadata. Raises WriteError."""
    model: str
    """Name, in the registry, of the voter that loads the checkpoint."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of that voter, without the folder of the checkpoint."""
    checkpoint: str = "checkpoint"
    """Name of the option for that folder."""
    arguments: Callable[[Inputs], Iterable[Any]] = dict.values
    """Returns the positional arguments of the module, from inputs on its device."""
    frozen: tuple[nn.Module, ...] = ()
    """Parts that stay in evaluation mode during training."""
    shortest: int = 0
    """Fewest samples of a clip that the model can be trained on."""

    def scores(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Return the scores [B, K]; `module` is `self.module`, wrapped where it runs on devices."""
        found: Tensor = module(*self.arguments(inputs))
        return found

    def learn(self) -> None:
        """Switch to training mode, except for the frozen parts."""
        self.module.train()
        for part in self.frozen:
            part.eval()

    def voter(self, folder: Path | str) -> tuple[str, dict[str, Any]]:
        """Return the model name and options that load the checkpoint in `folder`."""
        return self.model, {**self.options, self.checkpoint: str(folder)}


def only(state: Tensors, rows: int, prefix: str) -> Tensors:
    """Return `state` with only the first `rows` outputs of the layer `prefix`."""
    cut = {f"{prefix}.weight", f"{prefix}.bias"}
    return {k: t[:rows] if k in cut else t for k, t in state.items()}


def start_from(
    module: nn.Module,
    state: Mapping[str, Tensor],
    names: Sequence[str],
    outputs: Outputs,
    prefix: str,
    subject: str,
) -> None:
    """Load `state` into `module`, with its outputs `names` put into the order of `outputs`.

    Weights that `state` lacks keep their values. `prefix` is the name of the output layer.

    Raises LabelsError: the outputs are not those of the recipe; KeysError: the weights belong to
    another model.
    """
    if sorted(names) != sorted(outputs.names):
        raise LabelsError(
            subject,
            f"its outputs are {', '.join(names)}, the recipe's are {', '.join(outputs.names)}",
            "start from a checkpoint with the same ones, or set data.classes to its",
        )
    rows = torch.tensor([list(names).index(name) for name in outputs.names])
    turned = {f"{prefix}.weight", f"{prefix}.bias"}
    ordered = {k: t[rows] if k in turned else t for k, t in state.items()}
    own = {k: t.shape for k, t in module.state_dict().items()}
    if wrong := [k for k, t in ordered.items() if own.get(k) != t.shape]:
        raise KeysError(
            subject,
            f"weights of another model or size: {listed(wrong, 4)}",
            "use the recipe that it was trained with",
        )
    module.load_state_dict(ordered, strict=False)
