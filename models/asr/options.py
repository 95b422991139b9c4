"""The options of Whisper, as far as they can be checked without loading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from abhinaya.models.catalogue import is_repository
from abhinaya.models.errors import OptionsError, near_miss

SIZES: Final[Mapping[str, str]] = {
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
} | {
    f"distil-{size}": f"Systran/faster-distil-whisper-{size}"
    for size in ("large-v2", "large-v3", "medium.en", "small.en")
} | {
    size: f"Systran/faster-whisper-{size}"
    for size in (
        "tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en",
        "large-v1", "large-v2", "large-v3",
    )
}  # fmt: skip
"""Size -> its repository on the Hub."""

_MODEL: Final = "tiny.en"
MOST_NEW_TOKENS: Final = 200
_RANGES: Final = {"beam_size": (1, 64), "max_new_tokens": (1, MOST_NEW_TOKENS), "threads": (0, 256)}
_CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "window": ("auto", "cut", "whole"),
    "task": ("transcribe", "translate"),
    "device": ("auto", "cpu", "cuda"),
    "compute_type": (
        "default", "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16",
        "float16", "bfloat16", "float32",
    ),
}  # fmt: skip


def check_options(options: Mapping[str, Any]) -> None:
    """Check the options that are given.

    Raises:
        OptionsError: a value is unknown, out of range, or does not fit the model.

    """
    for name, (least, most) in _RANGES.items():
        value = options.get(name, least)
        if not isinstance(value, int) or not least <= value <= most:
            raise _error(name, value, "out of range", f"use {least} to {most}")
    for name, choices in _CHOICES.items():
        value = options.get(name, choices[0])
        if value not in choices:
            raise _error(name, value, "unknown value", near_miss(str(value), choices))
    model = str(options.get("model", _MODEL))
    if model in SIZES and model.endswith(".en"):
        language, task = options.get("language", ""), options.get("task", "")
        remedy = "use a multilingual model: --set asr.options.model=base"
        if language not in ("", "en"):
            raise _error("language", language, f"{model} does not know it", remedy)
        if task == "translate":
            raise _error("task", task, f"{model} is English-only", remedy)
    if options.get("guards"):
        from abhinaya.models.asr.guards import read_guards  # not needed for the defaults

        read_guards(options["guards"])


def language_of(options: Mapping[str, Any]) -> str:
    """Return the language that is assumed for all speech; empty if it is detected."""
    model = str(options.get("model", _MODEL))
    english = "en" if model in SIZES and model.endswith(".en") else ""
    return str(options.get("language", "")) or english


def repository_of(model: str) -> str:
    """Return the repository on the Hub of a size, or of a name on the Hub.

    Raises:
        OptionsError: it is neither.

    """
    if model in SIZES:
        return SIZES[model]
    if not is_repository(model):
        what = "this is neither a folder nor a repository nor a size"
        raise OptionsError(f"Whisper {model!r}", what, near_miss(model, SIZES))
    return model


def _error(name: str, value: object, reason: str, remedy: str) -> OptionsError:
    return OptionsError(f"asr.options.{name} = {value!r}", reason, remedy)
