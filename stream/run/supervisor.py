"""Starts, watches, restarts and ends the processes of a run.

`Restarts` decides when a dead process is restarted, and when it is given up; `Supervisor` does it.
No process outlives the supervisor: each child exits when its pipe closes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abhinaya.stream.clock import handed_on
from abhinaya.stream.errors import AbhinayaError, ModelError, ProcessError, SourceError
from abhinaya.stream.hub.watch import Finding, Suspicion
from abhinaya.stream.log import descriptor_of
from abhinaya.stream.run.look import look
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.wire.child import STOP, Stage, read_exit_report
from abhinaya.stream.wire.messages import Suspect

GRACE_S = 1.0
"""Time that a process has to exit by itself before it is killed."""

AT_ONCE: Final = max(8, 2 * (os.cpu_count() or 1))
"""Maximum number of processes that start at the same time; others wait for them."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A process to run."""

    name: str
    module: str
    """Module for `python -m`."""
    arguments: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    """Services of a node."""
    restarts: bool = True
    """Whether a dead process can be restarted."""
    reads_stdin: bool = False
    ends: bool = False
    """Whether it ends by itself when its work is done."""

    @property
    def kind(self) -> str:
        """Its first service, else the name of its program: `hub`, `front`, ..."""
        package, _, module = self.module.rpartition(".")
        program = package.rpartition(".")[2] if module == "main" else module
        return self.services[0] if self.services else program


ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
"""One glibc heap for all threads saves 8 MB for each input, and its two threads hardly wait for
each other. One thread for NumPy's small products: more of them wait busily, which took a quarter of
the processor time of the demo. The user's environment has priority."""


@dataclass(frozen=True, slots=True)
class Death:
    """A process has ended."""

    name: str
    services: tuple[str, ...]
    error: AbhinayaError | None
    """None if it ended without an error."""
    final: bool
    """Whether it will not be restarted."""


class Restarts:
    """Decides when a dead process is restarted, with a growing pause between restarts."""

    def __init__(self, config: SuperviseConfig) -> None:
        self._config = config
        self._deaths: list[float] = []

    def next_start(self, now: float) -> float | None:
        """Count a death; return the time of the restart, None after too many deaths."""
        window = self._config.restart_window_s
        self._deaths = [t for t in self._deaths if now - t < window] + [now]
        if len(self._deaths) > self._config.restarts:
            return None
        return now + self._config.backoff_s * 2.0 ** (len(self._deaths) - 1)


@dataclass(slots=True)
class _Child:
    spec: Spec
    restarts: Restarts
    stage: Stage = Stage.WAITING
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0
    ready_by: float = 0.0
    look_at: float = 0.0
    """Time of the next look at a process that is not ready yet."""
    was_ready: bool = False
    """Whether it only has to report to a new hub."""
    kill_at: float | None = None
    why_killed: str = ""
    suspicion: Suspicion | None = None
    """Why it may be stuck."""
    stopping: bool = False
    """Whether it was asked to exit; it is then not restarted."""
    idle: bool = False
    """Whether it has no work left: it may be killed."""


