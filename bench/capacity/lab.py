"""A cell on this machine: a real hub on TCP with CURVE, and null nodes, perhaps on one core."""

from __future__ import annotations

import dataclasses
import os
import socket
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from abhinaya.bench.null_nodes import null_config, null_specs
from abhinaya.bench.transport import running
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.keys import HUB, Keys, make_keys

FRONT: Final = "front"
"""Key of fronts and recorder."""


@dataclass(frozen=True, slots=True)
class LabCell:
    """A running cell."""

    endpoint: str
    keys: Keys
    """For fronts and recorder."""
    processes: tuple[int, ...]
    """Process ids: the hub, then its nodes."""

    def hub_seconds(self) -> tuple[float, float]:
        """Return the processor seconds of the hub: of its loop, and of all its other threads."""
        spent = {
            t.id: t.user_time + t.system_time for t in psutil.Process(self.processes[0]).threads()
        }
        loop = spent.pop(self.processes[0])
        return loop, sum(spent.values())


@contextmanager
def cell(services: Collection[str], core: int | None = None) -> Iterator[LabCell]:
    """Run a hub with a null node for each service; all on one core, if one is given."""
    with tempfile.TemporaryDirectory(prefix="abhinaya-") as folder, on_core(core):
        keys = Path(folder)
        for name, role in ((HUB, ""), ("node", "node"), (FRONT, "input")):
            make_keys(keys, name, role)
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        specs = null_specs(dict.fromkeys(services, 0.0), ("--endpoint", endpoint, "--keys", folder))
        config = null_config()
        voters = {name: config.voters[name] for name in services if name != "asr"}
        asr = config.asr if "asr" in services else None
        config = dataclasses.replace(config, voters=voters, asr=asr)
        with running(specs, config) as (_, pids):
            yield LabCell(endpoint, Keys(keys, FRONT), tuple(pids))


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Let this process and the children that it starts run on one core only."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """Return a port of the loopback interface that is free, and the next one too.

    Raises:
        NetworkError: no such port was found.

    """
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise NetworkError("127.0.0.1", "has no two free ports next to each other")
