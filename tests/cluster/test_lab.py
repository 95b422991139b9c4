"""The lab itself: its machines are apart, and nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.lab import Lab, Machine, until
from places import ROOT

pytestmark = pytest.mark.cluster

SERVER = (sys.executable, "-m", "http.server", "8000")
FETCH = "import urllib.request as u; print(u.urlopen('http://{}:8000', timeout=1).status)"


@pytest.fixture(scope="module")
def pair(lab: Lab) -> tuple[Machine, Machine]:
    one, other = lab.machine("one"), lab.machine("other")
    one.start(*SERVER)
    until(lambda: reached(other), 10, "the server")
    return one, other


def reached(machine: Machine) -> bool:
    fetch = FETCH.format("one")
    return machine.run(sys.executable, "-c", fetch, check=False).stdout == "200\n"


def test_machines_see_each_other_by_name_until_one_is_cut_off(
    pair: tuple[Machine, Machine],
) -> None:
    one, other = pair
    one.cut()
    assert not reached(other)
    one.mend()
    assert reached(other)
    one.link("down")
    assert not reached(other)
    one.link("up")
    until(lambda: reached(other), 5, "the link is up again")


def test_each_has_its_own_processes_files_and_name(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    for machine in pair:
        machine.run("touch", f"/tmp/of-{machine.name}")
        own = [machine.lab.folder.name, f"of-{machine.name}"]
        assert machine.run("ls", "/tmp").stdout.split() == own
        assert machine.run("hostname").stdout.strip() == machine.name
    assert len(one.pids("http.server")) == 1
    assert not other.pids("http.server")
    assert not Path("/tmp/of-one").exists()


def test_a_machine_that_is_switched_off_loses_everything_and_can_come_back(
    pair: tuple[Machine, Machine],
) -> None:
    one, other = pair
    one.off()
    assert not reached(other)
    one.on()
    assert not one.pids("http.server")
    one.start(*SERVER)
    until(lambda: reached(other), 10, "the server")


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from cluster.lab import Lab, until
with Lab(Path(sys.argv[1])) as lab:
    machine = lab.machine("one")
    machine.start("sleep", "4711")
    until(lambda: machine.pids("4711"), 10, "it runs")
    print(*machine.pids("4711"), flush=True)
    time.sleep(60)
"""


def test_a_test_that_is_killed_leaves_nothing_behind(lab: Lab, tmp_path: Path) -> None:
    code = KILLED.format(tests=str(ROOT / "tests"))
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        pid = int(killed.stdout.readline())
        os.kill(pid, 0)
        namespace = os.readlink(f"/proc/{pid}/ns/net")
        killed.send_signal(signal.SIGKILL)
    until(lambda: namespace not in namespaces(), 5, "the kernel ends the machine")


def namespaces() -> set[str]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found.add(os.readlink(entry / "ns/net"))
        except OSError:
            continue
    return found
