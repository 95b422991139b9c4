"""The seam between the controller of a cluster and what starts its processes.

The controller says which processes shall run; a `Placement` starts each on a machine, restarts it
when it dies, and says what has become of it. It decides nothing about cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

ADDRESS = "{address}"
"""In the arguments of a process: the address of the machine on which it starts."""

Stage = Literal["waiting for room", "starting", "running", "ended", "given up"]
"""waiting for room: no machine has what it needs. starting: also while it waits for a restart.
running: it beats. ended: it was stopped, however it ended. given up: it died too often, or cannot
work at all; `error` says why. Only `start` starts it again."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process to run: `python -m MODULE --directory D --lifeline N ARGUMENTS`.

    It leaves a heartbeat (`wire/child.py`, `Stop.beat`), and an exit report if it fails.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    """May contain ADDRESS. No secrets: keys are files on each machine."""
    hub: str = ""
    """Endpoint of its hub, passed on as --endpoint; `Placement.move` changes it."""
    services: tuple[str, ...] = ()
    """Services of a node."""
    config: bytes = b""
    """Settings (`settings/config.encode`), the same for all processes of a placement."""
    cpus: float = 0.0
    gpus: float = 0.0
    """May be a fraction: processes share a GPU."""
    machines: tuple[str, ...] = ()
    """Labels of the machines on which it may run; empty: any."""
    never_on_head: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of the cluster."""

    label: str
    address: str
    cpus: float
    gpus: float
    head: bool = False
    version: str = ""
    """Of our package there."""
    alive: bool = True


@dataclass(frozen=True, slots=True)
class Placed:
    """What has become of a process."""

    name: str
    stage: Stage
    machine: str = ""
    """Label of its machine; empty while it waits for room."""
    address: str = ""
    incarnation: str = ""
    """Its process id; empty while no process runs. On another machine, or with another id, it is
    another process."""
    hub: str = ""
    """The endpoint that it uses; not that of the controller if it was restarted elsewhere."""
    stopping: bool = False
    """Whether it was asked to stop."""
    restarts: int = 0
    """How often it died and was started again."""
    error: str = ""
    """Why it died last, or what it waits for."""


class Placement(Protocol):
    """Starts, watches and stops processes. No method waits for a process.

    Calls come from one thread; `now` is time.monotonic(). An unknown name changes nothing.
    """

    def machines(self) -> Sequence[Machine]:
        """Return all machines that have joined, also those that are lost.

        Raises:
            NetworkError: the engine does not answer.

        """
        ...

    def start(self, process: Process) -> None:
        """Start a process and keep it running; the name must be new or given up.

        From now on `look` lists it, first as `starting` or `waiting for room`.
        """
        ...

    def move(self, name: str, hub: str) -> None:
        """Let a running process connect to a hub at another endpoint, without a restart."""
        ...

    def stop(self, name: str, patience_s: float) -> None:
        """Ask a process to finish its work and exit; kill it after `patience_s`.

        It is forgotten when it has ended and `look` has said so once. A second call can only
        shorten the patience.
        """
        ...

    def look(self, now: float) -> Mapping[str, Placed]:
        """Restart and kill what is due; return the state of every process, by name.

        Also of those that a controller before this one has started.

        Raises:
            NetworkError: the engine does not answer.

        """
        ...

    def close(self, kill: bool) -> None:
        """Let go of the engine; `kill`: end all processes first. A second call does nothing.

        Processes of the local placement always end with it.
        """
        ...
