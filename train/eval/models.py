"""The models that `abhinaya eval` runs: checkpoints, models by name, voters of a profile.

--checkpoint NAME=DIR            best/ of a training run
--model NAME=MODEL               of `abhinaya models list`, with --option NAME.KEY=VALUE
--profile FILE                   all voters of a profile
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track

from abhinaya.models import registry
from abhinaya.models.errors import UnknownModelError
from abhinaya.train.command import pair_of, profile_table, toml_value
from abhinaya.train.data.clips import ATTRIBUTES
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.predict import AttributeModel, Model, ask, write_predictions

_RATER_OPTIONS: Final = ("checkpoint", "device", "dtype")


@dataclass(frozen=True, slots=True)
class Named:
    """A model to run, under a name."""

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    rates: bool = False
    """Whether it gives attributes, and not labels."""


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    group = parser.add_argument_group("models to run first")
    for flag, metavar, told in (
        ("--checkpoint", "NAME=DIR", "best/ of a run"),
        ("--model", "NAME=MODEL", "of abhinaya models list"),
        ("--option", "NAME.KEY=VALUE", "option of a model; VALUE as in TOML"),
    ):
        group.add_argument(flag, action="append", default=[], metavar=metavar, help=told)
    group.add_argument("--profile", type=Path, metavar="FILE", help="run all voters of a profile")
    group.add_argument(
        "--write",
        type=Path,
        default=Path("predictions"),
        metavar="DIR",
        help="where their predictions are written (default: %(default)s)",
    )
    group.add_argument("--root", type=Path, help="another folder of the audio")
    group.add_argument("--batch", type=int, default=8, help="clips at a time: %(default)s")


def asked(args: argparse.Namespace) -> list[Named]:
    """Read the flags.

    Raises:
        DataError: a flag is not as it should be, or two models have one name.
        ModelError: a checkpoint cannot be read.

    """
    found = [*_of_profile(args.profile)] if args.profile is not None else []
    for said in args.checkpoint:
        name, place = pair_of("--checkpoint", said)
        from abhinaya.train.loop.checkpoint_card import described  # torch, only for who asks

        of = described(Path(place))
        rates = bool(of.outputs) and set(of.outputs) <= set(ATTRIBUTES)
        found.append(Named(name, of.model, of.options, rates))
    found += [Named(*pair_of("--model", said)) for said in args.model]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"two models are called {', '.join(sorted(twice))}; name them apart")
    for said in args.option:
        key, value = pair_of("--option", said)
        name, dot, option = key.partition(".")
        if not dot or name not in names:
            raise DataError(
                f"--option {said}: give NAME.KEY=VALUE, NAME one of {', '.join(names) or 'none'}"
            )
        found[names.index(name)].options[option] = toml_value(value)
    return found


def run(args: argparse.Namespace, manifest: Manifest) -> list[str]:
    """Run them one after the other; return their files as `NAME=FILE`.

    Raises:
        DataError: audio cannot be read, or a model has nothing to answer.
        ModelError: a model cannot be loaded or run.
        OSError: predictions cannot be written.

    """
    if args.batch < 1:
        raise DataError(f"--batch {args.batch}: must be at least 1")
    files = []
    for one in asked(args):
        args.write.mkdir(parents=True, exist_ok=True)
        path = args.write / f"{one.name.replace('/', '-')}.csv"
        model = _load(one)
        answers = track(
            ask(model, manifest, args.batch),
            description=one.name,
            total=len(manifest.clips),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        gone = write_predictions(path, model.card, answers)
        answered = len(manifest.clips) - gone.total()
        print(f"{path}: {answered} of {len(manifest.clips)} clips answered", file=sys.stderr)
        for reason, count in gone.most_common():
            print(f"  not answered: {reason} ({count})", file=sys.stderr)
        files.append(f"{one.name}={path}")
    return files


def _load(one: Named) -> Model:
    if one.rates:
        if unknown := sorted(set(one.options) - set(_RATER_OPTIONS)):
            raise DataError(
                f"model {one.name}: no option {unknown[0]!r}; attributes have "
                f"{', '.join(_RATER_OPTIONS)}"
            )
        return AttributeModel(**one.options)
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
