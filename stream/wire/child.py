"""Common start and end of all child processes: orphan check, stop signal, exit report.

A child holds the reading end of a pipe; only the supervisor holds the writing end. When the
supervisor exits, the pipe closes and the child exits too. A child writes its fatal error to a file,
which the supervisor shows to the user.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from abhinaya.models.interrupts import SIGNALS, Signalled, install
from abhinaya.models.text import pack, say_traceback, unpack
from abhinaya.stream.errors import BY_EXIT_CODE, AbhinayaError, ProcessError
from abhinaya.stream.log import descriptor_of, join_log

EXIT_ORPHANED: Final = 70

STOP: Final = signal.SIGUSR1
"""The supervisor's request to finish and exit. Whoever signals all processes of a run at once, as
service managers do, means the main process, which then ends the others in order."""

BEAT_S: Final = 0.5
"""Seconds between two heartbeats that a child leaves in its directory."""

_LOG = logging.getLogger("abhinaya.child")


class Stage(Enum):
    """Life-cycle state of a process."""

    STARTING = auto()
    READY = auto()
    WAITING = auto()
    """Dead; will be restarted."""
    ENDED = auto()
    GIVEN_UP = auto()


class Stop:
    """Stop request: `asked` is then true, and the process must finish and exit.

    `serving` must be called when all models are loaded. Before, a signal to a process without
    supervisor ends it at once. `beat` must be called in each round of the main loop.
    """

    def __init__(
        self,
        serving: Callable[[], None] = lambda: None,
        beat: Callable[[float], None] = lambda _now: None,
    ) -> None:
        self.asked = False
        self.serving = serving
        self.beat = beat

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True


class ExitReport(msgspec.Struct, frozen=True, kw_only=True):
    """The error that ended a process, or that ended one of its inputs."""

    exit_code: int
    subject: str
    reason: str
    remedy: str
    input: str = ""
    """Name of the input; empty if the whole process ended."""

    @classmethod
    def of(cls, error: AbhinayaError, name: str = "") -> ExitReport:
        """Return the report of an error."""
        return cls(
            exit_code=error.exit_code,
            subject=error.subject,
            reason=error.reason,
            remedy=error.remedy,
            input=name,
        )

    def error(self) -> AbhinayaError:
        """Return the reported error."""
        kind = BY_EXIT_CODE.get(self.exit_code, ProcessError)
        return kind(self.subject, self.reason, self.remedy)


def run_child(name: str, directory: Path, lifeline: int, body: Callable[[Stop], int]) -> int:
    """Run the body of a child process; return its exit code.

    Args:
        name: name of the process.
        directory: directory of the run, for the exit report.
        lifeline: file descriptor of the pipe's reading end.
        body: the work; must check its `Stop` often.

    """
    join_log(name)
    stop = Stop(beat=Heartbeat(directory / f"{name}.beat"))
    signal.signal(STOP, stop._ask)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()
    try:
        return body(stop)
    except AbhinayaError as error:
        leave_exit_report(directory, name, error)
        return error.exit_code
    except Exception as error:  # a bug: report it, and keep the traceback in the log
        say_traceback()
        if descriptor_of() is not None:
            _LOG.exception("%s stopped", name)
        reason = f"stopped on an unexpected {type(error).__name__}: {error}"
        leave_exit_report(
            directory, name, ProcessError(name, reason, f"see {directory}/{name}.log")
        )
        return ProcessError.exit_code


def run_alone(name: str, body: Callable[[Stop], int], alive: Path | None = None) -> int:
    """Run the body of a process that the user starts and stops; log its error; return its code.

    Args:
        name: name of the process.
        body: the work; must check its `Stop` often.
        alive: file that it touches while it serves.

    Raises:
        Signalled: a signal came while it loaded, or a second one while it stopped.

    """
    serves = False

    def serving() -> None:
        nonlocal serves
        serves = True

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.asked or not serves:
            raise Signalled(number)
        stop.asked = True

    stop = Stop(serving, Heartbeat(alive)) if alive else Stop(serving)
    install(ask)
    try:
        return body(stop)
    except AbhinayaError as error:
        _LOG.error("%s stopped: %s", name, error)
        raise


def leave_exit_report(directory: Path, name: str, error: AbhinayaError) -> None:
    """Write the error that ended a process."""
    _write(directory / f"{name}.exit", ExitReport.of(error))


def read_exit_report(directory: Path, name: str) -> AbhinayaError | None:
    """Return the error that ended a process, and delete its report; None without a report."""
    report = _take(directory / f"{name}.exit")
    return report.error() if report else None


def leave_fault(directory: Path, name: str, of_input: str, error: AbhinayaError) -> None:
    """Write the error that ended one input of a process."""
    number = len(list(directory.glob(f"{name}.*.fault")))
    _write(directory / f"{name}.{os.getpid()}-{number}.fault", ExitReport.of(error, of_input))


def read_faults(directory: Path) -> list[tuple[str, AbhinayaError]]:
    """Return (input, error) for each input that failed, and delete the reports."""
    reports = [_take(path) for path in sorted(directory.glob("*.fault"))]
    return [(report.input, report.error()) for report in reports if report]


class Notes:
    """What a front leaves in the directory of its run, nothing if the disk is full.

    Its heartbeat is for a supervisor whose hub is on another machine: a cut then says nothing about
    the front.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self._reached: dict[str, int] = {}

    def __call__(self, reached: dict[str, int]) -> None:
        """Leave a heartbeat, and how far the streams are read."""
        with contextlib.suppress(OSError):
            (self._directory / f"{self._name}.beat").touch()
            if reached != self._reached:
                unfinished = self._directory / f"{self._name}.part"
                unfinished.write_bytes(pack(reached))
                unfinished.rename(self._directory / f"{self._name}.reached")
                self._reached = reached


