"""Every setting of a recipe with its default and meaning, for `abhinaya train settings`."""

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
            for kind in dict.fromkeys(OPTIONS.values()):
                learners = ", ".join(name for name, of in OPTIONS.items() if of is kind)
                for name, value, doc in _of(kind, "model.options."):
                    yield name, value, f"{learners}: {doc}"
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
        default = "(must be given)" if spec.default_factory is dataclasses.MISSING else ""
        if spec.default is not dataclasses.MISSING:
            default = "(none)" if spec.default is None else json.dumps(spec.default)
        choices, doc = spec.metadata.get("choices") or (), str(spec.metadata.get("doc", ""))
        yield key, default, f"{doc} ({', '.join(choices)})" if choices else doc
