"""Loads a model by its name in a profile.

Importing this module imports no model. Adding a model is one entry in `catalogue.py`; other
packages add theirs as plug-ins (`plugins.py`).
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from abhinaya.models.base import Voter
from abhinaya.models.catalogue import CATALOGUE
from abhinaya.models.declared import check_values, declared
from abhinaya.models.errors import (
    LabelsError,
    OptionsError,
    RunError,
    UnknownModelError,
    listed,
    naming_the_extra,
    near_miss,
)
from abhinaya.models.labels import LABELS
from abhinaya.models.plugins import load_plugin, plugins

MODELS: Final[Mapping[str, tuple[str, str]]] = {
    name: (f"abhinaya.models.{module}", attribute)
    for name, entry in CATALOGUE.items()
    for module, _, attribute in [entry.code.partition(":")]
}
"""Model name -> (module, class)."""

REPLACED: Final[Mapping[str, str]] = {
    "compact-speech": "tiny-speech",
    "compact-text": "tiny-text",
    "compact-joint": "tiny-joint",
}
"""Name in earlier versions -> name of the model that replaced it."""


def load(name: str, options: Mapping[str, Any] | None = None) -> Voter:
    """Return the model called `name`.

    Raises:
        UnknownModelError: no model has this name.
        OptionsError: an option is unknown or missing.
        ModelError: the checkpoint cannot be loaded, the device has too little memory, or a package
            is not installed.

    """
    with naming_the_extra(f"model {name!r}"):
        return _load(name, dict(options or {}))


def _load(name: str, options: dict[str, Any]) -> Voter:
    if name in MODELS:
        module, attribute = MODELS[name]
        factory = getattr(importlib.import_module(module), attribute)
    elif name in plugins("voters"):
        factory = load_plugin("voters", name)
    else:
        raise unknown(name)
    signature = inspect.signature(factory).parameters
    _check_options(name, {key: o.default is o.empty for key, o in signature.items()}, options)
    try:
        return _checked(name, cast("Voter", factory(**options)))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise RunError(
            f"model {name!r}",
            "the device has no memory for its weights",
            "use dtype bfloat16, the option quantize if it has one, or another device",
        ) from error


def _checked(name: str, voter: Voter) -> Voter:
    """Return the voter if its labels are among the eight."""
    if strange := [label for label in voter.card.labels if label not in LABELS]:
        raise LabelsError(
            f"model {name!r}",
            f"it announces labels that are not among the eight: {listed(strange)}",
            f"map them to {', '.join(LABELS)}",
        )
    return voter


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error is torch's lack of memory; does not import torch."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def unknown(name: str) -> UnknownModelError:
    """Return the error for an unknown name."""
    if name in REPLACED:
        return UnknownModelError(
            f"the model {name!r} is no longer here: {REPLACED[name]!r} took its place; write that "
            "in the profile, without the options of the old one"
        )
    known = {*MODELS, *plugins("voters")}
    return UnknownModelError(f"no model is called {name!r}; {near_miss(name, known)}")


def check(name: str, options: Mapping[str, Any]) -> None:
    """Check what can be known of a model without importing it: that may take seconds, and torch.

    Raises:
        UnknownModelError: no model has this name.
        OptionsError: an option is unknown or missing.
        ModelError: a package is not installed, or a file that an option names does not exist.

    """
    if name in MODELS:
        known = declared(*MODELS[name], f"model {name!r}")
        _check_options(name, {key: p.required for key, p in known.items()}, options)
        check_values(options, known)
    elif name not in plugins("voters"):
        raise unknown(name)


def _check_options(name: str, known: Mapping[str, bool], options: Mapping[str, Any]) -> None:
    if unknown := sorted(options.keys() - known.keys()):
        raise OptionsError(
            f"model {name!r}",
            f"it has no option {', '.join(map(repr, unknown))}",
            near_miss(unknown[0], known),
        )
    needed = {key for key, required in known.items() if required}
    if absent := sorted(needed - options.keys()):
        raise OptionsError(
            f"model {name!r}",
            f"the option {', '.join(map(repr, absent))} is missing",
            "give it in the profile",
        )
    if wanting := {k: v for k, v in options.items() if re.fullmatch("<.*>", str(v))}:
        values = " and ".join(wanting.values())
        raise OptionsError(
            f"model {name!r}",
            f"the option {', '.join(map(repr, wanting))} still has the placeholder {values}",
            "give your own in a copy of the profile, or with --set",
        )
