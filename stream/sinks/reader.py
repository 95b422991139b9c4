"""Reads events from a JSON lines file, even if its writer was killed.

Provisional verdicts are skipped; the final verdict on the segment follows them. Every function
raises SourceError if the file cannot be read, or if a line before the last is not an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sinks.rows import Began, Decided, Ended, Lost, Row, Segment, to_row

MAX_LINE_BYTES: Final = 64 << 20
REMEDY: Final = "give a file that --output FILE.jsonl or --format jsonl wrote"

_decoder = msgspec.json.Decoder(dict[str, Any])


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON values of each event; a cut-off last line is skipped."""
    for _, values in _read(path):
        yield values


def rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file in its order, with all revisions."""
    for _, row in _rows(path):
        yield row


def latest(path: Path) -> Iterator[Row]:
    """Yield all rows but segments, then each segment in its last revision, ordered by start.

    Only the position of each segment in the file is held in memory.
    """
    places: dict[tuple[str, int], tuple[float, int]] = {}
    for offset, row in _rows(path):
        if isinstance(row, Decided | Lost):
            places[row.stream, row.segment] = (row.start_s, offset)
        else:
            yield row
    if not places:
        return
    with path.open("rb") as file:
        for key in sorted(places, key=lambda key: (places[key][0], *key)):
            file.seek(places[key][1])
            row = msgspec.convert(_decoder.decode(file.readline()), Decided | Lost)
            yield msgspec.structs.replace(row, stream=key[0])


def segments(path: Path) -> Iterator[Segment]:
    """Return only the segments of `latest`."""
    return (row for row in latest(path) if isinstance(row, Decided | Lost))


def row_of(values: dict[str, Any], subject: str) -> Row | None:
    """Return an event as a row; None if files and reports do not use its type."""
    try:
        return to_row(values)
    except ValueError as error:  # msgspec's too
        raise SourceError(subject, f"cannot be understood: {error}", REMEDY) from error


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield each row with its byte offset in the file.

    If a second run was appended with streams of the same names, these get a number.
    """
    begun: Counter[str] = Counter()
    for number, (offset, values) in enumerate(_read(path), start=1):
        row = row_of(values, f"{path}, event {number}")
        if row is None:
            continue
        if isinstance(row, Began | Ended | Decided | Lost):
            begun[row.stream] += isinstance(row, Began)
            if begun[row.stream] > 1:
                head, slash, last = row.stream.rpartition("/")
                name = f"{head or last} ({begun[row.stream]}){slash}{last if slash else ''}"
                row = msgspec.structs.replace(row, stream=name)
        yield offset, row


def _read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each event with its byte offset in the file."""
    for number, offset, line in _lines(path):
        try:
            values = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not line.endswith(b"\n"):
                return  # a partial line: the writer was killed
            raise _bad(path, number, f"is not a JSON object ({error})") from error
        if "schema" not in values:
            raise _bad(path, number, "is not an event: it has no `schema`")
        if values.get("final") is not False:
            yield offset, values


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    try:
        with path.open("rb") as file:
            number = offset = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise _bad(path, number, f"is longer than {MAX_LINE_BYTES >> 20} MiB")
                if line.strip():
                    yield number, offset, line
                offset += len(line)
    except FileNotFoundError as error:
        raise SourceError(str(path), "no such file", "check the path") from error
    except IsADirectoryError as error:
        raise SourceError(str(path), "is a folder", "give a file in it") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise SourceError(str(path), reason, "check its permissions") from error


def _bad(path: Path, number: int, reason: str) -> SourceError:
    return SourceError(f"{path}, line {number}", reason, REMEDY)
