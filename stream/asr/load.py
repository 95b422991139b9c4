"""Names of transcribers, as profiles write them, and where their code is."""

from __future__ import annotations

import difflib
import importlib
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
    try:
        return cast("Transcriber", factory(**(options or {})))
    except TypeError as error:
        # Only a keyword that the class does not take is the profile's fault.
        if "keyword argument" not in str(error):
            raise
        raise ModelError(
            f"asr.options of {name}",
            str(error).partition("() ")[2] or str(error),
            f"see {module} for the options it takes",
        ) from error
