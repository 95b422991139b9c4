"""Standing hubs and nodes over CURVE on the machines of a lab; a map of cells by hand."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Sequence
from typing import Final

from cluster.calls import NAMES, PLUGIN, PROFILE
from cluster.lab import BIN, Lab, Machine

from abhinaya.stream.cells.map import Cell, CellMap, State, encode
from abhinaya.stream.wire.keys import make_keys, read_public

PORT: Final = 7800
CLIENTS: Final = ("node", "input", "reader")


class Standing:
    """Cells that nobody supervises: the test starts them again, as systemd would.

    The hub of a cell and its node are on different machines.
    """

    title = "standing"

    def __init__(self, lab: Lab) -> None:
        self.lab, self.epoch, self.map = lab, 0, lab.folder / "cells.json"
        self.client = lab.machine("client")
        self.hubs: dict[str, Machine] = {}
        self.nodes: dict[str, Machine] = {}
        self.states: dict[str, State] = {}
        self.profile = lab.folder / "lab.toml"
        self.profile.write_text(PROFILE)
        self.keys = lab.folder / "keys"
        for name in CLIENTS:
            make_keys(self.keys / "clients", name, name)

    @property
    def options(self) -> Sequence[object]:
        """Return how calls reach the cells."""
        keys = ("--keys", self.keys / "clients", "--key-name", "input")
        return ("--cells", self.map, *keys)

    def calls_of(self, name: str) -> set[str]:
        """Return the calls that this cell has when all cells are open."""
        cells = CellMap(epoch=1, cells=tuple(Cell(name=cell, endpoint=cell) for cell in self.hubs))
        return {call for call in NAMES if cells.choose(call) == cells.cell(name)}

    def cell(self, name: str, hub: Machine, node: Machine) -> None:
        """Start a cell, or start it again on other machines."""
        folder, seen = self.keys / "cells" / name, self.keys / f"node-{name}"
        if name not in self.hubs:
            make_keys(folder, "hub")
            for client in CLIENTS:
                shutil.copy(self.keys / "clients" / f"{client}.key", folder)
            seen.mkdir(mode=0o700)
            shutil.copy(self.keys / "clients" / "node.key_secret", seen)
            shutil.copy(folder / "hub.key", seen)
        self.hubs[name], self.nodes[name] = hub, node
        self.start_hub(name)
        self.start_node(name)

    def endpoint(self, name: str) -> str:
        """Return where the hub of a cell is."""
        return f"tcp://{self.hubs[name].address}:{PORT + 10 * list(self.hubs).index(name)}"

    def start_hub(self, name: str) -> None:
        """Start the hub of a cell."""
        keys = ("--keys", self.keys / "cells" / name, "--key-name", "hub")
        self._start(self.hubs[name], "hub", self.endpoint(name), *keys, log=f"hub-{name}")

    def start_node(self, name: str) -> None:
        """Start the node of a cell."""
        keys = ("--keys", self.keys / f"node-{name}", "--name", f"{name}-loudness-0")
        arguments = ("node", "loudness", self.endpoint(name), *keys)
        self._start(self.nodes[name], *arguments, log=f"node-{name}")

    def _start(self, machine: Machine, *arguments: object, log: str) -> None:
        command = (BIN / "abhinaya", *arguments, "--profile", self.profile)
        machine.start(*command, log=f"{log}.log", **PLUGIN)

    def hub_machine(self, name: str) -> Machine:
        """Return the machine of the hub of a cell."""
        return self.hubs[name]

    def kill_hub(self, name: str) -> float:
        """Kill the hub of a cell, and start it again; return when it was killed."""
        at = self._kill(self.hubs[name], "hub", name)
        self.start_hub(name)
        return at

    def kill_node(self, name: str) -> float:
        """Kill the node of a cell, and start it again; return when it was killed."""
        at = self._kill(self.nodes[name], "node", name)
        self.start_node(name)
        return at

    def lose(self, name: str) -> float:
        """Kill a whole cell; return when."""
        self._kill(self.hubs[name], "hub", name)
        return self._kill(self.nodes[name], "node", name)

    def freeze_hub(self, name: str, seconds: float) -> None:
        """Stop the hub of a cell for a while; its connections stay."""
        self._kill(self.hubs[name], "hub", name, signal.SIGSTOP)
        time.sleep(seconds)
        self._kill(self.hubs[name], "hub", name, signal.SIGCONT)

    def _kill(
        self,
        machine: Machine,
        program: str,
        name: str,
        sent: signal.Signals = signal.SIGKILL,
    ) -> float:
        at = time.monotonic()
        words = (str(BIN / "abhinaya"), program, self.endpoint(name))
        assert machine.kill(*words, signal=sent) == 1
        return at

    def publish(self, **states: State) -> None:
        """Write the map of cells, with new states of some."""
        self.states |= states
        self.epoch += 1
        cells = [
            Cell(name=name, endpoint=self.endpoint(name), key=self._key(name), state=state)
            for name, state in self.states.items()
        ]
        unfinished = self.lab.folder / "cells.part"
        unfinished.write_bytes(encode(CellMap(epoch=self.epoch, cells=tuple(cells))))
        os.replace(unfinished, self.map)

    def _key(self, name: str) -> str:
        return read_public(self.keys / "cells" / name / "hub.key").public
