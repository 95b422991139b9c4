"""`abhinaya cluster up` in a lab: on one machine, or on several, where Ray places all processes."""

from __future__ import annotations

import json
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
"""
ONE: Final = """cpus = 0.25
"""
RAY: Final = """cpus = 0.9
machines = ["m2", "m3", "m4"]

[ray]
redis = "127.0.0.1:{redis}"
"""
"""No node is on the head, so calls go on as they were while it is away."""
MACHINE: Final = """
[[machines]]
label = "{label}"
address = "{address}"
head = {head}
cpus = 3
"""
"""One has room for two hubs and two nodes, two have room for five nodes beside the hubs."""


class Placed:
    """A cluster on one machine, from which the calls come; or on three, and one more may join."""

    def __init__(self, lab: Lab, on_ray: bool) -> None:
        self.lab, self.on_ray = lab, on_ray
        self.title = "ray" if on_ray else "one machine"
        self.head, *self.others = (lab.machine(f"m{n}") for n in range(1, 4 if on_ray else 2))
        self.client, self.spare = self.head, self.head
        self.profile = lab.folder / "lab.toml"
        self.profile.write_text(PROFILE)
        self.file, self.map = lab.folder / "cluster.toml", lab.folder / "s" / "cells.json"
        self.text = FILE.format(folder=lab.folder)
        if not on_ray:
            self.text += ONE
        else:
            self.client, self.spare = lab.machine("client"), lab.machine("m4")
            self.text += RAY.format(redis=REDIS_PORT)
            for machine in (self.head, *self.others, self.spare):
                head = "true" if machine is self.head else "false"
                self.text += MACHINE.format(label=machine.name, address=machine.address, head=head)
        self.file.write_text(self.text)
        self.command("keys")

    def up(self) -> float:
        """Start everything; return after how many seconds both cells were there."""
        begun = time.monotonic()
        if self.on_ray:
            self.start_redis()
        for machine in (self.head, *self.others):
            self.join(machine)
        self.wait()
        return time.monotonic() - begun

    def start_redis(self) -> None:
        """Start the store of the state of Ray's head, with what it had."""
        folder = self.lab.folder / "redis"
        folder.mkdir(exist_ok=True)
        options = ("--port", REDIS_PORT, "--bind", "127.0.0.1", "--dir", folder)
        self.head.start("redis-server", *options, "--appendonly", "yes", log="redis.log")

    def join(self, machine: Machine) -> None:
        """Let a machine join the cluster, as its operator does."""
        label = ("--machine", machine.name) if self.on_ray else ()
        command = (BIN / "abhinaya", "cluster", "up", self.file, *label)
        machine.start(*command, log="up.log", **PLUGIN)

    def command(self, verb: str, *words: object) -> str:
        """Run `abhinaya cluster ...` on the head; return what it writes."""
        return self.head.run(BIN / "abhinaya", "cluster", verb, self.file, *words, **PLUGIN).stdout

    def without(self, cell: str) -> None:
        """Take a cell out of the file, and let the cluster go on with the new one."""
        begin = self.text.index(f'[[cells]]\nname = "{cell}"')
        self.file.write_text(self.text[:begin] + self.text[self.text.index("[services") :])
        self.command("up", *(("--machine", self.head.name) if self.on_ray else ()))

    @property
    def options(self) -> Sequence[object]:
        """Return how calls reach the cells."""
        keys = ("--keys", self.lab.folder / "keys" / "clients", "--key-name", "input")
        return ("--cells", self.map, *keys)

    def open(self) -> set[str]:
        """Return the names of the cells that are open."""
        if not self.map.exists():
            return set()
        cells = decode(self.map.read_bytes(), self.map).cells
        return {cell.name for cell in cells if cell.state == "open"}

    def calls_of(self, name: str) -> set[str]:
        """Return the calls that this cell has when all cells are open."""
        cells = CellMap(epoch=1, cells=tuple(Cell(name=cell, endpoint=cell) for cell in CELLS))
        return {call for call in NAMES if cells.choose(call) == cells.cell(name)}

    def processes(self, cell: str, *programs: str) -> list[tuple[Machine, int]]:
        """Return the hubs or nodes of a cell, and on which machine each is."""
        return [
            (machine, pid)
            for machine in self.lab.machines.values()
            for program in programs or (HUB, NODE)
            for pid in machine.pids(program, f"{cell}.")
        ]

    def wait(self) -> None:
        """Wait until no machine is lost, both cells are open, and each has a hub and a node."""

        def well() -> bool:
            each = all(self.processes(cell, program) for cell in CELLS for program in (HUB, NODE))
            return each and self.open() == set(CELLS) and self._machines_live()

        until(well, READY_S, "all is up")

    def _machines_live(self) -> bool:
        status = json.loads(self.command("status", "--json"))
        live = [machine["label"] for machine in status["machines"] if machine["alive"]]
        return not self.on_ray or {m.name for m in (self.head, *self.others)} <= set(live)

    def hub_machine(self, name: str) -> Machine:
        """Return the machine of the hub of a cell."""
        ((machine, _),) = self.processes(name, HUB)
        return machine

    def kill_hub(self, name: str) -> float:
        """Kill the hub of a cell; return when."""
        return self._kill(name, HUB)

    def kill_node(self, name: str) -> float:
        """Kill the node of a cell; return when."""
        return self._kill(name, NODE)

    def _kill(self, name: str, program: str) -> float:
        ((machine, _),) = self.processes(name, program)
        at = time.monotonic()
        assert machine.kill(program, f"{name}.") == 1
        return at

    def kill_raylet(self, name: str) -> float:
        """Kill the raylet under the hub of a cell: Ray loses the machine; return when."""
        machine, at = self.hub_machine(name), time.monotonic()
        assert machine.kill("raylet/raylet") == 1
        return at

    def switch_off(self, name: str) -> float:
        """Switch off the machine of the hub of a cell; return when."""
        machine, at = self.hub_machine(name), time.monotonic()
        machine.off()
        return at

    def lose_head(self) -> None:
        """Kill all that runs on the head, but not Redis."""
        for words in (("cluster", "up"), ("ray",), ("abhinaya",)):
            self.head.kill(*words)
