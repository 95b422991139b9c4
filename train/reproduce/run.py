"""Runs the steps of a plan that are not done, and keeps which are, and for which inputs.

A step is done when its commands have ended well; its inputs are its commands, its settings and the
SHA-256 of the files it reads. A step with other inputs than before begins anew, an unfinished one
with the same continues: its commands keep their own journals and states.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

from abhinaya.models import sums
from abhinaya.models.errors import naming_the_extra
from abhinaya.models.text import say
from abhinaya.train.cli import main as train
from abhinaya.train.data.cli import main as data
from abhinaya.train.errors import DataError, TrainingError
from abhinaya.train.eval.cli import main as evaluate
from abhinaya.train.eval.predict_cli import main as predict
from abhinaya.train.reproduce.plan import Command, Step

COMMANDS: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {
    "data": data,
    "train": train,
    "predict": predict,
    "eval": evaluate,
}
SCHEMA: Final = "abhinaya.reproduction/1"
PRELOAD: Final = ("abhinaya.train.loop.session", "abhinaya.train.reproduce.run")
"""Modules that the processes of heavy steps share."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a step."""

    inputs: str
    """SHA-256 of its inputs."""
    done: bool = False
    seconds: float = 0.0
    """Time of the run that ended it."""


class State:
    """The file WORK/state.json. Raises DataError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.steps: dict[str, Record] = {}
        if path.exists():
            try:
                found = json.loads(path.read_bytes())
                self.steps = msgspec.convert(found["steps"], dict[str, Record])
            except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
                raise DataError(f"{path}: is damaged ({error}); remove it") from error

    def is_done(self, step: Step) -> bool:
        """Return whether a step need not run."""
        record = self.steps.get(step.name)
        if record is None or not record.done or not all(path.exists() for path in step.writes):
            return False
        return record.inputs == inputs_of(step)

    def put(self, name: str, record: Record) -> None:
        """Record a step; the file is replaced at once."""
        self.steps[name] = record
        half = self._path.with_suffix(".half")
        steps = {step: asdict(known) for step, known in self.steps.items()}
        half.write_text(json.dumps({"schema": SCHEMA, "steps": steps}, indent=1) + "\n", "utf-8")
        half.replace(self._path)


def inputs_of(step: Step) -> str:
    """Return the SHA-256 of the inputs of a step; a file that is missing counts as empty."""
    sha = hashlib.sha256(repr((step.commands, step.settings)).encode("utf-8", "surrogateescape"))
    for place in step.reads:
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
        if len(files) > _MOST:  # a corpus: its files are checked by a step of their own
            lines = (f"{path} {path.stat().st_size}" for path in files)
        else:
            lines = (f"{path} {sums.sum_of(path)}" for path in files)
        sha.update("\n".join([str(place), *lines]).encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


_MOST: Final = 100
"""Files of a folder that are read to see whether it has changed; of more, only the sizes are."""


def run(steps: Sequence[Step], state: State, finished: Callable[[Step], None]) -> None:
    """Run the steps that are not done, in order; `finished` is called after each.

    Raises TrainingError: a step failed; its command has said why.
    """
    for number, step in enumerate(steps, 1):
        if state.is_done(step):
            continue
        say(f"[{number}/{len(steps)}] {step.name}")
        inputs, old = inputs_of(step), state.steps.get(step.name)
        if old is not None and old.inputs != inputs:
            _clear(step)
        state.put(step.name, Record(inputs))
        begun = time.monotonic()
        if step.heavy:
            _apart(step)
        else:
            _perform(step)
        if lost := [path for path in step.writes if not path.exists()]:
            raise TrainingError(f"step {step.name}: it has not written {lost[0]}")
        state.put(step.name, Record(inputs, True, round(time.monotonic() - begun, 2)))
        finished(step)


def _clear(step: Step) -> None:
    """Remove what a step with other inputs has written, whole or half."""
    for path in step.writes:
        run = path.parent if path.name == "best" else path
        shutil.rmtree(run, ignore_errors=True) if run.is_dir() else run.unlink(missing_ok=True)
        path.with_name(f"{path.name}.journal").unlink(missing_ok=True)


def _perform(step: Step) -> None:
    for path in step.writes:
        path.parent.mkdir(parents=True, exist_ok=True)
    if step.work is not None:
        step.work()
    for command in step.commands:
        words = [*command[1:], *_resume(command)]
        with naming_the_extra(f"abhinaya {command[0]}"):
            code = COMMANDS[command[0]](words)
        if code:
            raise TrainingError(
                f"step {step.name}: abhinaya {command[0]} has failed (exit code {code}; the reason "
                "is above); run the same command again to continue"
            )


def _resume(command: Command) -> Iterator[str]:
    if "--out" in command and Path(command[command.index("--out") + 1], "run.json").exists():
        yield "--resume"


# --- a process of its own -------------------------------------------------------------------------


def _apart(step: Step) -> None:
    """Run a step in another process, which ends with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD])
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, step))
    child.start()
    sender.close()
    try:
        fault = receiver.recv()
    except EOFError:
        child.join()
        fault = TrainingError(
            f"step {step.name}: its process has ended with code {child.exitcode}, perhaps for lack "
            "of memory; run the same command again to continue"
        )
    except KeyboardInterrupt:
        child.join()  # it got the signal too, and saves
        raise
    child.join()
    if fault is not None:
        raise fault


def _child(sender: multiprocessing.connection.Connection, step: Step) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _perform(step)
    except (Exception, KeyboardInterrupt) as error:
        sender.send(error)
    else:
        sender.send(None)


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Hold the lock of a work folder. Raises DataError if another run works in it."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"{work}: another abhinaya reproduce works in it; wait for its end, or give "
                "another --work"
            ) from error
        yield
