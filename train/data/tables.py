"""Reads text files and CSV tables."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from abhinaya.train.errors import DataError

Row = dict[str, str]


def text_of(path: Path, remedy: str) -> str:
    """Return the content of a text file. Raises DataError, with `remedy`, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; {remedy}") from error
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}; {remedy}") from error


def lines_of(text: str) -> list[str]:
    """Return the lines of a text. `splitlines` would also divide at characters within a cell."""
    return text.removesuffix("\n").split("\n") if text else []


def rows_of(path: Path, remedy: str) -> list[Row]:
    """Return the rows of a CSV. Empty cells are empty strings; surplus cells are ignored."""
    lines = io.StringIO(text_of(path, remedy))
    try:
        rows = list(csv.DictReader(lines))
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}; {remedy}") from error
    return [{k: (v or "").strip() for k, v in row.items() if k is not None} for row in rows]
