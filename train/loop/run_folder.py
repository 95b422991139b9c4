"""The folder of a run, and what in it must be whole whatever happens.

    run.json      recipe and hash of the data, by which a resumed run knows that it is the same
    log.jsonl     a JSON object a line: steps, validations, saved states
    best/         the best checkpoint so far, as the monitor loads it
    state-N/      everything that the next step needs; one is kept
    tensorboard/  curves, if asked for

A folder is made under another name and renamed, so a kill or a full disk leaves the one before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import ModelError
from abhinaya.train.errors import TrainingError

SCHEMA: Final = "abhinaya.run/1"
_POSITION: Final = "position.json"
_BACKENDS: Final = ("gloo", "NCCL")
"""What torch names when it is another process, and not the disk, that failed."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is: the next step to make, and what decided so far."""

    stage: int = 0
    epoch: int = 0
    """Of the stage."""
    step: int = 0
    """Of the epoch."""
    taken: int = 0
    """Steps in all."""
    best: float | None = None
    """Best validation score."""
    best_at: int = 0
    """Steps taken when it was reached."""
    stale: int = 0
    """Validations of this stage since a better one."""
    log_bytes: int = 0
    """Length of the log."""


class RunFolder:
    """Files of one run. What cannot be read or written is a TrainingError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = path / "best"
        self.log = path / "log.jsonl"
        self._about = path / "run.json"

    def begin(self, recipe: Mapping[str, Any], data: str, made_by: str) -> None:
        """Make the folder of a new run; refuse one that holds a run."""
        if self._about.exists():
            raise TrainingError(
                f"{self.path}: holds a run already; continue it with --resume, or give another "
                "folder with --out"
            )
        about = {"schema": SCHEMA, "recipe": recipe, "data": data, "made_by": made_by}
        half = self._about.with_suffix(".json.half")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            half.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
            self.log.write_bytes(b"")
            half.replace(self._about)
        except OSError as error:
            raise _unwritten(self.path, error) from error

    def check(self, recipe: Mapping[str, Any], data: str, despite_changes: bool) -> None:
        """Refuse to go on with another recipe or other data than was begun with."""
        try:
            begun = json.loads(self._about.read_text("utf-8"))
            before, digest = dict(begun["recipe"]), str(begun["data"])
        except FileNotFoundError as error:
            raise TrainingError(f"{self.path}: holds no run; leave out --resume") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{self._about}: is damaged ({error}); begin again in another folder"
            ) from error
        changes = [f"{key} was {old!r}, is {new!r}" for key, old, new in _changes(before, recipe)]
        if digest != data:
            changes.append(f"the data (its hash was {digest[:12]}, is {data[:12]})")
        if changes and not despite_changes:
            raise TrainingError(
                f"{self.path}: was begun differently: {'; '.join(changes)}. Go back to that, begin "
                "again in another folder, or continue all the same with --despite-changes"
            )

    def mend(self) -> None:
        """Finish or undo what a kill left in the middle."""
        old = self.path / "best.old"
        if old.exists() and not self.best.exists():
            old.rename(self.best)
        for leftover in (old, *self.path.glob("*.part")):
            shutil.rmtree(leftover, ignore_errors=True)

    def states(self) -> list[Path]:
        """Whole states, the latest last."""
        found = [p for p in self.path.glob("state-*") if (p / _POSITION).exists()]
        return sorted(found, key=_number)

    def position(self) -> tuple[Path, Position] | None:
        """Return the latest state and where it is; None if nothing was saved yet."""
        if not (states := self.states()):
            return None
        try:
            values = json.loads((states[-1] / _POSITION).read_text("utf-8"))
            return states[-1], Position(**values)
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(
                f"{states[-1]}: is damaged ({error}); remove it, or begin again elsewhere"
            ) from error

    def put_state(self, position: Position, fill: Callable[[Path], None], main: bool) -> None:
        """Keep a state; `fill` writes all but the position, in every process, `main` the rest.

        If there is no room, or another process is gone, the state before stays.
        """
        part = self.path / "state.part"
        try:
            part.mkdir(exist_ok=True)
            fill(part)
            if main:
                (part / _POSITION).write_text(json.dumps(asdict(position)), "utf-8")
                older = self.states()
                part.rename(self.path / f"state-{_number(older[-1]) + 1 if older else 1}")
                for state in older:
                    shutil.rmtree(state, ignore_errors=True)
        except (OSError, RuntimeError, ModelError) as error:  # torch: RuntimeError on a full disk
            shutil.rmtree(part, ignore_errors=True)
            raise _unwritten(self.path, error) from error

    def put_best(self, fill: Callable[[Path], None]) -> None:
        """Put what `fill` writes in place of the best checkpoint; else the one before stays."""
        part, old = self.path / "best.part", self.path / "best.old"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            fill(part)
            if self.best.exists():
                self.best.rename(old)
            part.rename(self.best)
            shutil.rmtree(old, ignore_errors=True)
        except (OSError, ModelError) as error:
            raise _unwritten(self.path, error) from error


def _number(state: Path) -> int:
    return int(state.name.partition("-")[2])


def _unwritten(path: Path, error: Exception) -> TrainingError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    what, remedy = f"cannot be written ({said})", "make room and continue"
    if isinstance(error, RuntimeError) and any(name in said for name in _BACKENDS):
        what, remedy = f"another process of this run is gone ({said})", "continue"
    return TrainingError(f"{path}: {what}; what was saved before is whole: {remedy} with --resume")


def _changes(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _changes(a, b, f"{path}{key}.")
        elif a != b:
            yield f"{path}{key}", a, b
