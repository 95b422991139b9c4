"""Loads the settings of a run: the profile, then variables, then flags; later ones win.

`ABHINAYA_VAD__PAD_S=0.2` sets `vad.pad_s`: two underscores stand for the dot. `ABHINAYA_PROFILE`
names the profile if no flag does. Other variables that begin with `ABHINAYA_` are ignored.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import EMBEDDED, Config
from abhinaya.stream.settings.flags import literal, overrides
from abhinaya.stream.settings.profile import Override, Traced, trace

PREFIX: Final = "ABHINAYA_"
PROFILE: Final = f"{PREFIX}PROFILE"


def add_line_up(parser: argparse._ActionsContainer) -> None:
    """Add the flags that choose and change a profile."""
    parser.add_argument(
        "--profile", metavar="NAME|FILE", help=f"line-up (default: {PROFILE}, or {EMBEDDED})"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one setting of the profile; `abhinaya settings` lists them",
    )
    parser.add_argument(
        "--compliance",
        action="append",
        dest="settings",
        type="compliance.mode={}".format,
        metavar="eu",
        help="judge only channels with the names of customers (docs/compliance.md)",
    )


def load_line_up(args: argparse.Namespace) -> Config:
    """Return the config from the flags of `add_line_up` and the environment."""
    return trace_line_up(args.profile, args.settings, os.environ).config


def trace_line_up(
    profile: str | None, pairs: Sequence[str], environment: Mapping[str, str]
) -> Traced:
    """Return the config from a profile, variables and `--set` pairs, with the origin of each value.

    Raises:
        ConfigError: names every fault, and the file, variable or flag that caused it.

    """
    named = environment.get(PROFILE, "")
    changes = [*variables(environment), *overrides(pairs)]
    try:
        return trace(profile or named or EMBEDDED, changes)
    except ConfigError as error:
        if profile or not named:
            raise
        raise ConfigError(
            f"{error.subject} (from {PROFILE})", error.reason, error.remedy
        ) from error


def variables(environment: Mapping[str, str]) -> Iterator[Override]:
    """Yield the overrides from environment variables, a table before its keys."""
    for name in sorted(environment):
        if is_setting(name):
            dotted = name.removeprefix(PREFIX).replace("__", ".")
            yield Override(dotted, literal(environment[name]), name, any_case=True)


def is_setting(name: str) -> bool:
    """Return whether a variable of this name changes a setting."""
    return name.startswith(PREFIX) and "__" in name.removeprefix(PREFIX)
