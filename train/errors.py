"""Errors of training and evaluation; errors of models are `ModelError`. All are AbhinayaErrors.

    DataError            clips, manifests or predictions are missing or invalid
    TrainingError        a run cannot continue: the loss is not finite, the disk is full, ...
    ├── RecipeError      a recipe is unknown or invalid; the message names every fault
    └── Interrupted      Ctrl-C or SIGTERM: the state is saved, the message says how to resume

Each message has the subject, the reason and the remedy.
"""

from __future__ import annotations

from abhinaya.models.errors import AbhinayaError


class DataError(AbhinayaError):
    """Data is missing or invalid; the message names the file and the remedy."""


class TrainingError(AbhinayaError):
    """Training cannot start or continue; the message names the reason and the remedy."""


class RecipeError(TrainingError):
    """A recipe is unknown or its settings are invalid."""

    exit_code = 2


class Interrupted(TrainingError):  # noqa: N818 - ends the run without a fault
    """The user stopped the run; its state is saved."""
