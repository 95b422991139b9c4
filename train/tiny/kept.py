"""Networks kept by what made them: a run that was killed, or changed elsewhere, trains them once.

What decides a network is the recipe, the data, and the code; the first two are in the name of the
file. Whoever changes the code of a training empties the folder.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from abhinaya.train.errors import TrainingError


def key_of(*made_of: object, clips: Iterable[str]) -> str:
    """Name for what these values and the clips of these ids make, in whatever order they come."""
    told = "\n".join([*map(repr, made_of), *sorted(clips)])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


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
