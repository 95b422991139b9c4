"""Runs the steps of a plan that are not done, and keeps which are, and for which inputs.

The inputs of a step are its command, its settings and the SHA-256 of the files it reads. A step
with other inputs than before begins anew; an unfinished one with the same continues, since its
command keeps a journal or states. What a kill leaves half written is never taken for whole.
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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import msgspec

from abhinaya.bench.refine import main as refine
from abhinaya.bench.reproduce.plan import Step
from abhinaya.models import sums
from abhinaya.models.text import say
from abhinaya.train.cli import main as train
from abhinaya.train.data.cli import main as data
from abhinaya.train.errors import DataError, TrainingError
from abhinaya.train.eval.cli import main as evaluate
from abhinaya.train.eval.predict_cli import main as predict

COMMANDS: Final[Mapping[str, Callable[[Sequence[str]], int | None]]] = {
    "data": data,
    "train": train,
    "predict": predict,
    "eval": evaluate,
    "refine": refine,
}
PRELOAD: Final = ("abhinaya.train.loop.session", "abhinaya.bench.reproduce.run")
"""Modules that the processes of heavy steps share."""
_MOST: Final = 100
"""Files of a folder that are read to see whether it has changed; of more, only the sizes are."""
_AGAIN: Final = "run the same command again to continue"


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a step."""

    inputs: str
    """SHA-256 of its inputs."""
    done: bool = False
    seconds: float = 0.0
    """Time of the run that ended it."""


class State:
    """The file WORK/state.json. Raises DataError if it is damaged; OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.steps: dict[str, Record] = {}
        try:
            self.steps = msgspec.json.decode(path.read_bytes(), type=dict[str, Record])
        except FileNotFoundError:
            pass
        except msgspec.MsgspecError as error:
            raise DataError(f"{path}: is damaged ({error}); remove it") from error

    def is_done(self, step: Step) -> bool:
        """Return whether a step need not run."""
        record, there = self.steps.get(step.name), all(path.exists() for path in step.writes)
        return record is not None and record.done and there and record.inputs == inputs_of(step)

    def put(self, name: str, record: Record) -> None:
        """Record a step; the file is replaced at once."""
        self.steps[name] = record
        half = self._path.with_suffix(".half")
        known = {step: asdict(of) for step, of in self.steps.items()}
        half.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
        half.replace(self._path)


def inputs_of(step: Step) -> str:
    """Return the SHA-256 of the inputs of a step."""
    lines = [repr((step.command, step.settings))]
    for place in step.reads:
        files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
        of = sums.sum_of if len(files) <= _MOST else lambda path: path.stat().st_size
        lines += [f"{path} {of(path)}" if path.exists() else f"{path}: missing" for path in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def run(steps: Sequence[Step], state: State) -> None:
    """Run the steps that are not done, in order.

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
        state.put(step.name, Record(inputs, True, round(time.monotonic() - begun, 2)))


def _clear(step: Step) -> None:
    """Remove what a step with other inputs has written, whole or half."""
    for path in step.writes:
        place = path.parent if path.name == "best" else path
        if place.is_dir():
            shutil.rmtree(place)
        for file in (path, path.with_name(f"{path.name}.journal")):
            file.unlink(missing_ok=True)


def _perform(step: Step) -> None:
    for path in step.writes:
        path.parent.mkdir(parents=True, exist_ok=True)
    name, *words = step.command
    begun = step.writes and (step.writes[0].parent / "run.json").exists()
    if code := COMMANDS[name]([*words, "--resume"] if begun else words):
        leave_out = "" if step.writes else f". If it may stay as it is: --without {step.name}"
        raise TrainingError(
            f"step {step.name}: abhinaya {name} has failed (exit code {code}; the reason is "
            f"above); mend that, then {_AGAIN}{leave_out}"
        )


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
        fault = f"its process has been killed, perhaps for lack of memory; {_AGAIN}"
    finally:
        child.join()  # after Ctrl-C, which it got too, it saves its state
    if fault:
        raise fault if isinstance(fault, Exception) else TrainingError(f"{step.name}: {fault}")


def _child(sender: Connection, step: Step) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _perform(step)
        sender.send(None)
    except Exception as error:  # raised again in the other process
        sender.send(error)


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
