"""Formats that can only be written as a whole, since a footer or a count comes last.

What happens goes into a journal of JSON lines beside the file, at once; the file is made from it at
intervals and at the end, and takes the place of the old one in a single step. So it is complete
whenever somebody looks, memory stays flat, and after a kill `abhinaya convert` makes from the
journal what the file does not have yet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from abhinaya.stream.errors import SinkError
from abhinaya.stream.sinks.files import replacing
from abhinaya.stream.sinks.jsonl import JsonLog
from abhinaya.stream.sinks.reader import latest
from abhinaya.stream.sinks.rows import Row

Rows = Callable[[], Iterable[Row]]
"""Gives the rows from the beginning, each segment in its last revision; may be called again."""

Render = Callable[[Path, Rows], None]
"""Writes all rows into a new file of the given name."""

EVERY_S: Final = 10.0
"""Seconds between two writings of the file."""
WRITING_SHARE: Final = 0.02
"""Of all time at most: a long file is written less often."""


class WholeFile:
    """Writes a file anew at intervals.

    Args:
        path: the file; beside it, `path` + `.journal.jsonl` while it is written.
        render: writes all rows of it.

    Raises:
        SinkError: the file or the journal cannot be written.

    """

    def __init__(self, path: Path, render: Render) -> None:
        self._path = path
        self._render = render
        if path.is_dir():
            raise SinkError(str(path), "is a folder", "give the name of a file in it")
        if path.exists() and not path.is_file():
            raise SinkError(
                str(path), f"a {path.suffix} cannot go into a pipe or a device", "use .jsonl there"
            )
        self._journal = journal_of(path)
        self._log = JsonLog(self._journal)
        self._changed = False
        self._due_unix_s: float | None = None
        self._refresh()

    def put(self, values: dict[str, Any], now_unix_s: float) -> None:
        """Take an event; write the file if its time has come.

        Raises:
            SinkError: the disk is full, or the file or its folder has vanished.

        """
        if self._log.closed:
            return
        self._log.put(values, now_unix_s)
        self._changed = True
        if self._due_unix_s is None:
            self._due_unix_s = now_unix_s + EVERY_S
        elif now_unix_s >= self._due_unix_s:
            took_s = self._refresh()
            self._due_unix_s = now_unix_s + max(EVERY_S, took_s / WRITING_SHARE)

    def close(self) -> None:
        """Write the file for the last time; the journal is no longer needed.

        Raises:
            SinkError: the file cannot be written; the journal stays.

        """
        if self._log.closed:
            return
        self._log.close()
        if self._changed:
            self._refresh()
        with contextlib.suppress(OSError):
            self._journal.unlink()

    def _refresh(self) -> float:
        begun = time.monotonic()
        with replacing(self._path) as new:
            self._render(new, lambda: latest(self._journal))
        return time.monotonic() - begun


def journal_of(path: Path) -> Path:
    """Give the name of the journal of a file."""
    return path.with_name(path.name + ".journal.jsonl")
