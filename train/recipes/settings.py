"""Lists every setting of a recipe with its default and meaning, read from the dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

from abhinaya.train.recipes.learner_options import OPTIONS
from abhinaya.train.recipes.recipe import Recipe


def described() -> Iterator[tuple[str, str, str]]:
    """Yield (key, default in TOML, meaning and choices) of each setting."""
    for key, default, meaning in _of(Recipe, ""):
        if key == "model.options":
            for learner, kind in OPTIONS.items():
                for name, value, doc in _of(kind, "model.options."):
                    yield name, value, f"{learner}: {doc}"
        elif key == "stages":
            yield "stages", "[]", "[[stages]]: tables with what differs from [train]"
        else:
            yield key, default, meaning


def _of(kind: Any, path: str) -> Iterator[tuple[str, str, str]]:
    hints = get_type_hints(kind)
    for spec in dataclasses.fields(kind):
        key, hint = f"{path}{spec.name}", hints[spec.name]
        inner = hint if get_origin(hint) is None else next(iter(get_args(hint)), None)
        if dataclasses.is_dataclass(inner) and key != "stages":
            mark = "" if inner is hint else "[]"
            yield from _of(inner, f"{key}{mark}.")
            continue
        yield key, _default(spec), _meaning(spec)


def _default(spec: dataclasses.Field[Any]) -> str:
    if spec.default is not dataclasses.MISSING:
        return json.dumps(spec.default)
    return "(must be given)" if spec.default_factory is dataclasses.MISSING else ""


def _meaning(spec: dataclasses.Field[Any]) -> str:
    choices = spec.metadata.get("choices") or ()
    doc = str(spec.metadata.get("doc", ""))
    return f"{doc} ({', '.join(choices)})" if choices else doc
