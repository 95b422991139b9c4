"""Runs the models that `abhinaya eval` is asked to: checkpoints, models by name, a profile.

--checkpoint NAME=DIR            best/ of a training run
--model NAME=MODEL               MODEL of `abhinaya models list`; --option NAME.KEY=VALUE
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
from abhinaya.models.text import distinct, say
from abhinaya.train.command import pair_of, profile_table, toml_value
from abhinaya.train.data.clips import ATTRIBUTES
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.predict import AttributeModel, Model, ask, write_predictions

_RATER_OPTIONS: Final = ("checkpoint", "device", "dtype")


@dataclass(frozen=True, slots=True)
class Named:
    """A model to run, and its name in the tables."""

    name: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)
    rates: bool = False
    """Whether the model gives attributes instead of labels."""


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
        rates = bool(of.outputs) and set(of.outputs) <= set(ATTRIBUTES)
        found.append(Named(name, of.model, of.options, rates))
    found += [Named(*pair_of("--model", pair)) for pair in args.model]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"two models are called {', '.join(sorted(twice))}; rename one")
    for pair in args.option:
        key, value = pair_of("--option", pair)
        name, dot, option = key.partition(".")
        if not dot or name not in names:
            raise DataError(
                f"--option {pair}: give NAME.KEY=VALUE, NAME one of {', '.join(names) or 'none'}"
            )
        found[names.index(name)].options[option] = toml_value(value)
    return found


def run(args: argparse.Namespace, manifest: Manifest) -> list[str]:
    """Run the models one after the other; return their prediction files as `NAME=FILE`.

    Raises DataError: audio cannot be read, or no clip has what a model needs; ModelError: a model
    cannot be loaded or run; OSError: predictions cannot be written.
    """
    if args.batch < 1:
        raise DataError(f"--batch {args.batch}: must be at least 1")
    files = []
    models = asked(args)
    # a name may differ from another only in a character that its file name cannot have
    stems = distinct(one.name.replace("/", "-") for one in models)
    for one, stem in zip(models, stems, strict=True):
        args.write.mkdir(parents=True, exist_ok=True)
        path = args.write / f"{stem}.csv"
        model = _load(one)
        answers = track(
            ask(model, manifest, args.batch),
            description=one.name,
            total=len(manifest.clips),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        unanswered = write_predictions(path, model.card, answers)
        answered = len(manifest.clips) - unanswered.total()
        say(f"{path}: {answered} of {len(manifest.clips)} clips answered", file=sys.stderr)
        for reason, count in unanswered.most_common():
            say(f"  not answered: {reason} ({count})", file=sys.stderr)
        files.append(f"{one.name}={path}")
    return files


def _load(one: Named) -> Model:
    if one.rates:
        if unknown := sorted(set(one.options) - set(_RATER_OPTIONS)):
            raise DataError(
                f"model {one.name}: unknown option {unknown[0]!r}; known: "
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
