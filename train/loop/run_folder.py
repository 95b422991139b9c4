"""The folder of a run.

    run.json      recipe and hash of the data; a resumed run compares them
    log.jsonl     one JSON object per line: steps, validations, end
    best/         the best checkpoint so far, which the monitor can load
    state-N/      the latest saved state: position, weights, optimiser

Folders are written under another name, then renamed: a kill or a full disk leaves the previous one.
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
"""Words in torch's error if another process failed, and not the disk."""


@dataclass(frozen=True, slots=True)
class Position:
    """The next step of a run, and its best validation so far."""

    stage: int = 0
    epoch: int = 0
    """Epoch of the stage, from 0."""
    step: int = 0
    """Step of the epoch, from 0."""
    taken: int = 0
    """Steps taken in all stages."""
    best: float | None = None
    """Best validation score."""
    best_at: int = 0
    """Value of `taken` at the best validation."""
    stale: int = 0
    """Number of validations of this stage since the best one."""
    log_bytes: int = 0
    """Length of log.jsonl."""


class RunFolder:
    """The files of one run. Methods raise TrainingError if a file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = path / "best"
        self.log = path / "log.jsonl"
        self._about = path / "run.json"

    def begin(self, recipe: Mapping[str, Any], data: str, made_by: str) -> None:
        """Create the folder of a new run. Raises TrainingError if it holds a run already."""
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
        """Raise TrainingError if the recipe or the data differs from that of the run's start."""
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
        """Finish or undo a write that a kill interrupted."""
        old = self.path / "best.old"
        if old.exists() and not self.best.exists():
            old.rename(self.best)
        for leftover in (old, *self.path.glob("*.part")):
            shutil.rmtree(leftover, ignore_errors=True)

    def states(self) -> list[Path]:
        """Return the complete states, the latest last."""
        found = [p for p in self.path.glob("state-*") if (p / _POSITION).exists()]
        return sorted(found, key=_number)

    def position(self) -> tuple[Path, Position] | None:
        """Return folder and position of the latest state; None if there is none."""
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
        """Save a state. `fill` writes the files, in every process; `main`: this is the main one.

        If this fails, the previous state remains.
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
        """Replace the best checkpoint by what `fill` writes; if that fails, keep the old one."""
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
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    what, remedy = f"cannot be written ({reason})", "make room and continue"
    if isinstance(error, RuntimeError) and any(name in reason for name in _BACKENDS):
        what, remedy = f"another process of this run has ended ({reason})", "continue"
    return TrainingError(f"{path}: {what}; the last saved state is intact: {remedy} with --resume")


def _changes(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _changes(a, b, f"{path}{key}.")
        elif a != b:
            yield f"{path}{key}", a, b
