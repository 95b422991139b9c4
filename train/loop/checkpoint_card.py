"""What a checkpoint says of itself: its labels, where it is from, how it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abhinaya.models.checkpoint import Tensors, read
from abhinaya.models.errors import KeysError
from abhinaya.models.labels import LABELS
from abhinaya.train.learners.base import Learner
from abhinaya.train.loop.objective import Figures

PROFILE: Final = "voter.toml"
"""File beside the weights: what a profile needs to load them."""
_HERE: Final = "."
"""The folder of the checkpoint, in its own metadata."""


@dataclass(frozen=True, slots=True)
class CheckpointCard:
    """What is stored in every checkpoint of a run."""

    labels: tuple[str, ...]
    """Its outputs, in order."""
    recipe: Mapping[str, Any]
    data: str
    """Hash of the clips."""
    made_by: str
    place: Path
    """Where the checkpoint will be."""

    def save(self, learner: Learner, folder: Path, state: Tensors, figures: Figures) -> None:
        """Write weights, this card in their metadata, and of labels what a profile needs.

        Raises:
            WriteError: the weights cannot be written.
            OSError: the profile's part cannot be.

        """
        model, options = learner.voter(Path(_HERE))
        extra = {
            "labels": list(self.labels),
            "voter": {"model": model, "options": options},
            "recipe": self.recipe,
            "data": self.data,
            "made_by": self.made_by,
            "figures": dict(figures.values),
        }
        learner.save(folder, state, extra)
        if not set(self.labels) <= set(LABELS):
            return  # attributes are no vote: the monitor has no place for them
        _, options = learner.voter(self.place)
        lines = [
            "# Add this to a profile, under a name of your own.",
            "[voters.NAME]",
            f"model = {json.dumps(model)}",
            "",
            "[voters.NAME.options]",
            *(f"{key} = {json.dumps(value)}" for key, value in options.items()),
        ]
        (folder / PROFILE).write_text("\n".join(lines) + "\n", "utf-8")


@dataclass(frozen=True, slots=True)
class Described:
    """What a checkpoint of a run says of how it is loaded."""

    model: str
    """Of the registry, if it gives labels."""
    options: dict[str, Any]
    outputs: tuple[str, ...]
    """Labels or attributes, in order."""


def described(folder: Path) -> Described:
    """Read what the checkpoint in `folder` says of itself.

    Raises ModelError: no checkpoint is there, or it does not say how it is loaded.
    """
    extra = read(folder).extra
    said = extra.get("voter")
    if not isinstance(said, dict):
        raise KeysError(
            folder,
            "its metadata does not say which model it is of",
            "Give the folder best/ of a run, or name the model with --model",
        )
    options = {k: str(folder) if v == _HERE else v for k, v in said["options"].items()}
    return Described(str(said["model"]), options, tuple(extra.get("labels", ())))
