"""Error handling and option parsing of the commands `abhinaya train`, `data` and `eval`."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from abhinaya.models.errors import AbhinayaError, near_miss
from abhinaya.models.interrupts import exit_code_of
from abhinaya.models.text import say
from abhinaya.train.errors import DataError, Interrupted, RecipeError

EXIT_INTERRUPTED: Final = 130
Say = Callable[[str], None]
"""Prints a line of progress."""


def guarded(command: str, work: Callable[[], int]) -> int:
    """Run a command; return its exit code: 2 for a wrong recipe, 128 + N after a signal, else 1."""
    try:
        return work()
    except Interrupted as stopped:
        message, code = str(stopped), EXIT_INTERRUPTED
    except KeyboardInterrupt as stopped:
        message, code = "stopped at once; run it again to continue", exit_code_of(stopped)
    except AbhinayaError as error:
        message, code = str(error), 2 if isinstance(error, RecipeError) else 1
    except OSError as error:
        message, code = f"{error}; make room, or choose another place", 1
    say(f"{command}: {message}", file=sys.stderr)
    return code


def pair_of(flag: str, pair: str) -> tuple[str, str]:
    """Return NAME and VALUE of the argument NAME=VALUE. Raises DataError if it is not a pair."""
    name, equals, value = pair.partition("=")
    if not (name and equals and value):
        raise DataError(f"{flag} {pair}: give it as NAME=VALUE")
    return name, value


def toml_value(raw: str) -> Any:
    """Parse a TOML value; text that is not TOML is a string."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw


def profile_table(path: Path, section: str) -> dict[str, Any]:
    """Return one table of a profile. Raises DataError if the file or the table is missing."""
    try:
        found = tomllib.loads(path.read_text("utf-8")).get(section)
    except FileNotFoundError as error:
        raise DataError(
            f"--profile {path}: no such file; write a profile of the package to a file with: "
            f"abhinaya show-config --profile {path} > {path}.toml"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"--profile {path}: cannot be read: {error}") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"--profile {path}: has no table [{section}]")
    return found


T = TypeVar("T")


def changed(recipe: T, settings: Sequence[str]) -> T:
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
