"""Command-line flags made from the fields of a dataclass, so that a default is written once."""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from abhinaya.models.toml import parse_toml
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.profile import Override

T = TypeVar("T")


def add_flags(parser: argparse._ArgumentGroup, kind: type[Any], skip: Sequence[str] = ()) -> None:
    """Add one flag for each field of `kind`; without the flag, the field keeps its default."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.name in skip:
            continue
        hint = hints[field.name]
        options: dict[str, Any] = {}
        if hint is bool:
            options = {"action": "store_true"}
        elif get_origin(hint) is Literal:
            choices = [c for c in get_args(hint) if c]
            options = {"choices": choices, "metavar": "|".join(choices)}
        elif get_origin(hint) is tuple:
            options = {"type": _names, "metavar": "NAME,NAME"}
        else:
            options = {"type": hint, "metavar": hint.__name__.upper()}
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(
            flag,
            default=argparse.SUPPRESS,
            help=_help(field),
            **options,
        )


def from_flags(kind: type[T], arguments: argparse.Namespace, **given: Any) -> T:
    """Return a `kind` made from the flags on the command line, and from `given`.

    Raises:
        ConfigError: a value is out of its range.

    """
    values = dict(given)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if hasattr(arguments, field.name) and field.name not in given:
            values[field.name] = getattr(arguments, field.name)
            _check(field, values[field.name])
    return kind(**values)


def overrides(pairs: Sequence[str]) -> list[Override]:
    """Return the overrides of `--set section.key=value` pairs.

    Raises:
        ConfigError: a pair has no `=`.

    """
    values = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--set {pair}", "has no value", "write section.key=value, e.g. vad.pad_s=0.2"
            )
        values.append(Override(key.strip(), literal(text), f"--set {pair}"))
    return values


def literal(text: str) -> Any:
    """Return the TOML value of a text; text that is not valid TOML is a string."""
    try:
        table = parse_toml(f"x = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["x"] if len(table) == 1 else text


def describe_settings(kind: type[Any] = Config) -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, documentation) of every setting of a profile, or of another file."""
    yield from _describe(kind, "")


def _describe(kind: type[Any], path: str) -> Iterator[tuple[str, str, str]]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = f"{path}{field.name}"
        nested = [t for t in (hints[field.name], *get_args(hints[field.name])) if _is_table(t)]
        if nested:
            ends = {Mapping: ".NAME.", tuple: "[]."}
            yield from _describe(nested[0], name + ends.get(get_origin(hints[field.name]), "."))
        elif kind is not Config or name != "profile":
            yield name, _default(field), field.metadata["doc"]


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    return "{}" if field.default_factory is not dataclasses.MISSING else "required"


def _help(field: dataclasses.Field[Any]) -> str:
    default = field.default
    shown = default not in (dataclasses.MISSING, False, "", (), 0)
    text = str(field.metadata["doc"])
    return (f"{text} (default: {default})" if shown else text).replace("%", "%%")


def _check(field: dataclasses.Field[Any], value: Any) -> None:
    least, most = field.metadata.get("least"), field.metadata.get("most")
    flag = f"--{field.name.replace('_', '-')} {value}"
    if least is not None and value < least:
        raise ConfigError(flag, f"is below {least}")
    if most is not None and value > most:
        raise ConfigError(flag, f"is above {most}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))
