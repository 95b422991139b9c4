"""Names of transcribers, as profiles write them, and where their code is."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Final, cast

from abhinaya.stream.asr.base import Transcriber
from abhinaya.stream.errors import ModelError

TRANSCRIBERS: Final[Mapping[str, tuple[str, str]]] = {
    "pocketsphinx": ("abhinaya.stream.asr.sphinx", "Sphinx"),
    "faster-whisper": ("abhinaya.stream.asr.whisper", "Whisper"),
}
"""Name -> (module, class). The class takes the profile's options as keywords."""


def load_transcriber(name: str, options: Mapping[str, Any] | None = None) -> Transcriber:
    """Import and construct the transcriber called `name`.

    Raises:
        ModelError: no transcriber has this name, its package is not installed, its model cannot
            be had, or it does not know an option.

    """
    if name not in TRANSCRIBERS:
        near = difflib.get_close_matches(name, TRANSCRIBERS, n=1)
        raise ModelError(
            f"asr.model = {name!r}",
            "is no transcriber",
            f"did you mean {near[0]!r}?" if near else f"known: {', '.join(TRANSCRIBERS)}",
        )
    module, attribute = TRANSCRIBERS[name]
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise ModelError(
            f"asr.model = {name!r}", f"cannot be imported: {error}", f"pip install {name}"
        ) from error
    options = options or {}
    known = inspect.signature(factory).parameters
    takes_all = any(known[key].kind is inspect.Parameter.VAR_KEYWORD for key in known)
    for key in options:
        if key not in known and not takes_all:  # a class that takes all looks for itself
            close = difflib.get_close_matches(key, known, n=1)
            raise ModelError(
                f"asr.options.{key}",
                f"is no option of {name}",
                f"did you mean {close[0]!r}?" if close else f"its options: {', '.join(known)}",
            )
    return cast("Transcriber", factory(**options))
