"""What a run tells: JSON lines for machines, a bar and lines for people, curves for TensorBoard."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from abhinaya.train.errors import TrainingError


class Curves(Protocol):
    """What is used of TensorBoard's writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object:
        """Put a point on a curve."""
        ...

    def close(self) -> object:
        """Write what is left."""
        ...


class Journal:
    """Log and progress of a run; silent in all processes but the main one."""

    def __init__(
        self,
        log: Path,
        main: bool,
        say: Callable[[str], None],
        curves: Curves | None = None,
    ) -> None:
        self._main, self._say, self._curves = main, say, curves
        self._log = log.open("r+b") if main else None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._log is not None:
            self._log.close()
        if self._curves is not None:
            self._curves.close()

    def go_on_from(self, position_bytes: int) -> None:
        """Forget lines about steps that will be made again."""
        if self._log is not None:
            self._log.truncate(position_bytes)
            self._log.seek(position_bytes)

    def write(self, kind: str, **values: Any) -> None:
        """Append a line, and put its numbers on the curves."""
        if self._log is None:
            return
        try:
            self._log.write(json.dumps({"type": kind, **values}).encode() + b"\n")
            self._log.flush()
        except OSError as error:
            raise TrainingError(
                f"{self._log.name}: cannot be written ({error}); make room and continue with "
                "--resume"
            ) from error
        if self._curves is not None and "taken" in values:
            for name, value in values.items():
                if isinstance(value, float):
                    self._curves.add_scalar(f"{kind}/{name}", value, values["taken"])

    @property
    def size(self) -> int:
        """Bytes of the log so far."""
        return self._log.tell() if self._log is not None else 0

    def say(self, line: str) -> None:
        """Tell people."""
        if self._main:
            self._say(line)

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
        """Show progress on a terminal; gives what to call after each step, with a remark."""
        shown = self._main and sys.stderr.isatty()
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}"),
            console=Console(stderr=True),
            transient=True,
            disable=not shown,
        ) as progress:
            task = progress.add_task(title, total=total, completed=done, remark="")
            yield lambda remark: progress.update(task, advance=1, remark=remark)


def curves_in(folder: Path, taken: int) -> Curves:
    """Open TensorBoard's writer; points after step `taken`, of a run that was cut, are dropped.

    Raises TrainingError: TensorBoard is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from torch.utils.tensorboard import SummaryWriter  # an extra: only who asks loads it
    except ImportError as error:
        raise TrainingError(
            f"run.tensorboard: TensorBoard is not installed ({error}); pip install "
            "'abhinaya[tensorboard]', or leave it out: log.jsonl has the same numbers"
        ) from error
    writer: Any = SummaryWriter
    opened: Curves = writer(str(folder), purge_step=taken)
    return opened
