"""Load a transcriber by the name in a profile."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from abhinaya.models.asr.base import Transcriber
from abhinaya.models.asr.options import check_options, repository_of
from abhinaya.models.declared import check_values, declared
from abhinaya.models.errors import MissingFileError, OptionsError, near_miss
from abhinaya.models.plugins import load_plugin, plugins

TRANSCRIBERS: Final[Mapping[str, tuple[str, str]]] = {
    "faster-whisper": ("abhinaya.models.asr.whisper", "Whisper"),
}
"""Name -> (module, class). The options of the profile are keyword arguments of the class."""

REPLACED: Final[Mapping[str, str]] = {
    "pocketsphinx": 'write model = "faster-whisper", without its options: Whisper took its place',
}
"""Removed transcribers -> the remedy."""


def load_transcriber(name: str, options: Mapping[str, Any] | None = None) -> Transcriber:
    """Import and construct the transcriber called `name`.

    Raises:
        ModelError: the name or an option is unknown, or the package or the model is missing.

    """
    factory = _factory(name)
    options = options or {}
    _check_options(name, inspect.signature(factory).parameters, options)
    return cast("Transcriber", factory(**options))


def check(name: str, options: Mapping[str, Any]) -> None:
    """Check what can be known of a transcriber without importing it.

    Raises:
        ModelError: the name or an option is unknown, a package is not installed, or a file that an
            option names does not exist.

    """
    if name in TRANSCRIBERS:
        known = declared(*TRANSCRIBERS[name], f"asr.model = {name!r}")
        _check_options(name, known, options)
        check_values(options, known)
        check_options(options)
        model = str(options.get("model", "")).removesuffix("/")
        if model and not (model.startswith((".", "/", "~")) or Path(model).is_dir()):
            repository_of(model)
    elif name not in plugins("transcribers"):
        raise _unknown(name)


def _check_options(name: str, known: Iterable[str], options: Iterable[str]) -> None:
    for key in options:
        if key not in set(known):
            raise OptionsError(
                f"asr.options.{key}", f"unknown option of {name}", near_miss(key, known)
            )


def _factory(name: str) -> Callable[..., object]:
    """Return the class of a transcriber of this package or of a plug-in."""
    if name in TRANSCRIBERS:
        module, attribute = TRANSCRIBERS[name]
        try:
            found: Callable[..., object] = getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise MissingFileError(
                f"asr.model = {name!r}", f"it cannot be imported: {error}", f"pip install {name}"
            ) from error
        return found
    if name in plugins("transcribers"):
        found = load_plugin("transcribers", name)
        return found
    raise _unknown(name)


def _unknown(name: str) -> OptionsError:
    if name in REPLACED:
        return OptionsError(f"asr.model = {name!r}", "it was removed", REPLACED[name])
    known = {*TRANSCRIBERS, *plugins("transcribers")}
    return OptionsError(f"asr.model = {name!r}", "unknown transcriber", near_miss(name, known))
