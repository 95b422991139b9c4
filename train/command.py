"""Error handling and option parsing of the commands `abhinaya train`, `data` and `eval`."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import AbhinayaError
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
