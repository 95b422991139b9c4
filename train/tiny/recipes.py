"""Changes recipes by the option `--set NAME=VALUE`; NAME may be dotted, as `schedule.steps`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from abhinaya.models.errors import near_miss
from abhinaya.train.errors import RecipeError

Recipe = TypeVar("Recipe")


def changed(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return `recipe` with each NAME=VALUE of `settings` applied, in order. VALUE is JSON.

    Raises RecipeError: the recipe has no such setting, or the value has another type.
    """
    for setting in settings:
        name, equals, raw = setting.partition("=")
        if not equals:
            raise RecipeError(f"--set {setting}: give it as NAME=VALUE")
        try:
            value = json.loads(raw)
        except ValueError as error:
            raise RecipeError(f"--set {setting}: {raw!r} is not a JSON value") from error
        recipe = _with(recipe, name.split("."), value, setting)
    return recipe


def _with(recipe: Any, path: Sequence[str], value: Any, setting: str) -> Any:
    names = [field.name for field in fields(recipe)] if is_dataclass(recipe) else []
    if path[0] not in names:
        hint = near_miss(path[0], names)
        raise RecipeError(f"--set {setting}: no setting {path[0]!r} here; {hint}")
    old = getattr(recipe, path[0])
    if len(path) > 1:
        return replace(recipe, **{path[0]: _with(old, path[1:], value, setting)})
    if isinstance(old, tuple) and isinstance(value, list) and len(value) == len(old):
        value = tuple(value)
    if isinstance(old, float) and type(value) is int:
        value = float(value)
    if is_dataclass(old) or type(value) is not type(old):
        raise RecipeError(f"--set {setting}: the value must be of the type of {old!r}")
    return replace(recipe, **{path[0]: value})
