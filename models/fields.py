"""Settings as fields of frozen dataclasses: declared with range and documentation, read from TOML.

`build` collects all faults instead of stopping at the first, each with its origin.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from abhinaya.models.errors import near_miss

T = TypeVar("T")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a field with its documentation and its allowed values."""
    limits = {"doc": doc, "least": least, "most": most, "choices": choices}
    return dataclasses.field(default=default, metadata=limits)


class Faults:
    """Faults of the settings, each with its origin.

    Args:
        origins: dotted key -> the environment variable or flag that set it; keys set by the file
            are absent.

    """

    def __init__(self, origins: Mapping[str, str]) -> None:
        self._origins = origins
        self.texts: list[str] = []

    def add(self, text: str, *paths: str) -> None:
        """Add a fault of the settings at `paths`."""
        origins = dict.fromkeys(o for path in paths if (o := self._origin(path)))
        self.texts.append(text + (f" (from {' and '.join(origins)})" if origins else ""))

    def _origin(self, path: str) -> str:
        """Return the origin of a setting, of a table around it, or of a key within it."""
        above = [k for k in self._origins if path == k or path.startswith((f"{k}.", f"{k}["))]
        if above:
            return self._origins[max(above, key=len)]
        below = (self._origins[key] for key in self._origins if key.startswith(f"{path}."))
        return next(below, "")


def build(kind: type[T], table: Any, path: str, faults: Faults) -> T:
    """Return a `kind` built from a TOML table; after a fault the result is unusable.

    Args:
        kind: a dataclass of settings.
        table: the table as TOML decodes it.
        path: the table's dotted key with a dot at the end; empty for the whole file.
        faults: receives the faults that are found.

    """
    if not isinstance(table, Mapping):
        here = path.rstrip(".")
        faults.add(f"{here or 'the file'} must be a table, not {table!r}", here)
        table = {}
    hints = get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            faults.add(f"{path}{key} is not a setting{near(key, known)}", f"{path}{key}")
    values: dict[str, Any] = {}
    for name, spec in known.items():
        here = f"{path}{name}"
        if name in table:
            values[name] = _value(hints[name], table[name], here, spec.metadata, faults)
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            faults.add(f"{here} is missing ({spec.metadata['doc']})", path.rstrip("."))
            values[name] = None
    return kind(**values)


def _value(hint: Any, raw: Any, path: str, limits: Mapping[str, Any], faults: Faults) -> Any:
    kinds = (t for t in members(hint) if isinstance(t, type) and dataclasses.is_dataclass(t))
    nested = next(kinds, None)
    if nested is not None and get_origin(hint) is tuple:
        if not isinstance(raw, list | tuple):
            faults.add(f"{path} must be an array of tables, not {raw!r}", path)
            return ()
        return tuple(build(nested, v, f"{path}[{i}].", faults) for i, v in enumerate(raw))
    if nested is not None and get_origin(hint) is Mapping and isinstance(raw, Mapping):
        return {k: build(nested, v, f"{path}.{k}.", faults) for k, v in raw.items()}
    if nested is not None and get_origin(hint) is not Mapping:
        return build(nested, raw, f"{path}.", faults)
    if get_origin(hint) is Literal and isinstance(raw, str) and raw not in get_args(hint):
        faults.add(f"{path} = {raw!r} is not known{near(raw, filter(None, get_args(hint)))}", path)
        return raw
    try:
        value = msgspec.convert(raw, hint)
    except msgspec.ValidationError as error:
        faults.add(f"{path} = {raw!r} does not fit: {error}", path)
        return raw
    for text in _out_of_range(value, raw, limits):
        faults.add(f"{path} = {raw!r} {text}", path)
    return value


def _out_of_range(value: Any, raw: Any, limits: Mapping[str, Any]) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, float) and not math.isfinite(value):
        yield "is not a finite number"
        return
    least, most, choices = limits.get("least"), limits.get("most"), limits.get("choices")
    if least is not None and value < least:
        yield f"is below {least}"
    if most is not None and value > most:
        yield f"is above {most}"
    if choices and value not in choices:
        yield f"is not known{near(value, choices)}"


def members(hint: Any) -> Iterator[Any]:
    """Yield a type and, recursively, its type arguments."""
    yield hint
    for argument in get_args(hint):
        yield from members(argument)


def near(key: str, known: Iterable[str]) -> str:
    """Return the end of a message: the nearest known name, or the list of known names."""
    hint = near_miss(key, known)
    return f", {hint}" if hint.endswith("?") else f" ({hint})"
