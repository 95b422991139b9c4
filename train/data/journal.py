"""A journal of finished clips: after a kill, the next run continues from its last whole line.

The first line is a header. It says what the run depends on: a run with another header is refused.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from abhinaya.models.text import whole_json
from abhinaya.train.errors import DataError

Line = Mapping[str, Any]
"""What is kept of a clip; `id` names it."""
_ID: Final = "id"


class Journal:
    """The finished clips of one run, beside the file that it will write.

    Raises DataError: the journal has another header, or is not a journal.
    """

    def __init__(self, out: Path, header: Line) -> None:
        self.path = out.with_name(f"{out.name}.journal")
        self.done: dict[str, Line] = {}
        """Id of a clip -> its line."""
        self._begin([header, *self._read(header)])

    def add(self, lines: Iterable[Line]) -> None:
        """Add lines, all in one write. Raises OSError if the disk is full."""
        new = list(lines)
        with self.path.open("ab", buffering=0) as file:
            whole = _encoded(new)
            if file.write(whole) < len(whole):
                raise OSError(errno.ENOSPC, "the disk is full", str(self.path))
        self.done |= {str(line[_ID]): line for line in new}

    def close(self) -> None:
        """Remove the journal: its file is written."""
        self.path.unlink(missing_ok=True)

    def _begin(self, lines: list[Line]) -> None:
        self.done = {str(line[_ID]): line for line in lines[1:]}
        if not self.done:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(_encoded(lines))

    def _read(self, header: Line) -> Iterator[Line]:
        """Yield the whole lines after the header; an incomplete last line is cut off the file."""
        if not self.path.exists():
            return
        whole = self.path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        os.truncate(self.path, len(whole))
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()] or [header]
            _ = [line[_ID] for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: is not a journal ({error}); remove it") from error
        if first != json.loads(_encoded([header])):
            raise DataError(
                f"{self.path}: was started with other settings ({first}); use the same, or remove "
                "it to start again"
            )
        yield from lines


def _encoded(lines: Iterable[Line]) -> bytes:
    return b"".join(whole_json(line).encode() + b"\n" for line in lines)
