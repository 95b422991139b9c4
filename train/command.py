"""What the commands `abhinaya train`, `data` and `eval` have in common."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import AbhinayaError
from abhinaya.train.errors import DataError, Interrupted

EXIT_INTERRUPTED: Final = 130


def guarded(command: str, work: Callable[[], int]) -> int:
    """Run a command; an error becomes one line on standard error, and the exit code 1 or 130."""
    try:
        return work()
    except Interrupted as stopped:
        said, code = str(stopped), EXIT_INTERRUPTED
    except KeyboardInterrupt:
        said, code = "stopped at once; start it again to go on from what it saved", EXIT_INTERRUPTED
    except AbhinayaError as error:
        said, code = str(error), 1
    except OSError as error:
        said, code = f"{error}; make room, or choose another place", 1
    print(f"{command}: {said}", file=sys.stderr)
    return code


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def pair_of(flag: str, said: str) -> tuple[str, str]:
    """Return the two sides of NAME=VALUE."""
    name, equals, value = said.partition("=")
    if not (name and equals and value):
        raise DataError(f"{flag} {said}: give it as NAME=VALUE")
    return name, value


def toml_value(raw: str) -> Any:
    """Return what TOML makes of a value; a bare word is a string."""
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
            f"--profile {path}: no such file; write one of the package's with: abhinaya "
            f"show-config --profile {path} > {path}.toml"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"--profile {path}: cannot be read: {error}") from error
    if not isinstance(found, dict) or not found:
        raise DataError(f"--profile {path}: has no table [{section}]")
    return found
