"""Processes that live, die and come back: the decisions alone, then with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from abhinaya.stream.errors import ProcessError, SourceError
from abhinaya.stream.run import supervisor as supervisors
from abhinaya.stream.run.supervisor import AT_ONCE, Death, Restarts, Spec, Supervisor, node_specs
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Suspect

PATIENCE_S = 20.0

CHILD = """
import argparse, os, signal, sys, time
from pathlib import Path
from abhinaya.stream.errors import ProcessError, SourceError
from abhinaya.stream.wire.child import run_child

parser = argparse.ArgumentParser()
parser.add_argument("--directory", type=Path)
parser.add_argument("--lifeline", type=int)
parser.add_argument("name")
parser.add_argument("does")
args = parser.parse_args()

def body(stop):
    with (args.directory / f"{args.name}.up").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    if args.does == "break":
        raise ProcessError("the engine", "is on fire", "call for help")
    if args.does == "misread":
        raise SourceError("call.wav", "is empty")
    if args.does == "crash":
        print("ouch", file=sys.stderr, flush=True)
        os._exit(9)
    while args.does == "ignore" or not stop.asked:
        while args.does == "spin" and not stop.asked:
            pass
        time.sleep(0.01)
        if args.does == "leave":
            break
    return 0

sys.exit(run_child(args.name, args.directory, args.lifeline, body))
"""

PARENT = """
import sys, time
from pathlib import Path
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.run.supervisor import Spec, Supervisor