class Heartbeat:
    """The file that a hub or a node touches, for the one who starts it in a cluster."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._next = 0.0

    def __call__(self, now: float) -> None:
        """Leave a heartbeat, at most every `BEAT_S`."""
        if now >= self._next:
            self._next = now + BEAT_S
            with contextlib.suppress(OSError):
                self._file.touch()


def leave_hub(directory: Path, name: str, endpoint: str, server: str = "") -> None:
    """Write where the hub of a process is now, and its public key if that may be another one.

    A node or a front looks at each heartbeat (`hub_of`), and connects there.
    """
    unfinished = directory / f"{name}.at.part"
    unfinished.write_text(f"{endpoint}\n{server}", "utf-8")
    unfinished.rename(directory / f"{name}.hub")


def hub_of(directory: Path, name: str) -> tuple[str, str]:
    """Return what `leave_hub` has written; empty if nothing."""
    try:
        endpoint, _, server = (directory / f"{name}.hub").read_text("utf-8").partition("\n")
    except OSError:
        return "", ""
    return endpoint, server


def leave_cancelled(directory: Path, name: str, inputs: Sequence[str]) -> None:
    """Write which inputs a front shall end; it looks at each heartbeat (`cancelled_of`)."""
    unfinished = directory / f"{name}.cancelled.part"
    unfinished.write_bytes(pack(inputs))
    unfinished.rename(directory / f"{name}.cancelled")


def cancelled_of(directory: Path, name: str) -> frozenset[str]:
    """Return what `leave_cancelled` has written; empty if nothing."""
    try:
        return frozenset(msgspec.json.decode((directory / f"{name}.cancelled").read_bytes()))
    except OSError:
        return frozenset()


def read_beat(directory: Path, name: str) -> int | None:
    """Return a mark that each heartbeat changes; None before the first."""
    try:
        return (directory / f"{name}.beat").stat().st_mtime_ns
    except OSError:
        return None


def read_reached(directory: Path) -> dict[str, int]:
    """Return how far the fronts have read their streams, also those that are dead."""
    reached: dict[str, int] = {}
    for path in directory.glob("*.reached"):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            for stream, position in msgspec.json.decode(
                path.read_bytes(), type=dict[str, int]
            ).items():
                reached[stream] = max(position, reached.get(stream, 0))
    return reached


def _write(path: Path, report: ExitReport) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(pack(report))
    unfinished.rename(path)


def _take(path: Path) -> ExitReport | None:
    try:
        report = unpack(path.read_bytes(), ExitReport)
        path.unlink()
    except (OSError, ValueError):
        return None
    return report


def _watch(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os._exit(EXIT_ORPHANED)


def wakeup() -> tuple[int, int]:
    """Return (reading end, writing end) of a pipe: a thread writes to wake a polling loop."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    return reading, writing


def wake(writing: int) -> None:
    """Wake the loop."""
    with contextlib.suppress(BlockingIOError):  # the pipe is full: the loop wakes anyway
        os.write(writing, b"\0")


def drain(reading: int) -> None:
    """Discard all wake-ups."""
    with contextlib.suppress(BlockingIOError):
        while os.read(reading, 4096):
            pass
