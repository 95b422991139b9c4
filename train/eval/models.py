"""Names the models that `abhinaya predict` and `eval` run: checkpoints, models by name, a profile.

--checkpoint NAME=DIR            best/ of a training run
--model NAME=MODEL               MODEL of `abhinaya models list`; --option NAME.KEY=VALUE
--profile FILE                   all voters of a profile
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from abhinaya.models import registry
from abhinaya.models.base import Voter
from abhinaya.models.errors import UnknownModelError
from abhinaya.train.command import pair_of, profile_table, toml_value
from abhinaya.train.data.clips import LONGEST_S
from abhinaya.train.errors import DataError

SERVED: Final = "zero-shot"
WAIT_S: Final = 7_200.0
"""A server that restarts, loads a large model or is away for an hour costs no clip."""


@dataclass(frozen=True, slots=True)
class Named:
    """A model to run, and its name in the tables."""

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    max_s: float = LONGEST_S
    """Seconds of a longer clip that are judged."""


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name models."""
    add = parser.add_argument_group("models to run first").add_argument
    for flag, metavar, about in (
        ("--checkpoint", "NAME=DIR", "best/ of a run"),
        ("--model", "NAME=MODEL", "model of abhinaya models list"),
        ("--option", "NAME.KEY=VALUE", "option of a model; VALUE as in TOML"),
    ):
        add(flag, action="append", default=[], metavar=metavar, help=about)
    add("--profile", type=Path, metavar="FILE", help="run all voters of a profile")
    folder, about = Path("predictions"), "folder for their predictions (%(default)s)"
    add("--write", type=Path, default=folder, metavar="DIR", help=about)
    add("--root", type=Path, help="folder of the audio, if it was moved")
    add("--batch", type=int, default=8, help="clips per batch (%(default)s)")
    about = "seconds to wait for the server of a served model (%(default)g)"
    add("--wait-s", type=float, default=WAIT_S, metavar="S", help=about)
    about = "share of clips whose audio may be unreadable (%(default)s)"
    add("--max-missing", type=float, default=0.0, metavar="SHARE", help=about)


def asked(args: argparse.Namespace) -> list[Named]:
    """Return the models that the flags name.

    Raises DataError: a flag is invalid, or two models have one name; ModelError: a checkpoint
    cannot be read.
    """
    found = [*_of_profile(args.profile)] if args.profile is not None else []
    for pair in args.checkpoint:
        name, place = pair_of("--checkpoint", pair)
        from abhinaya.train.loop.checkpoint_card import described  # imports torch

        of = described(Path(place))
        found.append(Named(name, of.model, of.options, of.max_s))
    found += [Named(*pair_of("--model", pair)) for pair in args.model]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"two models are called {', '.join(sorted(twice))}; rename one")
    for pair in args.option:
        key, value = pair_of("--option", pair)
        name, dot, option = key.rpartition(".")  # the name of a model may hold dots
        if not dot or name not in names:
            raise DataError(
                f"--option {pair}: give NAME.KEY=VALUE, NAME one of {', '.join(names) or 'none'}"
            )
        found[names.index(name)].options[option] = toml_value(value)
    for one in found:
        if one.model == SERVED:
            one.options.setdefault("wait_s", args.wait_s)
    return found


def load(one: Named) -> Voter:
    """Load a model. Raises DataError if its name is unknown; ModelError."""
    try:
        return registry.load(one.model, one.options)
    except UnknownModelError as error:
        raise DataError(f"model {one.name}: {error}") from error


def _of_profile(path: Path) -> list[Named]:
    found = []
    for name, table in profile_table(path, "voters").items():
        if not isinstance(table, Mapping) or "model" not in table:
            raise DataError(f"--profile {path}: voters.{name} names no model")
        found.append(Named(name, str(table["model"]), dict(table.get("options", {}))))
    return found
