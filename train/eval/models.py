"""The models that `abhinaya eval` is told to run: checkpoints, models by name, voters of a profile.

--checkpoint NAME=DIR            best/ of a training run
--model NAME=MODEL               of `abhinaya models list`, with --option NAME.KEY=VALUE
--profile FILE                   all voters of a profile
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from abhinaya.models import registry
from abhinaya.train.data.clips import ATTRIBUTES, DataError
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.eval.predict import ask, write_predictions

Said = TypeVar("Said")


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
    group.add_argument(
        "--checkpoint", action="append", default=[], metavar="NAME=DIR", help="best/ of a run"
    )
    group.add_argument(
        "--model", action="append", default=[], metavar="NAME=MODEL", help="abhinaya models list"
    )
    group.add_argument("--profile", type=Path, metavar="FILE", help="run all voters of a profile")
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME.KEY=VALUE",
        help="option of a model; VALUE as in TOML",
    )
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
        name, place = _pair("--checkpoint", said)
        from abhinaya.train.loop.checkpoint_card import described  # torch, only for who asks

        of = described(Path(place))
        rates = bool(of.outputs) and set(of.outputs) <= set(ATTRIBUTES)
        found.append(Named(name, of.model, of.options, rates))
    found += [Named(*_pair("--model", said)) for said in args.model]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"two models are called {', '.join(sorted(twice))}; name them apart")
    for said in args.option:
        key, value = _pair("--option", said)
        name, dot, option = key.partition(".")
        if not dot or name not in names:
            raise DataError(
                f"--option {said}: give NAME.KEY=VALUE, NAME one of {', '.join(names) or 'none'}"
            )
        found[names.index(name)].options[option] = _value(value)
    return found


def run(args: argparse.Namespace, manifest: Manifest) -> list[str]:
    """Run them one after the other; give their files as `NAME=FILE`.

    Raises:
        DataError: audio cannot be read, or a model has nothing to answer.
        ModelError: a model cannot be loaded or run.
        OSError: predictions cannot be written.

    """
    files = []
    if args.batch < 1:
        raise DataError(f"--batch {args.batch}: must be at least 1")
    for one in asked(args):
        args.write.mkdir(parents=True, exist_ok=True)
        path = args.write / f"{one.name.replace('/', '-')}.csv"
        gone = (_rate if one.rates else _vote)(one, args, manifest, path)
        answered = len(manifest.clips) - gone.total()
        print(f"{path}: {answered} of {len(manifest.clips)} clips answered", file=sys.stderr)
        for reason, count in gone.most_common():
            print(f"  not answered: {reason} ({count})", file=sys.stderr)
        files.append(f"{one.name}={path}")
    return files


def _vote(one: Named, args: argparse.Namespace, manifest: Manifest, path: Path) -> Counter[str]:
    try:
        voter = registry.load(one.model, one.options)
    except registry.UnknownModelError as error:
        raise DataError(f"model {one.name}: {error}") from error
    answers = ask(voter, manifest, args.batch)
    return write_predictions(path, voter.card, _shown(answers, one.name, manifest))


def _rate(one: Named, args: argparse.Namespace, manifest: Manifest, path: Path) -> Counter[str]:
    from abhinaya.train.eval.rate import AttributeModel, rate, write_ratings  # torch, for who asks

    known = ("checkpoint", "device", "dtype")
    if unknown := sorted(set(one.options) - set(known)):
        raise DataError(
            f"model {one.name}: no option {unknown[0]!r}; attributes have {', '.join(known)}"
        )
    version = Path(one.options["checkpoint"]).name
    ratings = rate(AttributeModel(**one.options), manifest, args.batch)
    return write_ratings(path, version, _shown(ratings, one.name, manifest))


def _shown(answers: Iterable[Said], name: str, manifest: Manifest) -> Iterable[Said]:
    """Show on a terminal how far a model is."""
    return track(
        answers,
        description=name,
        total=len(manifest.clips),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _pair(flag: str, said: str) -> tuple[str, str]:
    name, equals, value = said.partition("=")
    if not (name and equals and value):
        raise DataError(f"{flag} {said}: give it as NAME=VALUE")
    return name, value


def _value(raw: str) -> Any:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw  # a bare word is a string


def _of_profile(path: Path) -> list[Named]:
    try:
        voters = tomllib.loads(path.read_text("utf-8")).get("voters", {})
    except FileNotFoundError as error:
        raise DataError(
            f"--profile {path}: no such file; write one of the package's with: abhinaya "
            f"show-config --profile {path} > {path}.toml"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"--profile {path}: cannot be read: {error}") from error
    if not isinstance(voters, Mapping) or not voters:
        raise DataError(f"--profile {path}: has no voters")
    found = []
    for name, table in voters.items():
        if not isinstance(table, Mapping) or "model" not in table:
            raise DataError(f"--profile {path}: voters.{name} names no model")
        found.append(Named(name, str(table["model"]), dict(table.get("options", {}))))
    return found
