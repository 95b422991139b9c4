r"""Text from outside, made safe for people, files and messages; all outputs use this module.

Names of files, titles, words and error messages may hold anything: escape sequences of terminals,
marks that change the direction of writing, bytes that are not UTF-8.

    clean       for people: hidden characters become visible escapes (`\x1b`), white space a space
    one_line    the same, without repeated spaces
    to_json     for programs: hidden characters become JSON escapes, so nothing is lost
    whole_json  the same for files of ours that name paths: they stay what they are
    encodable   for messages: bytes that are not UTF-8 become visible escapes (`bad\xff`)
    pack        for our own processes: everything is kept, also paths that are not UTF-8
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from typing import IO, Any, Final, TypeVar

import msgspec

T = TypeVar("T")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""Python's stand-in for a byte of a file name that is not UTF-8; no encoding accepts it."""
LONGEST_NAME: Final = 200
_WITHOUT_WIDTH: Final = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")
"""Legitimate in words of some scripts, but invisible: left out for people."""


def clean(text: str) -> str:
    """Return text without control characters, marks of direction, or line breaks."""
    return text if text.isprintable() else "".join(map(_visible, text))


def one_line(text: str) -> str:
    """Return clean text without repeated spaces."""
    return " ".join(clean(text).split())


def for_page(value: Any) -> Any:
    """Return a value as a page shows it: the `finalize` of a Jinja environment."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return "\n".join(map(clean, value.split("\n"))) if is_text else value


def _visible(c: str) -> str:
    if c.isprintable():
        return c
    if c.isspace():
        return " "
    return "" if c in _WITHOUT_WIDTH else _escape(c)


def _escape(c: str) -> str:
    code = ord(c)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # the byte that it stands for
    form = "x{:02x}" if code < 0x100 else "u{:04x}" if code < 0x10000 else "U{:08x}"
    return "\\" + form.format(code)


def encodable(text: str) -> str:
    """Return text that UTF-8 can encode."""
    return _SURROGATE.sub(lambda found: _escape(found[0]), text)


def all_encodable(value: Any) -> Any:
    """Return a message or a JSON value with all its text encodable."""
    match value:
        case str():
            return encodable(value)
        case msgspec.Struct():
            names = value.__struct_fields__
            return type(value)(**{name: all_encodable(getattr(value, name)) for name in names})
        case Mapping():
            return {all_encodable(key): all_encodable(entry) for key, entry in value.items()}
        case tuple() | list():
            return type(value)(all_encodable(entry) for entry in value)
        case _:
            return value


def to_json(value: Any) -> bytes:
    """Return a value as JSON on one line, with an escape for each character that is hidden."""
    try:
        encoded = msgspec.json.encode(value)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(all_encodable(value))
    text = encoded.decode()
    return encoded if text.isprintable() else "".join(map(_json_character, text)).encode()


def whole_json(value: Any) -> str:
    """Return a value as JSON on one line that also keeps paths which are not UTF-8."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _json_character(c: str) -> str:
    if c.isprintable():
        return c
    return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else json.dumps(c)[1:-1]


def pack(value: Any) -> bytes:
    """Return a value as bytes for another process of ours; `unpack` is the inverse."""
    return json.dumps(msgspec.to_builtins(value, str_keys=True)).encode()


def unpack(data: bytes, kind: type[T]) -> T:
    """Return the value from the bytes of `pack`.

    Raises:
        ValueError: the bytes are damaged, or are not of this kind.

    """
    return msgspec.convert(json.loads(data), kind, str_keys=True)


def short_name(name: str) -> str:
    """Return a name that is encodable, not empty, and short enough for messages and screens."""
    name = encodable(name)
    return f"{name[: LONGEST_NAME - 1]}…" if len(name) > LONGEST_NAME else name or "stream"


def distinct(names: Iterable[str]) -> list[str]:
    """Return encodable names, with a number after those that would look like another one."""
    wanted = [encodable(name) for name in names]
    looks, taken = {clean(name) for name in wanted}, set[str]()
    found = []
    for name in wanted:
        free, number = name, 1
        while clean(free) in taken or (number > 1 and clean(free) in looks):
            number += 1
            free = f"{name}-{number}"
        taken.add(clean(free))
        found.append(free)
    return found


def say(*lines: object, file: IO[str] | None = None) -> None:
    """Print lines for people, clean and at once; on standard error with `file=sys.stderr`."""
    file = file or sys.stdout
    text = "\n".join(clean(str(line)) for line in lines)
    code = getattr(file, "encoding", None) or "utf-8"  # not all terminals show all characters
    print(text.encode(code, "backslashreplace").decode(code), file=file, flush=True)


def say_traceback(file: IO[str] | None = None) -> None:
    """Print the traceback of the current exception, on standard error by default."""
    say(*traceback.format_exc().split("\n"), file=file or sys.stderr)
