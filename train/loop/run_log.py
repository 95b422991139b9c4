"""Output of a run: log.jsonl, progress and lines on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from abhinaya.train.command import Say
from abhinaya.train.errors import TrainingError


class RunLog:
    """Log and progress of a run; only the main process writes.

    `path` exists already, `main` says whether this is the main process, `say` prints a line on the
    terminal.
    """

    def __init__(self, path: Path, main: bool, say: Say) -> None:
        self._main, self._say = main, say
        self._file = path.open("r+b") if main else None

    def close(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()

    def go_on_from(self, position_bytes: int) -> None:
        """Cut the log to `position_bytes`: the steps after it will be repeated."""
        if self._file is not None:
            self._file.truncate(position_bytes)
            self._file.seek(position_bytes)

    def write(self, kind: str, **values: Any) -> None:
        """Append a line to the log."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"type": kind, **values}).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"{self._file.name}: cannot be written ({error}); make room and continue with "
                "--resume"
            ) from error

    @property
    def size(self) -> int:
        """Length of the log in bytes."""
        return self._file.tell() if self._file is not None else 0

    def say(self, line: str) -> None:
        """Print a line on the terminal."""
        if self._main:
            self._say(line)

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Iterator[Say]:
        """Show a progress bar; yield a function to call after each step, with a remark."""
        remark = TextColumn("{task.fields[remark]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns,
            TimeRemainingColumn(),
            remark,
            console=Console(stderr=True),
            transient=True,
            disable=not (self._main and sys.stderr.isatty()),
        ) as progress:
            task = progress.add_task(title, total=total, completed=done, remark="")
            yield lambda text: progress.update(task, advance=1, remark=text)
