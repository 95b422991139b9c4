"""What stops a command of `train`, beside models (`ModelError`); branches of AbhinayaError.

    DataError            clips, manifests or predictions are missing or not as expected
    TrainingError        a run cannot go on: the loss is not a number, no room, nothing to resume
    ├── RecipeError      a recipe is unknown, or has faults: all of them are named
    └── Interrupted      Ctrl-C or SIGTERM: the state is saved, the message says how to go on

Messages name what is wrong, with which value, and what to do.
"""

from __future__ import annotations

from abhinaya.models.errors import AbhinayaError


class DataError(AbhinayaError):
    """Data is missing or not as expected; the message names the file and the remedy."""


class TrainingError(AbhinayaError):
    """Training cannot go on; the message says at which step and why."""


class RecipeError(TrainingError):
    """A recipe is unknown or its settings do not fit."""


class Interrupted(TrainingError):  # noqa: N818 - no error, but it ends the run
    """The run was told to stop and has saved its state."""
