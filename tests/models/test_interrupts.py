"""Signals: at once, counted, overdue, and before the imports are done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from abhinaya.models.interrupts import SIGNALS, Interrupts, Signalled, exit_code_of


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def run(code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=False
    )


def caught(body: Callable[[], None]) -> Signalled:
    with pytest.raises(Signalled) as raised:
        body()
    return raised.value


@pytest.fixture(autouse=True)
def _unchanged() -> object:
    numbers = (*SIGNALS, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_ends_at_once_with_the_code_that_shells_have(number: signal.Signals) -> None:
    interrupts = Interrupts()

    def body() -> None:
        with interrupts.raising():
            send(number)

    error = caught(body)
    assert str(error) == f"stopped by {number.name}"
    assert exit_code_of(error) == 128 + number


def test_a_run_counts_them_and_the_code_is_that_of_the_first() -> None:
    interrupts = Interrupts()
    with interrupts.raising(), interrupts.counting(10.0):
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert (interrupts.count, interrupts.number) == (2, signal.SIGTERM)
        assert interrupts.left_s(5.0) == 5.0
        assert 9.0 < interrupts.left_s(60.0) < 10.0
    with interrupts.counting(10.0):
        assert interrupts.count == 0, "another run of the same process"


def test_the_end_of_a_program_bears_one_and_not_two() -> None:
    interrupts = Interrupts()

    def body() -> None:
        with interrupts.counting(10.0, 1):
            send(signal.SIGHUP)
            send(signal.SIGINT)

    assert str(caught(body)) == "stopped by SIGHUP"


def test_a_blocked_write_is_interrupted_when_the_time_is_over_each_time_again() -> None:
    interrupts, (reading, writing) = Interrupts(), os.pipe()
    begun = time.monotonic()
    with interrupts.counting(0.2):
        send(signal.SIGTERM)
        for _ in range(2):
            assert caught(lambda: os.write(writing, b"x" * 1_000_000) and None)
    assert 0.5 < time.monotonic() - begun < 3
    os.close(reading)
    os.close(writing)


def test_other_threads_leave_the_signals_alone() -> None:
    done: list[bool] = []

    def body() -> None:
        with Interrupts().raising():
            done.append(True)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert done == [True]


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts().raising():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.processes
def test_the_last_resort_ends_a_program_that_nothing_else_ends() -> None:
    code = (
        "import os, signal, time\n"
        "from abhinaya.models import interrupts as i\n"
        "i.LAST_S = 0.3\n"
        "with i.INTERRUPTS.raising(), i.INTERRUPTS.counting(0.2):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    while True:\n"
        "        try: time.sleep(60)\n"
        "        except KeyboardInterrupt: print('deaf', flush=True)\n"
    )
    done = run(code)
    assert (done.returncode, done.stdout.split()[0]) == (143, b"deaf")


@pytest.mark.processes
@pytest.mark.parametrize("name", ["transcribe", "train"])
def test_ctrl_c_in_the_imports_of_a_command_is_one_line(name: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from abhinaya.models.interrupts import leave_at_once\n"
        "from importlib.abc import MetaPathFinder\n"
        "class Finder(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'argparse': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"sys.argv = ['abhinaya', {name!r}]\n"
        "from abhinaya.stream.__main__ import commands\n"
        "commands()\n"
    )
    done = run(code)
    assert (done.returncode, done.stderr) == (130, b"abhinaya: stopped by SIGINT\n")
