"""The parser of every command line: one line for wrong usage, with the nearest known name."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final, NoReturn

from abhinaya.models.errors import near_miss

EXIT_USAGE: Final = 2
_WRONG_CHOICE: Final = re.compile(r"(.*)invalid choice: '?(.*?)'? \(choose from (.*)\)")
_UNKNOWN: Final = "unrecognized arguments: "


def version() -> str:
    """Return the version of the package, as in pyproject.toml."""
    from importlib.metadata import version as installed  # slow to import

    return installed("abhinaya")


class Parser(argparse.ArgumentParser):
    """An argparse parser whose text keeps its line breaks, and whose errors are one line."""

    def __init__(self, prog: str, description: str | None = None, **more: Any) -> None:
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=prog, description=description, **more)

    def error(self, message: str) -> NoReturn:
        """Print the fault and the nearest known name; exit with 2."""
        self.exit(EXIT_USAGE, f"{self.prog}: {self._explained(message)}\n")

    def _explained(self, message: str) -> str:
        if wrong := _WRONG_CHOICE.fullmatch(message):
            where, given, known = wrong.groups()
            remedy = near_miss(given, [name.strip("'") for name in known.split(", ")])
            return f"{where}unknown {given!r}; {remedy}"
        if message.startswith(_UNKNOWN):
            see = f"see `{self.prog} --help`"
            word = message.removeprefix(_UNKNOWN).split()[0].partition("=")[0]
            if not word.startswith("-"):
                return f"unexpected argument {word!r}; see `{self.prog} --help`"
            return f"unknown option {word!r}; {near_miss(word, self._options(), see)}"
        return f"{message}; see `{self.prog} --help`"

    def _options(self) -> set[str]:
        """Return the options of this parser and of its subcommands."""
        found = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= {o for below in action.choices.values() for o in below._options()}
        return found
