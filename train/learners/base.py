"""What the trainer asks of a model, and what it shows it.

B examples of a batch, C classes, K outputs: the classes, then the attributes, as far as the recipe
has losses on them.
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
"""What a model reads of a batch; tensors in it are moved to the device."""


@dataclass(frozen=True, slots=True)
class Example:
    """A clip as a model sees it once."""

    name: str
    """Of the file or clip, for people."""
    samples: FloatArray
    """[n] 16 kHz mono, augmented and cut; empty for a model that reads alone."""
    transcript: str
    shares: FloatArray
    """[C] of the votes; zeros where only attributes are known."""
    attributes: FloatArray
    """[3] arousal, valence, dominance in 0 to 1; NaN where the corpus gives none."""
    draw: int = 0
    """A number drawn for this clip and epoch, for choices that the model makes; 0 in validation."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the K outputs of a model stand for."""

    classes: tuple[str, ...]
    """Labels, in order; none for a model of attributes alone."""
    attributes: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Name each of the K outputs."""
        return (*self.classes, *(ATTRIBUTES if self.attributes else ()))

    @property
    def kept(self) -> tuple[str, ...]:
        """Outputs that a checkpoint keeps: labels; attributes beside them only helped to learn."""
        return self.classes or ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that can be trained, and written as a checkpoint that the registry loads."""

    module: nn.Module
    """Everything that has gradients; what has none may stand outside, and then is kept once."""
    inputs: Callable[[Sequence[Example]], Inputs]
    """Makes what the model reads; on the CPU, maybe in another process."""
    save: Callable[[Path, Tensors, Mapping[str, Any]], None]
    """Writes a checkpoint to a folder: the module's state, and what goes into its metadata. Raises
    WriteError if there is no room."""
    model: str
    """Name of the voter that loads it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its options, but for the folder of the checkpoint."""
    checkpoint: str = "checkpoint"
    """The option that names that folder."""
    arguments: Callable[[Inputs], Iterable[Any]] = dict.values
    """What the module is called with, of inputs on its device."""
    frozen: tuple[nn.Module, ...] = ()
    """Parts that stay in evaluation mode while the rest learns."""
    shortest: int = 0
    """Samples below which a clip cannot be learnt from."""

    def scores(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Run `module` (its own, maybe wrapped for several devices): [B, K]."""
        found: Tensor = module(*self.arguments(inputs))
        return found

    def learn(self) -> None:
        """Switch to training: dropout on where it learns, what is frozen stays as in use."""
        self.module.train()
        for part in self.frozen:
            part.eval()

    def voter(self, folder: Path | str) -> tuple[str, dict[str, Any]]:
        """Return name and options by which the registry loads what `save` wrote to `folder`."""
        return self.model, {**self.options, self.checkpoint: str(folder)}


def only(state: Tensors, rows: int, prefix: str) -> Tensors:
    """`state` with the first `rows` outputs of the layer `prefix`; the others only helped."""
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
    """Fill `module` with `state`, whose outputs are `names`: brought into order by name.

    Keys that `state` lacks keep their values. `prefix` is the layer that gives the outputs.

    Raises:
        LabelsError: the outputs are others than those of the recipe.
        KeysError: the weights are of another model.

    """
    if sorted(names) != sorted(outputs.names):
        raise LabelsError(
            subject,
            f"its outputs are {', '.join(names)}, the recipe's are {', '.join(outputs.names)}",
            "Start from a checkpoint with the same ones, or set data.classes to its",
        )
    rows = torch.tensor([list(names).index(name) for name in outputs.names])
    turned = {f"{prefix}.weight", f"{prefix}.bias"}
    ordered = {k: t[rows] if k in turned else t for k, t in state.items()}
    own = {k: t.shape for k, t in module.state_dict().items()}
    if wrong := [k for k, t in ordered.items() if own.get(k) != t.shape]:
        raise KeysError(
            subject,
            f"weights of another model or size: {listed(wrong, 4)}",
            "Use the recipe that it was trained with",
        )
    module.load_state_dict(ordered, strict=False)
