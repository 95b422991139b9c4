"""The actor of a process: on its machine it supervises this one process of ours, as a child.

When the actor dies, the child's lifeline closes, and the child exits. Ray starts a lost actor
again, on another machine if it must, and the actor its child. Settings come with the actor, keys
never: they are files on each machine.
"""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.models.command_line import version as version_here
from abhinaya.models.text import pack, unpack
from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.run.placement.base import Machine, Placed, Process
from abhinaya.stream.run.placement.local import Local
from abhinaya.stream.settings.config import decode

DIRECTORY: Final = "ABHINAYA_RAY"
"""Environment variable of all processes of Ray on a machine: folder of sockets and logs."""
MACHINE: Final = "ABHINAYA_MACHINE"
ADDRESS: Final = "ABHINAYA_ADDRESS"

MACHINE_LABEL: Final = "abhinaya-machine"
HEAD_LABEL: Final = "abhinaya-head"
VERSION_LABEL: Final = "abhinaya-version"
"""Labels of Ray's nodes, by which actors choose machines."""

TICK_S: Final = 0.1
"""Interval at which the child is looked at."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an actor says about itself and its process."""

    actor: int
    """Process id of the actor: another one means that Ray has started it again."""
    machine: str
    version: str
    """Of our package there. If it is not that of the controller, nothing was started."""
    placed: Placed | None
    module: str = ""
    cpus: float = 0.0
    gpus: float = 0.0


class Runner:
    """An actor. Only values of Python's own types come and go: versions may differ.

    Args:
        version: of the controller.
        process: a packed `Process`.

    """

    def __init__(self, version: str, process: bytes) -> None:
        self._version = version_here()
        self._lock = threading.Lock()
        self._machine = os.environ[MACHINE]
        self._placed: Placed | None = None
        if version == self._version:
            self._run(unpack(process, Process))

    def _run(self, process: Process) -> None:
        machine = Machine(self._machine, os.environ[ADDRESS], math.inf, math.inf)
        directory = Path(os.environ[DIRECTORY]) / process.name
        directory.mkdir(mode=0o700, exist_ok=True)
        self._name, self._needs = process.name, (process.module, process.cpus, process.gpus)
        self._placed = Placed(process.name, "starting", machine.label, machine.address)
        self._local = Local(directory, decode(process.config).supervise, (machine,))
        self._local.start(process)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        fault = ""
        while self._placed is not None and self._placed.stage != "ended" and not fault:
            with self._lock:
                try:
                    self._placed = self._local.look(time.monotonic())[self._name]
                except (AbhinayaError, OSError) as error:
                    fault = str(error)
                    self._placed = Placed(self._name, "given up", self._machine, error=fault)
            time.sleep(TICK_S)

    def report(self) -> Any:
        """Return a `Report`, as values of Python's own types."""
        needs = () if self._placed is None else self._needs
        report = Report(os.getpid(), self._machine, self._version, self._placed, *needs)
        return msgspec.to_builtins(report)

    def move(self, hub: str) -> None:
        """Let the child connect to a hub at another endpoint."""
        with self._lock:
            self._local.move(self._name, hub)

    def stop(self, patience_s: float) -> None:
        """Ask the child to finish and exit; kill it after `patience_s`."""
        with self._lock:
            self._local.stop(self._name, patience_s)


def packed(process: Process) -> bytes:
    """Return a process as an argument of `Runner`."""
    return pack(process)
