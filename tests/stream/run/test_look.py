"""What the system shows of real processes: asleep, at work, stopped, and starved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from abhinaya.stream.hub.watch import Finding, Suspicion
from abhinaya.stream.run.look import look

pytestmark = pytest.mark.processes

BUSY = "while True: pass"
HIDDEN = f"import threading, time; threading.Thread(target=lambda: exec({BUSY!r})).start()"


class Pen:
    """Processes that are ended with the test."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, script: str) -> int:
        self.processes.append(subprocess.Popen([sys.executable, "-c", script]))
        time.sleep(0.3)
        return self.processes[-1].pid


@pytest.fixture
def pen() -> Iterator[Pen]:
    made = Pen()
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def judged(pid: int, seconds: float) -> Finding:
    why = Suspicion("", limit_s=4.0)
    until = time.monotonic() + seconds
    while not (finding := why.judge(look(pid))).deadly and time.monotonic() < until:
        time.sleep(0.05)
    return finding


def test_a_look_tells_what_a_process_does(pen: Pen) -> None:
    for script, state in (("import time; time.sleep(60)", "S"), (BUSY, "R"), (HIDDEN, "R")):
        pid = pen.start(script)
        first = look(pid)
        time.sleep(0.5)
        last = look(pid)
        assert first is not None
        assert last is not None
        assert last.state == state
        assert (last.cpu_s > first.cpu_s) == (state == "R")
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)
        assert judged(pid, 0.0) is Finding.FROZEN
    pen.processes[0].kill()
    pen.processes[0].wait()
    assert look(pen.processes[0].pid) is None


def test_a_process_that_others_keep_from_working_is_starved_and_not_stuck(pen: Pen) -> None:
    processor = {min(os.sched_getaffinity(0))}
    hog, starved = pen.start(BUSY), pen.start(BUSY)
    for pid in (hog, starved):
        os.sched_setaffinity(pid, processor)
    os.sched_setscheduler(starved, os.SCHED_IDLE, os.sched_param(0))
    assert judged(starved, 3.0) is Finding.STARVED
    # the machine calms down, and it does not finish
    pen.processes[0].kill()
    os.sched_setscheduler(starved, os.SCHED_OTHER, os.sched_param(0))
    assert judged(starved, 10.0) is Finding.LOOPING
