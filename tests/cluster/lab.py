"""Machines of a test: network, process, mount and host name namespaces, joined by a bridge.

The bridge has a network namespace of its own: the machine that runs the tests sees no interface, no
route and no address of the lab, and several labs may run side by side. The first process of each
namespace dies with the process of the test; the kernel then ends and removes all the rest. So
nothing stays behind, also not after a kill.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

TOOLS: Final = ("ip", "unshare", "nsenter", "setpriv", "mount")
NETWORK: Final = "10.77.0"
BIN: Final = Path(sys.executable).parent
"""The programs `abhinaya` and `abhinaya-stream`."""


def skip_without_namespaces() -> None:
    """Skip the test where machines cannot be made, with the reason."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"a lab of machines needs {', '.join(missing)}")
    if os.geteuid():
        pytest.skip("a lab of machines needs root: network namespaces")
    attempt = ["unshare", "--net", "--pid", "--fork", "true"]
    if subprocess.run(attempt, capture_output=True).returncode:
        pytest.skip("this system allows no network namespaces")


_INIT = """
mount --bind "$1" /mnt && mount -t tmpfs tmpfs /tmp && mkdir -p "$1" && mount --move /mnt "$1" &&
mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs /run &&
mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/resolv.conf" /etc/resolv.conf &&
hostname "$2" && trap '' CHLD && exec sleep infinity
"""
"""The first process of a machine: its own /tmp and /dev/shm, the folder of the lab at the same
path, the names of all machines. It ignores SIGCHLD, so the kernel reaps orphans at once."""


def _init(*command: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start the first process of new namespaces; return its parent and its id here."""
    # setpriv: a killed test takes unshare with it, and --kill-child unshare's child
    dies = ("setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child")
    parent = subprocess.Popen([*dies, *command], stdin=subprocess.DEVNULL)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    until = time.monotonic() + 10
    while time.monotonic() < until and parent.poll() is None:
        for child in children.read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "sleep":
                return parent, int(child)
        time.sleep(0.01)
    parent.kill()
    raise AssertionError(f"namespaces could not be made: {command}")


def _sh(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)


@dataclass
class Machine:
    """One machine of the lab."""

    name: str
    address: str
    lab: Lab
    port: str
    _holder: subprocess.Popen[bytes] | None = None
    _pid: int = 0
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def on(self) -> Machine:
        """Switch it on: it has no processes."""
        where = ("--net", "--pid", "--mount", "--uts", "--mount-proc")
        arguments = ("sh", "-c", _INIT, "init", str(self.lab.folder), self.name)
        self._holder, self._pid = _init(*where, *arguments)
        self.lab.wire(self.port, self._pid)
        _sh(*self._inside, "ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _sh(*self._inside, "ip", "link", "set", link, "up")
        return self

    def off(self) -> None:
        """Switch it off without a warning: every process dies at once."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
            self._holder = None
            for process in self.started:
                process.kill()  # nsenter stops when what it started is stopped, and stays so
                process.wait()
            self.started.clear()

    @property
    def _inside(self) -> Sequence[str]:
        return ("nsenter", "--all", "--target", str(self._pid))

    def start(
        self, *command: object, log: str = "log", pipe: bool = False, **variables: str
    ) -> subprocess.Popen[bytes]:
        """Start a command; what it writes goes to `log` in the machine's folder.

        `pipe`: the test reads standard output.
        """
        words = [*self._inside, *map(str, command)]
        with open(self.folder / log, "ab") as out:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else out,
                stderr=out,
                env=_environment(variables),
            )
        self.started.append(process)
        return process

    def run(
        self, *command: object, timeout: float = 60, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        words = [*self._inside, *map(str, command)]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=timeout, env=_environment(variables)
        )
        assert done.returncode == 0 or not check, (
            f"{self.name}: {command}\n{done.stderr}{done.stdout}"
        )
        return done

    @property
    def folder(self) -> Path:
        """Where its logs are; every machine sees the folders of all."""
        folder = self.lab.folder / self.name
        folder.mkdir(exist_ok=True)
        return folder

    def pids(self, *words: str) -> list[int]:
        """Return its processes, by their ids here, whose command line has all of these words."""
        mine, found = os.stat(f"/proc/{self._pid}/ns/pid").st_ino, []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.stat(entry / "ns/pid").st_ino != mine:
                        continue
                    line = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
                except OSError:
                    continue  # it has just ended
                if line and all(word in line for word in words):
                    found.append(int(entry.name))
        return sorted(found)

    def kill(self, *words: str, signal: signal.Signals = signal.SIGKILL) -> int:
        """Signal all its processes whose command line has these words; return how many."""
        found = self.pids(*words)
        for pid in found:
            os.kill(pid, signal)
        return len(found)

    def cut(self) -> None:
        """Take it off the switch: nothing passes, and no interface goes down."""
        self.lab.switch("ip", "link", "set", self.port, "nomaster")

    def mend(self) -> None:
        """Put it back."""
        self.lab.switch("ip", "link", "set", self.port, "master", "switch")

    def link(self, state: str) -> None:
        """Pull out its cable (`down`), or put it in (`up`)."""
        self.lab.switch("ip", "link", "set", self.port, state)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the test without those that are about this machine."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("ABHINAYA_", "RAY_", "TMPDIR"))
    }
    return kept | {"OMP_NUM_THREADS": "1"} | dict(variables)


class Lab:
    """A switch and the machines on it. Use it in a `with` statement."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines: dict[str, Machine] = {}
        (folder / "resolv.conf").write_text("")
        (folder / "hosts").write_text("127.0.0.1 localhost\n")

    def __enter__(self) -> Lab:
        self._holder, self._pid = _init("--net", "sleep", "infinity")
        self.switch("ip", "link", "add", "switch", "type", "bridge", "forward_delay", "0")
        self.switch("ip", "link", "set", "switch", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines.values():
            machine.off()
        self._holder.kill()
        self._holder.wait()

    def machine(self, name: str) -> Machine:
        """Add a machine."""
        number = len(self.machines) + 1
        machine = Machine(name, f"{NETWORK}.{number}", self, f"port{number}")
        with (self.folder / "hosts").open("a") as hosts:
            hosts.write(f"{machine.address} {name}\n")
        self.machines[name] = machine
        return machine.on()

    def switch(self, *command: object) -> None:
        """Run a command at the switch."""
        _sh("nsenter", "--net", "--target", self._pid, *command)

    def wire(self, port: str, pid: int) -> None:
        """Connect a port of the switch with the interface eth0 of a machine."""
        # of a machine that was switched off: the kernel removes it, but not at once
        _sh("sh", "-c", f"nsenter --net --target {self._pid} ip link del {port} 2>/dev/null; true")
        # the same hardware address each time, as a machine that starts again has
        card = f"02:00:00:00:00:{int(port.removeprefix('port')):02x}"
        ends = ("type", "veth", "peer", "name", "eth0", "address", card, "netns", pid)
        self.switch("ip", "link", "add", port, *ends)
        self.switch("ip", "link", "set", port, "master", "switch", "up")


@contextmanager
def new_lab() -> Iterator[Lab]:
    """Give a lab without machines; skip the test where none can be made."""
    skip_without_namespaces()
    for left in Path("/tmp").glob("lab-*-*"):  # of tests that were killed
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    prefix = f"lab-{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp") as folder, Lab(Path(folder)) as lab:
        yield lab


def until(found: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until something is so; return after how many seconds it was."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        if found():
            return time.monotonic() - begun
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what}")
