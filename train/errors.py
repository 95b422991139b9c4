"""What stops a run, beside data (`DataError`, train/data/clips.py) and models (`ModelError`).

    TrainingError        it cannot go on: the loss is no number, no room, nothing to resume
    ├── RecipeError      a recipe is unknown, or has faults: all of them are named
    └── Interrupted      Ctrl-C or SIGTERM: the state is saved, the message says how to go on

Messages name what is wrong, with which value, and what to do.
"""

from __future__ import annotations

from abhinaya.models.errors import AbhinayaError


class TrainingError(AbhinayaError):
    """Training cannot go on; the message says at which step and why."""


class RecipeError(TrainingError):
    """A recipe is unknown or its settings do not fit."""


class Interrupted(TrainingError):  # noqa: N818 - no error, but it ends the run
    """The run was told to stop and has saved its state."""
