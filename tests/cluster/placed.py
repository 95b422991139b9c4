"""`abhinaya cluster up` on the machines of a lab: Ray places hubs and nodes, and watches them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from cluster.calls import NAMES, PLUGIN, PROFILE
from cluster.lab import BIN, Lab, Machine, until

from abhinaya.stream.cells.map import Cell, CellMap, decode

CELLS: Final = ("alpha", "beta")
HUB: Final = "abhinaya.stream.hub.main"
NODE: Final = "abhinaya.stream.node.main"
REDIS_PORT: Final = 6380
READY_S: Final = 120

FILE: Final = """
name = "lab"
profile = "{folder}/lab.toml"
keys = "{folder}/keys"
state = "{folder}/s"

[[cells]]
name = "alpha"
port = 7800
[[cells]]
name = "beta"
port = 7810

[services.loudness]
minimum = 1
maximum = 3
cpus = 0.9

[ray]
redis = "{head}:{redis}"
"""
"""Room for hub and node on each machine, and for one more hub; two nodes on the head."""
MACHINE: Final = """
[[machines]]
label = "{label}"
address = "{address}"
head = {head}
cpus = 2
"""


class Placed:
    """A cluster on three machines; one more may join."""

    title = "ray"

    def __init__(self, lab: Lab) -> None:
        self.lab, self.client = lab, lab.machine("client")
        self.head, *self.others = (lab.machine(f"m{n}") for n in range(1, 4))
        self.spare = lab.machine("m4")
        self.profile = lab.folder / "lab.toml"
        self.profile.write_text(PROFILE)
        self.file = lab.folder / "cluster.toml"
        text = FILE.format(folder=lab.folder, head=self.head.address, redis=REDIS_PORT)
        for machine in (self.head, *self.others, self.spare):
            head = "true" if machine is self.head else "false"
            text += MACHINE.format(label=machine.name, address=machine.address, head=head)
        self.file.write_text(text)
        self.command(self.head, "keys")

    def up(self) -> None:
        """Start everything, and wait until both cells are in the map."""
        options = ("--port", REDIS_PORT, "--bind", self.head.address, "--protected-mode", "no")
        self.head.start("redis-server", *options, "--save", "", log="redis.log")
        self.join(self.head)
        for machine in self.others:
            self.join(machine)
        self.wait()

    def join(self, machine: Machine) -> None:
        """Let a machine join the cluster, as its operator does."""
        command = (BIN / "abhinaya", "cluster", "up", self.file, "--machine", machine.name)
        machine.start(*command, log="up.log", **PLUGIN)

    def command(self, machine: Machine, *words: object) -> str:
        """Run `abhinaya cluster ...` on a machine; return what it writes."""
        verb, *rest = words
        command = (BIN / "abhinaya", "cluster", verb, self.file, *rest)
        return machine.run(*command, **PLUGIN).stdout

    @property
    def options(self) -> Sequence[object]:
        """Return how calls reach the cells."""
        keys = ("--keys", self.lab.folder / "keys" / "clients", "--key-name", "input")
        return ("--cells", self.lab.folder / "s" / "cells.json", *keys)

    def map(self) -> CellMap | None:
        """Return the map of cells."""
        file = self.lab.folder / "s" / "cells.json"
        return decode(file.read_bytes(), file) if file.exists() else None

    def open(self) -> set[str]:
        """Return the names of the cells that are open."""
        cells = self.map()
        return {cell.name for cell in cells.cells if cell.state == "open"} if cells else set()

    def calls_of(self, name: str) -> set[str]:
        """Return the calls that this cell has when all cells are open."""
        cells = CellMap(epoch=1, cells=tuple(Cell(name=cell, endpoint=cell) for cell in CELLS))
        return {call for call in NAMES if cells.choose(call) == cells.cell(name)}

    def processes(self, cell: str) -> list[int]:
        """Return the processes of a cell, on all machines."""
        machines = self.lab.machines.values()
        return [pid for m in machines for program in (HUB, NODE) for pid in m.pids(program, f"{cell}.")]

    def wait(self) -> None:
        """Wait until both cells are open, and each has a hub and a node."""

        def well() -> bool:
            return self.open() == set(CELLS) and all(len(self.processes(c)) > 1 for c in CELLS)

        until(well, READY_S, "all is up")

    def machine_of(self, program: str, cell: str) -> Machine:
        """Return the machine on which a process of a cell is."""
        (found,) = [m for m in self.lab.machines.values() if m.pids(program, f"{cell}.")]
        return found

    def hub_machine(self, name: str) -> Machine:
        """Return the machine of the hub of a cell."""
        return self.machine_of(HUB, name)

    def kill_hub(self, name: str) -> float:
        """Kill the hub of a cell; return when."""
        return self._kill(HUB, name)

    def kill_node(self, name: str) -> float:
        """Kill the node of a cell; return when."""
        return self._kill(NODE, name)

    def _kill(self, program: str, cell: str) -> float:
        machine, at = self.machine_of(program, cell), time.monotonic()
        assert machine.kill(program, f"{cell}.") == 1
        return at

    def kill_raylet(self, name: str) -> float:
        """Kill the raylet under the hub of a cell: Ray loses the machine; return when."""
        machine, at = self.hub_machine(name), time.monotonic()
        assert machine.kill("raylet/raylet") == 1
        return at

    def lose(self, machine: Machine) -> None:
        """Kill all that runs on a machine, but not Redis."""
        for words in (("cluster", "up"), ("ray",), ("abhinaya",)):
            machine.kill(*words)