class Supervisor:
    """The processes of one run.

    Args:
        config: time limits and number of restarts.
        directory: private directory for logs, sockets and exit reports.

    """

    def __init__(self, config: SuperviseConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self._children: dict[str, _Child] = {}
        self.news: list[str] = []
        """New messages for the user."""
        self.restarts: Counter[str] = Counter()
        """How often dead processes were started again, by kind (`Spec.kind`)."""
        self._lifeline, self._held = os.pipe()
        os.set_inheritable(self._lifeline, True)

    def start(self, spec: Spec) -> None:
        """Start a process and keep it running."""
        child = self._children[spec.name] = _Child(spec, Restarts(self._config))
        if self._may_launch():
            self._launch(child)

    def ready(self, name: str) -> None:
        """Note that a process is ready for work."""
        child = self._children.get(name)
        if child is not None and child.stage is Stage.STARTING:
            child.stage, child.suspicion, child.was_ready = Stage.READY, None, True

    def suspect(self, suspects: Iterable[Suspect]) -> None:
        """Watch these processes: end each that is stuck, unless it only starves; clear others."""
        named = {suspect.name: suspect for suspect in suspects}
        for name, child in self._children.items():
            if child.stage is not Stage.READY or child.process is None:
                continue
            why = named.get(name)
            if why is None or why.incarnation not in ("", str(child.process.pid)):
                child.suspicion = None
            elif child.suspicion is None or child.suspicion.limit_s != why.limit_s:
                child.suspicion = Suspicion(why.reason, why.limit_s, why.used_s)

    def recheck_all(self, hub: str) -> None:
        """Mark each ready process as starting: it is killed if it does not report in time.

        The time begins when the hub is ready: call it until then.
        """
        by = time.monotonic() + 3 * self._config.silent_s
        for name, child in self._children.items():
            if child.was_ready and child.process is not None and name != hub:
                child.stage, child.ready_by = Stage.STARTING, by

    def stop_idle(self, name: str) -> None:
        """End a process that has no work left, after a short grace period."""
        child = self._children[name]
        if child.process is not None and child.kill_at is None:
            child.stopping = child.idle = True
            child.kill_at, child.why_killed = time.monotonic() + GRACE_S, "had nothing left to do"

    def forget(self, name: str) -> None:
        """Forget a process that has ended; an empty log goes with it."""
        del self._children[name]
        log = self._directory / f"{name}.log"
        with contextlib.suppress(OSError):
            if not log.stat().st_size:
                log.unlink()

    def kill(self, name: str, incarnation: str, reason: str) -> None:
        """Kill a silent or stuck process, unless it has been restarted since `incarnation`."""
        child = self._children.get(name)
        if child is None or child.process is None or child.kill_at is not None:
            return
        if incarnation in ("", str(child.process.pid)):
            child.kill_at, child.why_killed = time.monotonic() + GRACE_S, reason

    def tick(self, now: float) -> list[Death]:
        """Restart and kill processes that are due; return those that have ended."""
        deaths = []
        for child in self._children.values():
            if child.stage is Stage.WAITING and now >= child.start_at and self._may_launch():
                self._launch(child)
            if child.process is None:
                continue
            self._enforce_time_limits(child, now)
            code = child.process.poll()
            if code is not None:
                deaths.append(self._ended(child, code, now))
        return deaths

    def stages(self) -> dict[str, Stage]:
        """Return the stage of each process."""
        return {name: child.stage for name, child in self._children.items()}

    def pid(self, name: str) -> int | None:
        """Return the process id; None if it does not run."""
        process = self._children[name].process
        return None if process is None else process.pid

    def ask_to_stop(self, names: Iterable[str]) -> None:
        """Ask processes to finish and exit; they are not restarted."""
        for name in names:
            child = self._children[name]
            child.stopping = True
            if child.process is not None:
                child.process.send_signal(STOP)
            elif child.stage is Stage.WAITING:
                child.stage = Stage.ENDED

    def stop(self, patience_s: float) -> None:
        """End every process: ask first, SIGKILL after `patience_s`."""
        running = [c.process for c in self._children.values() if c.process is not None]
        deadline = time.monotonic() + patience_s
        try:
            for process in running:
                process.send_signal(STOP)
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for process in running:
                process.kill()
            os.close(self._held)
            os.close(self._lifeline)
        for process in running:
            process.wait()
        for child in self._children.values():
            child.process, child.stage = None, Stage.ENDED

    def _may_launch(self) -> bool:
        """Whether few enough processes are starting: many at once would all be late."""
        starting = (c for c in self._children.values() if c.stage is Stage.STARTING)
        return sum(not child.was_ready for child in starting) < AT_ONCE

    def _launch(self, child: _Child) -> None:
        spec = child.spec
        # -P keeps the working directory out of the import path
        command = [sys.executable, "-P", "-m", spec.module]
        command += ["--directory", str(self._directory), "--lifeline", str(self._lifeline)]
        command += spec.arguments
        log_of_run = descriptor_of()
        try:
            with (self._directory / f"{spec.name}.log").open("ab") as log:
                child.process = subprocess.Popen(  # noqa: S603 - our own modules
                    command,
                    stdin=None if spec.reads_stdin else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=ENVIRONMENT | os.environ | handed_on(),
                    pass_fds=[self._lifeline, *([log_of_run] if log_of_run else [])],
                    start_new_session=True,
                )
        except OSError as error:
            raise ProcessError(spec.name, f"cannot be started: {error.strerror}") from error
        child.stage, child.why_killed = Stage.STARTING, ""
        child.ready_by = time.monotonic() + self._config.ready_s
        child.look_at = time.monotonic() + self._config.silent_s
        child.kill_at = child.suspicion = None
        child.was_ready = False

    def _enforce_time_limits(self, child: _Child, now: float) -> None:
        assert child.process is not None
        if child.stage is Stage.STARTING and not child.suspicion:
            if now > child.ready_by:
                child.suspicion = Suspicion("was not ready in time", self._config.ready_s)
            elif now > child.look_at:  # loading takes long, but not one that is frozen
                child.look_at = now + self._config.silent_s
                sample = look(child.process.pid)
                if sample is not None and sample.state == "T":
                    child.suspicion = Suspicion("was not ready", self._config.silent_s)
        if child.suspicion and child.kill_at is None:
            self._judge(child, child.suspicion, child.process)
        if child.kill_at is not None and now >= child.kill_at:
            child.process.kill()

    def _judge(self, child: _Child, why: Suspicion, process: subprocess.Popen[bytes]) -> None:
        """End a suspected process that is stuck; one that only starves gets more time."""
        before, finding = why.finding, why.judge(look(process.pid))
        if finding.deadly:
            child.why_killed = f"{why.reason}: {finding.value}"
            process.kill()
        elif finding is not before and finding is Finding.STARVED:
            text = f"{child.spec.name} {why.reason}: {finding.value}, and goes on"
            self.news.append(f"the machine is overloaded: {text}")

    def _ended(self, child: _Child, code: int, now: float) -> Death:
        child.process = None
        spec = child.spec
        report = read_exit_report(self._directory, spec.name)
        obeyed = child.stopping and code in (0, -STOP)  # -STOP: it had not begun
        if obeyed or child.idle or (code == 0 and spec.ends):
            child.stage = Stage.ENDED
            return Death(spec.name, spec.services, report, True)
        error = report or self._describe(child, code)
        # a faulty input or model will not be better after a restart
        permanent = isinstance(report, SourceError | ModelError)
        restarts = spec.restarts and not (permanent or child.stopping)
        start_at = child.restarts.next_start(now) if restarts else None
        if start_at is None:
            child.stage = Stage.GIVEN_UP
            return Death(spec.name, spec.services, error, True)
        child.stage, child.start_at = Stage.WAITING, start_at
        self.restarts[spec.kind] += 1
        return Death(spec.name, spec.services, error, False)

    def _describe(self, child: _Child, code: int) -> ProcessError:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with {code}"
        why = f" ({child.why_killed})" if child.why_killed else ""
        return ProcessError(child.spec.name, how + why, self._log_end(child.spec.name))

    def _log_end(self, name: str) -> str:
        """Return the last line of the log of a process, as part of an error message."""
        try:
            lines = (self._directory / f"{name}.log").read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return f"its log ends: {lines[-1][:200]}" if lines else ""


def node_specs(service: str, replicas: int, guests: Sequence[str] = ()) -> Sequence[Spec]:
    """Return the processes of one service; they also offer the services in `guests`."""
    return [
        Spec(
            name=f"{service}-{i}",
            module="abhinaya.stream.node.main",
            arguments=("--name", f"{service}-{i}", "--service", service),
            services=(service, *guests),
        )
        for i in range(replicas)
    ]
