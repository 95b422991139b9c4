"""`abhinaya show-config`: what a run would be made of, as a profile that can be loaded again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from abhinaya.stream.settings import toml
from abhinaya.stream.settings.config import Traced


def as_toml(traced: Traced) -> str:
    """Give the whole config as TOML; behind each value that something set stands what did."""
    lines = [f"# abhinaya show-config: {traced.config.profile}"]
    lines += _table(traced.config, (), traced.origins)
    return "\n".join(lines) + "\n"


def _table(table: Any, path: tuple[str, ...], origins: Mapping[str, str]) -> Iterator[str]:
    """Yield the plain values of a table first, then the tables in it."""
    inner: list[tuple[tuple[str, ...], Any]] = []
    for name, item in _items(table):
        here = (*path, name)
        if item is None:
            continue
        if _is_table(item) or (not path and name == "rules"):
            inner.append((here, item))
        else:
            origin = _origin(here, origins)
            yield f"{toml.key([name])} = {toml.value(item)}" + (f"  # {origin}" if origin else "")
    for here, item in inner:
        for header, entry in _headers(here, item):
            if header:
                yield from ("", header)
            yield from _table(entry, here, origins)


def _headers(path: tuple[str, ...], item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, tuple):
        yield from ((f"[[{toml.key(path)}]]", entry) for entry in item)
    else:
        yield f"[{toml.key(path)}]", item


def _items(table: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(table, Mapping):
        yield from table.items()
    else:
        yield from ((f.name, getattr(table, f.name)) for f in dataclasses.fields(table))


def _is_table(item: Any) -> bool:
    return isinstance(item, Mapping) or dataclasses.is_dataclass(item)


def _origin(path: tuple[str, ...], origins: Mapping[str, str]) -> str:
    """Give what set a value, or the table that it is in."""
    for end in range(len(path), 0, -1):
        if (origin := origins.get(".".join(path[:end]))) is not None:
            return " ".join(origin.split())
    return ""
