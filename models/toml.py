"""TOML: reads it, and writes settings that can be loaded again (`show-config`, `train --show`)."""

from __future__ import annotations

import dataclasses
import datetime
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from abhinaya.models.text import encodable, one_line

BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table in a text.

    Raises:
        tomllib.TOMLDecodeError: it is not TOML, or has numbers or nesting beyond all measure.

    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:
        raise tomllib.TOMLDecodeError("a number is too long") from error
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from error


def as_toml(title: str, settings: Any, origins: Mapping[str, str]) -> str:
    """Return a dataclass of settings as TOML.

    Args:
        title: the first line, a comment.
        settings: the dataclass; its values may be dataclasses, tuples of them, and mappings.
        origins: dotted key -> origin of its value, which becomes a comment; none: a default.

    """
    return "\n".join([f"# {one_line(title)}", *_table(settings, (), origins)]) + "\n"


def _table(table: Any, path: tuple[str, ...], origins: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of a table: first its plain values, then its inner tables."""
    inner: list[tuple[tuple[str, ...], Any]] = []
    for name, item in _items(table):
        here = (*path, name)
        if item is None:
            continue
        if _is_table(item) or (isinstance(item, tuple) and any(map(_is_table, item))):
            inner.append((here, item))
        else:
            origin = _origin(here, origins)
            yield f"{_key([name])} = {inline(item)}" + (f"  # {origin}" if origin else "")
    for here, item in inner:
        for header, entry in _headers(here, item):
            if header:
                yield from ("", header)
            yield from _table(entry, here, origins)


def _headers(path: tuple[str, ...], item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, tuple):
        yield from ((f"[[{_key(path)}]]", entry) for entry in item)
    else:
        yield f"[{_key(path)}]", item


def _items(table: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(table, Mapping):
        yield from table.items()
    else:
        yield from ((f.name, getattr(table, f.name)) for f in dataclasses.fields(table))


def _is_table(item: Any) -> bool:
    return isinstance(item, Mapping) or dataclasses.is_dataclass(item)


def _origin(path: tuple[str, ...], origins: Mapping[str, str]) -> str:
    """Return the origin of a value, or of the table that it is in; empty for a default."""
    for end in range(len(path), 0, -1):
        if (origin := origins.get(".".join(path[:end]))) is not None:
            return one_line(origin)
    return ""


def _key(parts: Iterable[str]) -> str:
    """Return a dotted TOML key; parts that are not bare TOML keys are quoted."""
    return ".".join(part if BARE.fullmatch(part) else _string(part) for part in parts)


def inline(item: Any) -> str:
    """Return a value as TOML on one line; mappings are inline tables.

    Raises:
        TypeError: TOML does not have this type. The caller must leave out None.

    """
    match item:
        case bool():
            return "true" if item else "false"
        case int():
            return str(item)
        case float():
            return repr(item)
        case str():
            return _string(item)
        case datetime.datetime() | datetime.date() | datetime.time():
            return item.isoformat()
        case Mapping():
            inner = ", ".join(
                f"{_key([k])} = {inline(v)}" for k, v in item.items() if v is not None
            )
            return f"{{ {inner} }}" if inner else "{}"
        case Sequence():
            return f"[{', '.join(inline(entry) for entry in item)}]"
        case _:
            raise TypeError(f"TOML has no {type(item).__name__}")


def _string(text: str) -> str:
    return '"' + "".join(_character(c) for c in encodable(text)) + '"'


def _character(c: str) -> str:
    if c in SHORT:
        return SHORT[c]
    if c.isprintable():
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
