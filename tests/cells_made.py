"""Cells on this machine: hubs over CURVE with null nodes, a map, and who hears what they say."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from places import ROOT

from abhinaya.stream.cells.map import Cell, CellMap, State, encode
from abhinaya.stream.run.others import Ledgers, Others
from abhinaya.stream.wire.keys import Keys, make_keys, read_public
from abhinaya.stream.wire.messages import Activity, Event, StreamStarted

HUB: Final = """
import sys, threading
from pathlib import Path
sys.path.append(sys.argv[1])
from null_program import config
from abhinaya.bench.null_nodes import NEEDS, null_node
from abhinaya.stream.hub.main import serve
from abhinaya.stream.wire.child import Stop
from abhinaya.stream.wire.keys import Keys
endpoint, keys, server = sys.argv[2:]
for service in NEEDS:
    node = (endpoint, service, Stop(), 0.0, Keys(Path(keys).parent / "clients", "node", server))
    threading.Thread(target=null_node, args=node, daemon=True).start()
serve(config(), endpoint, Stop(), Keys(Path(keys), "hub"))
"""


class Cells:
    """Runs hubs until `close`; each call of `publish` writes the map."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.map, self.keys, self.epoch = folder / "cells.json", folder / "clients", 0
        self.folder = folder
        self.hubs: dict[str, subprocess.Popen[bytes]] = {}
        self.cells: dict[str, Cell] = {}
        self.heard: dict[str, set[str]] = {}
        """By cell: the streams that have started there, of any run."""
        self._readers = dict[str, Others]()
        for role in ("node", "operator", "reader"):
            make_keys(self.keys, role, role)
        for name in names:
            self.start(name)
        self.publish()

    def start(self, name: str) -> None:
        """Start the hub of a cell, again or for the first time."""
        keys = self.folder / name
        if name not in self.cells:
            make_keys(keys, "hub")
            for client in self.keys.glob("*.key"):
                shutil.copy(client, keys)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                endpoint = f"tcp://127.0.0.1:{free.getsockname()[1]}"
            key = read_public(keys / "hub.key").public
            self.cells[name] = Cell(name=name, endpoint=endpoint, key=key)
            self._listen(name)
        cell = self.cells[name]
        command = [sys.executable, "-c", HUB, str(ROOT / "tests"), cell.endpoint, str(keys)]
        self.hubs[name] = subprocess.Popen([*command, cell.key])

    def kill(self, name: str) -> None:
        self.hubs[name].kill()
        self.hubs[name].wait()

    def publish(self, **states: State) -> CellMap:
        """Write the map, with new states of some cells; return it."""
        for name, state in states.items():
            old = self.cells[name]
            self.cells[name] = Cell(name=name, endpoint=old.endpoint, key=old.key, state=state)
        self.epoch += 1
        made = CellMap(epoch=self.epoch, cells=tuple(self.cells.values()))
        unfinished = self.map.with_suffix(".part")
        unfinished.write_bytes(encode(made))
        os.replace(unfinished, self.map)
        return made

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        for name in self.hubs:
            self.kill(name)

    def _listen(self, name: str) -> None:
        heard, lock = self.heard.setdefault(name, set()), threading.Lock()

        def take(event: Event | Activity, run: str) -> None:
            if isinstance(event, StreamStarted):
                with lock:
                    heard.add(event.info.stream)

        cell, own = self.cells[name], Keys(self.keys, "reader")
        reader = Others(cell.endpoint, cell.keys(own), "test", "", take, Ledgers())
        reader.start()
        self._readers[name] = reader