supervisor = Supervisor(SuperviseConfig(), Path(sys.argv[1]))
supervisor.start(Spec("a", "child", ("a", "live")))
supervisor.start(Spec("b", "child", ("b", "ignore")))
time.sleep(60)
"""


# --- when a dead process is started again ---------------------------------------------------------


def lives(**changes: Any) -> Restarts:
    settings = {"restarts": 3, "restart_window_s": 100.0, "backoff_s": 0.5} | changes
    return Restarts(SuperviseConfig(**settings))


def test_the_wait_doubles_with_every_death_until_it_is_given_up() -> None:
    patient = lives()
    starts = [patient.next_start(float(now)) for now in range(4)]
    assert starts == [0.5, 1 + 1.0, 2 + 2.0, None]


def test_guests_live_in_the_processes_of_their_host() -> None:
    specs = node_specs("S2", 2, ["ST1"])
    assert [spec.name for spec in specs] == ["S2-0", "S2-1"]
    assert [spec.services for spec in specs] == [("S2", "ST1")] * 2
    assert specs[0].arguments == node_specs("S2", 1)[0].arguments


# --- real processes -------------------------------------------------------------------------------


class Yard:
    """A supervisor, with its clock, and the children it has."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory = directory
        settings = {"restarts": 3, "backoff_s": 0.01, "ready_s": 60.0} | changes
        self.supervisor = Supervisor(SuperviseConfig(**settings), directory)
        self.deaths: list[Death] = []
        self.stopped = False

    def start(self, name: str, does: str = "live", **changes: Any) -> None:
        self.supervisor.start(Spec(name, "child", (name, does), **changes))

    def pids(self, name: str) -> list[int]:
        """Of every process that has come up under this name."""
        path = self.directory / f"{name}.up"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.deaths += self.supervisor.tick(time.monotonic())
            if result := condition():
                return result
            time.sleep(0.01)
        raise AssertionError(f"it did not happen; deaths: {self.deaths}")

    def up(self, name: str, times: int = 1) -> int:
        return int(self.until(lambda: len(self.pids(name)) >= times and self.pids(name))[-1])

    def dies(self, count: int = 1) -> Death:
        self.until(lambda: len(self.deaths) >= count)
        return self.deaths[-1]

    def stop(self, patience_s: float = 5.0) -> None:
        if not self.stopped:
            self.stopped = True
            self.supervisor.stop(patience_s)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "child.py").write_text(textwrap.dedent(CHILD), "utf-8")
    (modules / "parent.py").write_text(textwrap.dedent(PARENT), "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(modules))
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def yard(directory: Path) -> Iterator[Yard]:
    made = Yard(directory)
    yield made
    made.stop(0.5)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


pytestmark = pytest.mark.processes


def test_a_process_that_is_killed_is_started_again(yard: Yard) -> None:
    yard.start("S1-0", services=("S1",))
    first = yard.up("S1-0")
    assert yard.supervisor.pid("S1-0") == first
    os.kill(first, signal.SIGKILL)
    death = yard.dies()
    assert (death.name, death.services, death.final) == ("S1-0", ("S1",), False)
    assert isinstance(death.error, ProcessError)
    assert death.error.reason == "was killed by SIGKILL"
    second = yard.up("S1-0", 2)
    assert second != first
    assert yard.supervisor.stages() == {"S1-0": Stage.STARTING}
    yard.supervisor.ready("S1-0")
    assert yard.supervisor.stages() == {"S1-0": Stage.READY}


def test_what_a_process_says_in_dying_is_its_error(yard: Yard) -> None:
    yard.start("S1-0", "break")
    error = yard.dies().error
    assert isinstance(error, ProcessError)
    assert (error.subject, error.reason, error.remedy) == (
        "the engine",
        "is on fire",
        "call for help",
    )


def test_of_a_process_that_could_say_nothing_the_log_is_shown(yard: Yard) -> None:
    yard.start("S1-0", "crash")
    error = yard.dies().error
    assert error is not None
    assert error.reason == "left with 9"
    assert error.remedy == "its log ends: ouch"


def test_what_is_wrong_with_the_input_is_no_better_at_the_next_start(yard: Yard) -> None:
    yard.start("front-0", "misread")
    death = yard.dies()
    assert death.final
    assert isinstance(death.error, SourceError)
    assert yard.supervisor.stages() == {"front-0": Stage.GIVEN_UP}


def test_a_process_whose_work_nobody_can_take_over_is_not_started_again(yard: Yard) -> None:
    yard.start("front-0", "crash", restarts=False)
    assert yard.dies().final


def test_a_process_that_is_not_ready_in_time_is_killed_and_its_death_says_so(
    directory: Path,
) -> None:
    yard = Yard(directory, ready_s=1.0)
    try:
        yard.start("S1-0", "ignore")
        error = yard.dies().error
        assert error is not None
        assert "was killed by SIGKILL (was not ready" in error.reason
    finally:
        yard.stop(0.2)


def test_a_stuck_process_is_killed_and_its_death_says_why(yard: Yard) -> None:
    yard.start("S1-0", "ignore")
    pid = yard.up("S1-0")
    yard.supervisor.ready("S1-0")
    yard.supervisor.kill("S1-0", str(pid), "has been stuck for 20.5 s in one batch")
    error = yard.dies().error
    assert error is not None
    assert error.reason == "was killed by SIGKILL (has been stuck for 20.5 s in one batch)"


def test_a_suspected_process_that_sleeps_or_is_stopped_is_killed(yard: Yard) -> None:
    for name, number in (("asleep", signal.SIGCONT), ("frozen", signal.SIGSTOP)):
        yard.start(name, "ignore")
        os.kill(yard.up(name), number)
        yard.supervisor.ready(name)
    silent = [
        Suspect(name=name, reason="has been silent for 4.1 s", limit_s=4.0)
        for name in ("asleep", "frozen")
    ]
    yard.supervisor.suspect(silent)
    yard.dies(2)
    assert {death.error.reason for death in yard.deaths if death.error} == {
        "was killed by SIGKILL (has been silent for 4.1 s: it hangs)",
        "was killed by SIGKILL (has been silent for 4.1 s: it is stopped)",
    }


def test_a_suspected_process_that_starves_is_said_and_goes_on(yard: Yard) -> None:
    processor = {min(os.sched_getaffinity(0))}
    for name in ("hog", "S1-0"):
        yard.start(name, "spin")
        os.sched_setaffinity(yard.up(name), processor)
        yard.supervisor.ready(name)
    os.sched_setscheduler(yard.pids("S1-0")[0], os.SCHED_IDLE, os.sched_param(0))
    why = Suspect(name="S1-0", reason="has been silent for 4.1 s", limit_s=4.0)
    begun = time.monotonic()
    while time.monotonic() < begun + 4.0:
        yard.supervisor.suspect([why])
        yard.deaths += yard.supervisor.tick(time.monotonic())
        time.sleep(0.05)
    assert yard.deaths == []
    news = "S1-0 has been silent for 4.1 s: it gets too little processor time, and goes on"
    assert set(yard.supervisor.news) == {f"the machine is overloaded: {news}"}
    yard.supervisor.suspect([])  # it has sent a heartbeat
    assert yard.supervisor.tick(time.monotonic()) == []


def test_a_new_process_is_not_killed_for_what_the_old_one_did(yard: Yard) -> None:
    yard.start("S1-0")
    pid = yard.up("S1-0")
    yard.supervisor.kill("S1-0", str(pid + 1), "has been silent")
    yard.supervisor.kill("nobody", "", "has been silent")
    time.sleep(1.2)
    assert yard.supervisor.tick(time.monotonic()) == []
    assert alive(pid)


def test_of_many_processes_few_start_at_once(yard: Yard) -> None:
    names = [f"front-{number}" for number in range(AT_ONCE + 2)]
    for name in names:
        yard.start(name)
    stages = yard.supervisor.stages()
    assert [stages[name] for name in names[-2:]] == [Stage.WAITING] * 2
    assert yard.supervisor.pid(names[-1]) is None
    yard.supervisor.ready(names[0])
    yard.up(names[-2])
    yard.supervisor.ask_to_stop([names[-1]])  # it has not begun
    assert yard.supervisor.stages()[names[-1]] is Stage.ENDED


def test_a_dead_hub_is_started_again_beside_many_processes_and_they_wait_for_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisors, "AT_ONCE", 2)
    yard = Yard(directory, silent_s=0.2)
    try:
        for name in ("hub", "S1-0", "front-0"):
            yard.start(name)
            yard.up(name)
            yard.supervisor.ready(name)
        os.kill(yard.pids("hub")[0], signal.SIGKILL)
        until = time.monotonic() + 2.5  # each process has 0.6 s to report, from a new hub on

        def waited() -> bool:
            if yard.deaths:
                yard.supervisor.recheck_all("hub")
            return time.monotonic() > until and len(yard.pids("hub")) == 2

        yard.until(waited)
        assert [death.name for death in yard.deaths] == ["hub"]
        assert yard.supervisor.stages()["S1-0"] is Stage.STARTING
    finally:
        yard.stop()


