"""Names of models, as profiles write them, and where their code is.

Importing this module imports no model. Adding a model is one line here and nothing elsewhere.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any, Final, cast

from abhinaya.models.base import Voter

MODELS: Final[Mapping[str, tuple[str, str]]] = {
    "compact-speech": ("abhinaya.models.compact.speech", "CompactSpeech"),
    "compact-text": ("abhinaya.models.compact.text", "CompactText"),
    "compact-joint": ("abhinaya.models.compact.joint", "CompactJoint"),
}
"""Model name -> (module, class). The class takes the profile's options as keywords."""


class UnknownModelError(LookupError):
    """No model has this name; the message suggests the nearest one."""


def load(name: str, options: Mapping[str, Any] | None = None) -> Voter:
    """Import and construct the model called `name`.

    Raises:
        UnknownModelError: no model has this name.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(MODELS))}"
        raise UnknownModelError(f"no model is called {name!r}; {hint}")
    module, attribute = MODELS[name]
    factory = getattr(importlib.import_module(module), attribute)
    return cast(Voter, factory(**(options or {})))
