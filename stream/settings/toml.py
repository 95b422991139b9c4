"""Values as TOML text: the inverse of `tomllib` for what settings can be."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def key(parts: Iterable[str]) -> str:
    """Give a dotted key; parts that are not plain are quoted."""
    return ".".join(part if BARE.fullmatch(part) else _string(part) for part in parts)


def value(item: Any) -> str:
    """Give a value on one line.

    Raises:
        TypeError: TOML has no such value (None is left out by who calls).

    """
    match item:
        case bool():
            return "true" if item else "false"
        case int():
            return str(item)
        case float():
            return repr(item)  # also of inf and nan
        case str():
            return _string(item)
        case datetime.datetime() | datetime.date() | datetime.time():
            return item.isoformat()
        case Mapping():
            inner = ", ".join(f"{key([k])} = {value(v)}" for k, v in item.items() if v is not None)
            return f"{{ {inner} }}" if inner else "{}"
        case Sequence():
            return f"[{', '.join(value(entry) for entry in item)}]"
        case _:
            raise TypeError(f"TOML has no {type(item).__name__}")


def _string(text: str) -> str:
    return '"' + "".join(_character(c) for c in text) + '"'


def _character(c: str) -> str:
    if c in SHORT:
        return SHORT[c]
    return f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else c
