"""A cluster on this machine, with real hubs over CURVE and real nodes: it survives what it must."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import ROOT

from abhinaya.stream.cells.map import CellMap
from abhinaya.stream.cluster import keys
from abhinaya.stream.cluster.load import load
from abhinaya.stream.cluster.state import State
from abhinaya.stream.cluster.watch import Watch
from abhinaya.stream.wire.messages import Status

pytestmark = [pytest.mark.processes, pytest.mark.slow]

PROGRAM = [sys.executable, "-P", "-c", "from abhinaya.stream.__main__ import commands; commands()"]
STREAM = [sys.executable, "-P", "-c", "from abhinaya.stream.__main__ import stream; stream()"]
FILE = """
name = "twin"
keys = "keys"
{cells}
[services.asr]
cpus = 0.4
[gateway]
port = 23_810
cpus = 0.1
"""
CELL = '[[cells]]\nname = "{}"\nport = {}\nhub_cpus = 0.1\n'
A, B = CELL.format("a", 23_800), CELL.format("b", 23_802)
GATEWAY = 23_810
PATIENCE_S = 60.0
MUST_S = 6.0


def answers(address: str) -> bool:
    """Whether an HTTP server says that it is well."""
    try:
        with urllib.request.urlopen(address) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


class Twin:
    """`abhinaya cluster` with a file, and an operator who listens to its hubs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "cluster.toml"
        self.log = folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.write(A)
        self.command("keys")
        self.state = State(folder / "state")
        self.watch = Watch(folder / "keys", 4.0)

    def write(self, *cells: str) -> None:
        self.file.write_text(FILE.format(cells="".join(cells)))

    def command(self, name: str, *more: str) -> str:
        done = subprocess.run(
            [*PROGRAM, "cluster", name, self.file, *more],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def up(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen([*PROGRAM, "cluster", "up", self.file], stderr=log)

    def leave(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        self.watch.close()

    def until(self, holds: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
        """Return how long it took until something held."""
        begun = time.monotonic()
        while time.monotonic() < begun + patience_s:
            if holds():
                return time.monotonic() - begun
            time.sleep(0.02)
        raise AssertionError(f"it did not happen; {self.command('status')}\n{self.log.read_text()}")

    def states(self) -> dict[str, str]:
        found: CellMap | None = self.state.read_map()
        return {cell.name: cell.state for cell in found.cells} if found else {}

    def status(self, cell: str = "a", port: int = 23_800) -> Status | None:
        key = keys.public_key(load(self.file), cell)
        self.watch.follow({cell: (f"tcp://127.0.0.1:{port}", key)})
        return self.watch.read(time.monotonic())[cell].status

    def pid(self, name: str) -> int:
        assert self.process is not None
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    text = (folder / "cmdline").read_bytes().decode().split("\0")
                    parent = re.search(r"PPid:\s+(\d+)", (folder / "status").read_text())
                except OSError:
                    continue
                if name in text and parent and int(parent[1]) == self.process.pid:
                    return int(folder.name)
        raise AssertionError(f"{name} does not run")


@pytest.fixture
def twin() -> Iterator[Twin]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = Twin(Path(folder))
        yield made
        made.leave()


def test_calls_go_through_and_what_dies_comes_back_in_time(twin: Twin) -> None:
    twin.up()
    twin.until(lambda: twin.states() == {"a": "open"})
    flags = ["--cells", twin.state.map_file, "--keys", twin.folder / "keys/clients"]
    done = subprocess.run(
        [
            *STREAM,
            *flags,
            "--key-name",
            "input",
            "--format",
            "jsonl",
            ROOT / "bench/demo/call.opus",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(event["type"] == "verdict" for event in events) > 5

    twin.until(lambda: answers(f"http://127.0.0.1:{GATEWAY}/healthz"))
    twin.until(lambda: (s := twin.status()) and s.nodes)
    os.kill(twin.pid("a.asr.0"), signal.SIGKILL)
    twin.until(lambda: (s := twin.status()) and not s.nodes, MUST_S)
    assert twin.until(lambda: (s := twin.status()) and s.nodes) < MUST_S
    before = twin.status()
    assert before is not None
    os.kill(twin.pid("a.hub"), signal.SIGKILL)
    took = twin.until(
        lambda: (s := twin.status()) and before is not None and s.hub != before.hub and s.nodes
    )
    assert took < MUST_S
    processes = json.loads(twin.command("status", "--json"))["processes"]
    restarts = {p["name"]: p["restarts"] for p in processes}
    assert restarts == {"a.hub": 1, "a.asr.0": 1, "gateway": 0}


def test_a_second_up_changes_the_cluster_and_it_ends_in_order(twin: Twin) -> None:
    twin.up()
    twin.until(lambda: twin.states() == {"a": "open"})
    twin.write(B)
    twin.command("keys")
    assert "goes on with this file" in twin.command("up")
    twin.until(lambda: twin.states() == {"a": "gone", "b": "open"})
    twin.command("scale", "asr=2")
    twin.until(lambda: (s := twin.status("b", 23_802)) and len({n.node for n in s.nodes}) == 2)
    epoch = twin.state.read_map()
    assert twin.process is not None
    children = [twin.pid("b.hub"), twin.pid("b.asr.0"), twin.pid("b.asr.1")]
    twin.process.terminate()
    assert twin.process.wait(10) == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert twin.state.read_map() == epoch, "its clients wait until it is up again"
    assert "no controller runs" in twin.command("status")
    twin.command("scale", "asr=auto")
    twin.up()
    twin.until(lambda: "asr 1 of 1" in twin.command("status"))
    assert "the cluster is down" in twin.command("down")
    assert twin.process.wait(10) == 0
    assert twin.states() == {"b": "gone"}
    assert "Traceback" not in twin.log.read_text()
