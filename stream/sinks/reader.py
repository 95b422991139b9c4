"""Read events back from a JSON lines file, also from one whose writer was killed.

What was provisional when it was written is passed over: what came of it stands below.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sinks.rows import Decided, Key, Lost, Row, to_row

MAX_LINE_BYTES: Final = 64 << 20
"""A line longer than this is no event."""

REMEDY: Final = "give a file that --output FILE.jsonl or --format jsonl wrote"


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the values of each event; a last line that was cut off is left out.

    Raises:
        SourceError: the file cannot be read, or a line before the last is no event.

    """
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in _lines(path):
        try:
            values = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not line.endswith(b"\n"):
                return  # its writer was killed
            raise _bad(path, number, f"is no JSON object ({error})") from error
        if "schema" not in values:
            raise _bad(path, number, "is no event: it has no `schema`")
        if values.get("final") is not False:
            yield values


def rows(path: Path) -> Iterator[Row]:
    """Yield the events that files and reports show, revisions among them.

    Raises:
        SourceError: the file cannot be read, or holds something else.

    """
    for number, values in enumerate(read(path), start=1):
        row = row_of(values, f"{path}, event {number}")
        if row is not None:
            yield row


def latest(path: Path) -> Iterator[Row]:
    """Yield each segment once, in its last revision and at the place of that one.

    Reads the file twice, so that what is held is a number for each segment and not its words.

    Raises:
        SourceError: the file cannot be read, or holds something else.

    """
    last: dict[Key, int] = {}
    for number, row in enumerate(rows(path)):
        if isinstance(row, Decided | Lost):
            last[row.key] = number
    for number, row in enumerate(rows(path)):
        if not isinstance(row, Decided | Lost) or last.get(row.key) == number:
            yield row


def row_of(values: dict[str, Any], subject: str) -> Row | None:
    """Give the values of an event as a row.

    Raises:
        SourceError: they are none.

    """
    try:
        return to_row(values)
    except ValueError as error:  # msgspec's too
        raise SourceError(subject, f"cannot be understood: {error}", REMEDY) from error


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise _bad(path, number, f"is longer than {MAX_LINE_BYTES >> 20} MiB")
                if line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise SourceError(str(path), "there is no such file", "check the path") from error
    except IsADirectoryError as error:
        raise SourceError(str(path), "is a folder", "give a file in it") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise SourceError(str(path), reason, "check its permissions") from error


def _bad(path: Path, number: int, reason: str) -> SourceError:
    return SourceError(f"{path}, line {number}", reason, REMEDY)
