"""Output of a run: log.jsonl, progress and lines on the terminal, TensorBoard curves."""

from __future__ import annotations

import json
import os
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
    terminal, `curves` is TensorBoard's writer, if requested.
    """

    def __init__(self, path: Path, main: bool, say: Say, curves: Any = None) -> None:
        self._main, self._say, self._curves = main, say, curves
        self._file = path.open("r+b") if main else None

    def close(self) -> None:
        """Close log and curves."""
        for opened in (self._file, self._curves):
            if opened is not None:
                opened.close()

    def go_on_from(self, position_bytes: int) -> None:
        """Cut the log to `position_bytes`: the steps after it will be repeated."""
        if self._file is not None:
            self._file.truncate(position_bytes)
            self._file.seek(position_bytes)

    def write(self, kind: str, **values: Any) -> None:
        """Append a line to the log, and its numbers to the curves."""
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
        if self._curves is not None and "taken" in values:
            for name, value in values.items():
                if isinstance(value, float):
                    self._curves.add_scalar(f"{kind}/{name}", value, values["taken"])

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


def curves_in(folder: Path, taken: int) -> Any:
    """Open TensorBoard's writer; points of an interrupted run after step `taken` are dropped.

    Raises TrainingError: TensorBoard is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from torch.utils.tensorboard import SummaryWriter  # from the extra
    except ImportError as error:
        raise TrainingError(
            f"run.tensorboard: TensorBoard is not installed ({error}); pip install "
            "'abhinaya[tensorboard]', or set it to false: log.jsonl has the same numbers"
        ) from error
    writer: Any = SummaryWriter
    return writer(str(folder), purge_step=taken)
