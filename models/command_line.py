"""The parser of every command line: one line for wrong usage, with the nearest known name."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from abhinaya.models.errors import near_miss
from abhinaya.models.text import clean

EXIT_USAGE: Final = 2
_WRONG_CHOICE: Final = re.compile(r"(.*)invalid choice: '?(.*?)'? \(choose from (.*)\)")
_UNKNOWN: Final = "unrecognized arguments: "
_ENDS_OPTIONS: Final = "--"
_INPUT: Final = "\0"
"""Marks the words after `--`: to mix, argparse parses twice, and the first time may drop it."""


def version() -> str:
    """Return the version of the package, as in pyproject.toml."""
    from importlib.metadata import version as installed  # slow to import

    return installed("abhinaya")


class Parser(argparse.ArgumentParser):
    """An argparse parser that takes options and inputs in any order.

    Its text keeps its line breaks, its errors are one line, and it refuses an empty argument: that
    is a variable of a script that was never set.
    """

    def __init__(self, prog: str, description: str | None = None, **more: Any) -> None:
        more.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=prog, description=description, **more)
        self._mixing = False
        self.add_argument("--version", action=_Version, help="print the version, and exit")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse options and inputs in any order, also those of a subcommand."""
        if self._mixing or self._subcommands():
            return super().parse_known_args(args, namespace)
        words = list(sys.argv[1:] if args is None else args)
        for word, before in zip(words, ["", *words], strict=False):
            if not word or (word[-1] == "=" and word[:-1] in self._option_string_actions):
                near = word[:-1] or (before if before.startswith("-") else "")
                self.error(f"{near}: is empty" if near else "an argument is empty")
            if word == _ENDS_OPTIONS:
                break
            # argparse would report a missing input first
            option = word.partition("=")[0]
            if word.startswith("--") and not any(o.startswith(option) for o in self._options()):
                self.error(_UNKNOWN + word)
        if _ENDS_OPTIONS in words:
            at = words.index(_ENDS_OPTIONS) + 1
            words[at:] = [_INPUT + word for word in words[at:]]
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(words, namespace)
        finally:
            self._mixing = False

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        return super()._get_value(action, arg_string.removeprefix(_INPUT))

    def error(self, message: str) -> NoReturn:
        """Print the fault and the nearest known name; exit with 2."""
        text = self._explained(message).replace(_INPUT, "")
        self.exit(EXIT_USAGE, clean(f"{self.prog}: {text}") + "\n")

    def _explained(self, message: str) -> str:
        see = f"see `{self.prog} --help`"
        if wrong := _WRONG_CHOICE.fullmatch(message):
            where, given, known = wrong.groups()
            remedy = near_miss(given, [name.strip("'") for name in known.split(", ")])
            return f"{where}unknown {given!r}; {remedy}"
        if message.startswith(_UNKNOWN):
            words = message.removeprefix(_UNKNOWN).split()
            option = next((word for word in words if word.startswith("-")), "").partition("=")[0]
            if not option:
                return f"unexpected argument {words[0].removeprefix(_INPUT)!r}; {see}"
            return f"unknown option {option!r}; {near_miss(option, self._options(), see)}"
        return f"{message}; {see}"

    def _subcommands(self) -> list[Parser]:
        groups = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        return [parser for group in groups for parser in group.choices.values()]

    def _options(self) -> set[str]:
        """Return the options of this parser and of its subcommands."""
        return {
            *self._option_string_actions,
            *(o for p in self._subcommands() for o in p._options()),
        }


class _Version(argparse.Action):
    """Prints the version; finding it takes a while, so it is not done before."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(f"{parser.prog} {version()}")
        parser.exit()
