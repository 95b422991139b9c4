"""Placement on this machine: one supervisor starts, watches and restarts all processes.

Each actor of the Ray placement has such a placement with one process: restarts in place, exit
reports and lifelines are one code.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from abhinaya.stream.errors import ProcessError
from abhinaya.stream.run.distant import LocalBeats
from abhinaya.stream.run.placement.base import ADDRESS, Machine, Placed, Process
from abhinaya.stream.run.placement.base import Stage as PlacedStage
from abhinaya.stream.run.supervisor import Spec, Supervisor
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.wire.child import Stage, leave_hub, read_beat

_LOG = logging.getLogger("abhinaya.placement")

LEAVE_S: Final = 1.0
"""Seconds that the processes have to exit at the end."""

_STAGES: Final[Mapping[Stage, PlacedStage]] = {
    Stage.STARTING: "starting",
    Stage.WAITING: "starting",
    Stage.READY: "running",
    Stage.ENDED: "ended",
    Stage.GIVEN_UP: "given up",
}


@dataclass(slots=True)
class _Held:
    """A process, and what is known of it."""

    process: Process
    machine: Machine | None = None
    """None while it waits for room."""
    restarts: int = 0
    error: str = ""
    patience_s: float | None = None
    """Seconds in which it may finish; None while it is not asked to."""
    kill_at: float | None = None

    @property
    def stopping(self) -> bool:
        return self.patience_s is not None


class Local:
    """Processes of this machine.

    Args:
        directory: private directory for settings, logs and exit reports.
        config: time limits and number of restarts.
        machines: what this machine stands for, at least one; several for the twin of a cluster.

    """

    def __init__(
        self, directory: Path, config: SuperviseConfig, machines: Sequence[Machine]
    ) -> None:
        self._directory = directory
        self._machines = tuple(machines)
        self._supervisor = Supervisor(config, directory)
        self._beats = LocalBeats(config.silent_s)
        self._held: dict[str, _Held] = {}
        self._config = b""
        self._closed = False

    def machines(self) -> Sequence[Machine]:
        """Return the machines that this one stands for."""
        return self._machines

    def start(self, process: Process) -> None:
        """Start a process as soon as a machine has room for it."""
        before = self._held.get(process.name)
        held = self._held[process.name] = _Held(process)
        if before is not None:
            held.restarts, held.error = before.restarts + 1, before.error
        self._place(held)

    def move(self, name: str, hub: str) -> None:
        """Let a process connect to a hub at another endpoint."""
        if (held := self._held.get(name)) is not None:
            held.process = replace(held.process, hub=hub)
            leave_hub(self._directory, name, hub)

    def stop(self, name: str, patience_s: float) -> None:
        """Ask a process to finish its work and exit; kill it after `patience_s`."""
        held = self._held.get(name)
        if held is None:
            return
        if held.machine is not None and not held.stopping:
            self._supervisor.ask_to_stop([name])
        if held.patience_s is None or patience_s < held.patience_s:
            held.patience_s, held.kill_at = patience_s, None

    def look(self, now: float) -> Mapping[str, Placed]:
        """Restart and kill what is due; return the state of every process."""
        for death in self._supervisor.tick(now):
            held = self._held[death.name]
            if death.error is not None and not held.stopping:
                held.error = str(death.error)
                held.restarts += not death.final
        self._watch(now)
        found = {}
        for name, held in list(self._held.items()):
            if held.machine is None and not held.stopping:
                self._place(held)
            found[name] = self._placed(name, held)
            if held.patience_s is not None:
                self._end(now, name, held, held.patience_s)
        return found

    def close(self, kill: bool) -> None:
        """End all processes; `kill`: without waiting for them. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._supervisor.stop(0.0 if kill else LEAVE_S)

    # --- how it works -----------------------------------------------------------------------------

    def _place(self, held: _Held) -> None:
        process = held.process
        held.machine = next((m for m in self._machines if self._has_room(m, process)), None)
        if held.machine is None:
            return
        self._write(process)
        address = held.machine.address
        arguments = tuple(text.replace(ADDRESS, address) for text in process.arguments)
        arguments += ("--endpoint", process.hub) if process.hub else ()
        spec = Spec(process.name, process.module, arguments, process.services)
        self._supervisor.start(spec)

    def _write(self, process: Process) -> None:
        """Write what the process reads at its start."""
        try:
            if process.hub:
                leave_hub(self._directory, process.name, process.hub)
            if process.config != self._config:
                unfinished = self._directory / "config.part"
                unfinished.write_bytes(process.config)
                unfinished.rename(self._directory / "config.json")
                self._config = process.config
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise ProcessError(str(self._directory), reason) from error

    def _has_room(self, machine: Machine, process: Process) -> bool:
        if process.machines and machine.label not in process.machines:
            return False
        others = [
            held.process
            for name, held in self._held.items()
            if held.machine == machine and not self._is_over(name, held)
        ]
        cpus = machine.cpus - sum(other.cpus for other in others)
        gpus = machine.gpus - sum(other.gpus for other in others)
        return process.cpus <= cpus + 1e-9 and process.gpus <= gpus + 1e-9

    def _watch(self, now: float) -> None:
        """Find which processes beat; those that do not any more are suspected."""
        names = [name for name, held in self._held.items() if held.machine is not None]
        self._beats.keep(names)
        for name in names:
            beat = read_beat(self._directory, name)
            if beat is not None and self._beats.found(now, name, beat):
                self._supervisor.ready(name)
        self._supervisor.suspect(list(self._beats.suspects(now, names)))
        for text in self._supervisor.news:
            _LOG.warning("%s", text)
        self._supervisor.news.clear()

    def _placed(self, name: str, held: _Held) -> Placed:
        if held.machine is None:
            stage: PlacedStage = "ended" if held.stopping else "waiting for room"
            return Placed(name, stage, stopping=held.stopping, restarts=held.restarts)
        stage = _STAGES[self._supervisor.stages()[name]]
        if held.stopping and stage == "given up":
            stage = "ended"
        pid = self._supervisor.pid(name)
        return Placed(
            name,
            stage,
            held.machine.label,
            held.machine.address,
            "" if pid is None else str(pid),
            held.process.hub,
            held.stopping,
            held.restarts,
            held.error,
        )

    def _end(self, now: float, name: str, held: _Held, patience_s: float) -> None:
        """Forget a process that was asked to stop and has ended; kill one that takes too long."""
        if self._is_over(name, held):
            del self._held[name]
            if held.machine is not None:
                self._supervisor.forget(name)
        elif held.kill_at is None:
            held.kill_at = now + patience_s
        elif held.kill_at <= now:
            self._supervisor.kill(name, "", "did not finish in time")

    def _is_over(self, name: str, held: _Held) -> bool:
        over = (Stage.ENDED, Stage.GIVEN_UP)
        return held.machine is None or self._supervisor.stages()[name] in over


def this_machine() -> tuple[float, float]:
    """Return how many CPUs and GPUs this process may use."""
    gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return float(len(os.sched_getaffinity(0))), float(gpus)
