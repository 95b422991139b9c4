"""Which profile and settings a run has: the file, then variables, then flags; later ones win.

`ABHINAYA_VAD__PAD_S=0.2` sets `vad.pad_s`: two underscores stand for the dot. `ABHINAYA_PROFILE` is
the profile where no flag names one. Other variables that begin with `ABHINAYA_` are no settings.
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


def load_line_up(args: argparse.Namespace) -> Config:
    """Load what `add_line_up`'s flags and the environment say.

    Raises:
        ConfigError: names every fault, and the file, variable or flag that it is from.

    """
    return trace_line_up(args.profile, args.settings, os.environ).config


def trace_line_up(
    profile: str | None, pairs: Sequence[str], environment: Mapping[str, str]
) -> Traced:
    """Load a profile with what variables and `--set` pairs change, and tell which did.

    Raises:
        ConfigError: names every fault, and the file, variable or flag that it is from.

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
    """Yield the settings that variables change, tables before what is in them."""
    for name in sorted(environment):
        if is_setting(name):
            dotted = name.removeprefix(PREFIX).replace("__", ".")
            yield Override(dotted, literal(environment[name]), name, any_case=True)


def is_setting(name: str) -> bool:
    """Whether a variable of this name changes a setting."""
    return name.startswith(PREFIX) and "__" in name.removeprefix(PREFIX)