def test_asked_to_stop_it_leaves_and_is_not_started_again(yard: Yard) -> None:
    yard.start("S1-0")
    yard.up("S1-0")
    yard.supervisor.ask_to_stop(["S1-0"])
    assert yard.dies().final
    assert yard.supervisor.stages() == {"S1-0": Stage.ENDED}


def test_stop_leaves_no_process_not_even_one_that_ignores_it(yard: Yard) -> None:
    yard.start("polite")
    yard.start("deaf", "ignore")
    yard.start("frozen")
    pids = [yard.up(name) for name in ("polite", "deaf", "frozen")]
    os.kill(pids[2], signal.SIGSTOP)
    yard.stop(1.0)
    assert not any(alive(pid) for pid in pids)


def test_when_the_supervisor_is_killed_its_children_leave(directory: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-P", "-m", "parent", str(directory)])
    try:
        deadline = time.monotonic() + PATIENCE_S
        files = [directory / "a.up", directory / "b.up"]
        while time.monotonic() < deadline and not all(f.exists() and f.read_text() for f in files):
            time.sleep(0.02)
        pids = [int(f.read_text()) for f in files]
        assert all(alive(pid) for pid in pids)
        parent.kill()
        parent.wait()
        while time.monotonic() < deadline and any(alive(pid) for pid in pids):
            time.sleep(0.02)
        assert not any(alive(pid) for pid in pids)
    finally:
        parent.kill()
        parent.wait()
