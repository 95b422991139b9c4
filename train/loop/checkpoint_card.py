"""Metadata of a checkpoint: its labels, recipe and data, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from abhinaya.models.checkpoint import Tensors, read
from abhinaya.models.errors import KeysError
from abhinaya.train.data.clips import LONGEST_S
from abhinaya.train.learners.base import Learner
from abhinaya.train.loop.objective import Figures

PROFILE: Final = "voter.toml"
"""File next to the weights, with the table for a profile that loads them."""
_HERE: Final = "."
"""Stands for the folder of the checkpoint in its metadata, so that it can be moved."""


@dataclass(frozen=True, slots=True)
class CheckpointCard:
    """Metadata of every checkpoint of a run."""

    labels: tuple[str, ...]
    """Names of the outputs, in order."""
    recipe: Mapping[str, Any]
    data: str
    """SHA-256 of the clips."""
    made_by: str
    place: Path
    """Final folder of the checkpoint."""

    def save(self, learner: Learner, folder: Path, state: Tensors, figures: Figures) -> None:
        """Write weights with this metadata, and PROFILE.

        Raises WriteError or OSError: a file cannot be written.
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


class Described(NamedTuple):
    """How to load the checkpoint of a run."""

    model: str
    """Name in the registry."""
    options: dict[str, Any]
    outputs: tuple[str, ...]
    """Labels or attributes, in order."""
    max_s: float
    """Seconds of a longer clip that are judged."""


def described(folder: Path) -> Described:
    """Read from the checkpoint in `folder` how to load it.

    Raises ModelError: no checkpoint is there, or its metadata does not name a model.
    """
    extra = read(folder).extra
    voter = extra.get("voter")
    if not isinstance(voter, dict):
        raise KeysError(
            folder,
            "its metadata does not name the model",
            "give the folder best/ of a run, or name the model with --model",
        )
    options = {k: str(folder) if v == _HERE else v for k, v in voter["options"].items()}
    max_s = float(extra.get("recipe", {}).get("data", {}).get("max_s", LONGEST_S))
    return Described(str(voter["model"]), options, tuple(extra.get("labels", ())), max_s)
