"""What every child process does alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from abhinaya.models.interrupts import SIGNALS, Signalled
from abhinaya.stream.errors import BY_EXIT_CODE, AbhinayaError, ProcessError, SourceError
from abhinaya.stream.wire.child import (
    BEAT_S,
    EXIT_ORPHANED,
    STOP,
    Stop,
    drain,
    leave_exit_report,
    read_exit_report,
    run_alone,
    run_child,
    wake,
    wakeup,
)


@pytest.fixture
def lifeline() -> Iterator[int]:
    """A lifeline that holds, and the signal handlers of the test back afterwards."""
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, STOP)}
    reading, writing = os.pipe()
    yield reading
    for number, handler in handlers.items():
        signal.signal(number, handler)
    # the pipe stays open: the watching thread would end the test process if it were closed
    os.fstat(writing)


def test_the_exit_code_of_the_body_is_that_of_the_process(tmp_path: Path, lifeline: int) -> None:
    assert run_child("S1-0", tmp_path, lifeline, lambda stop: 0) == 0
    assert read_exit_report(tmp_path, "S1-0") is None


@pytest.mark.parametrize("kind", BY_EXIT_CODE.values(), ids=lambda kind: kind.__name__)
def test_an_error_is_left_in_words_and_its_exit_code_says_its_kind(
    tmp_path: Path, lifeline: int, kind: type[AbhinayaError]
) -> None:
    def body(stop: Stop) -> int:
        raise kind("call.wav", "is empty", "record it again")

    assert run_child("front-0", tmp_path, lifeline, body) == kind.exit_code
    error = read_exit_report(tmp_path, "front-0")
    assert error is not None
    assert type(error) is kind
    assert (error.subject, error.reason, error.remedy) == (
        "call.wav",
        "is empty",
        "record it again",
    )


def test_a_fault_of_ours_is_left_in_words_with_the_traceback_in_the_log(
    tmp_path: Path, lifeline: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(stop: Stop) -> int:
        raise ZeroDivisionError("oops")

    assert run_child("hub", tmp_path, lifeline, body) == ProcessError.exit_code
    error = read_exit_report(tmp_path, "hub")
    assert error is not None
    assert error.reason == "stopped on an unexpected ZeroDivisionError: oops"
    assert str(tmp_path / "hub.log") in error.remedy
    assert "Traceback" in capsys.readouterr().err


def test_only_the_supervisor_stops_a_child(tmp_path: Path, lifeline: int) -> None:
    def body(stop: Stop) -> int:
        for number in SIGNALS:  # for the whole run: the main process ends the others in order
            os.kill(os.getpid(), number)
        assert not stop.asked
        os.kill(os.getpid(), STOP)
        return 3 if stop.asked else 4

    assert run_child("S1-0", tmp_path, lifeline, body) == 3


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_process_alone_while_it_loads_then_asks_it_then_ends_it_again(
    number: signal.Signals, lifeline: int
) -> None:
    def loads(stop: Stop) -> int:
        os.kill(os.getpid(), number)
        return 0

    def serves(stop: Stop) -> int:
        stop.serving()
        os.kill(os.getpid(), number)
        assert stop.asked
        os.kill(os.getpid(), number)
        return 0

    for body in (loads, serves):
        with pytest.raises(Signalled) as raised:
            run_alone("hub", body)
        assert raised.value.exit_code == 128 + number


def test_a_process_alone_touches_its_file_only_while_its_loop_turns(tmp_path: Path) -> None:
    alive = tmp_path / "alive"

    def body(stop: Stop) -> int:
        assert not alive.exists(), "it does not serve yet"
        marks = []
        for now in (10.0, 10.0 + BEAT_S / 2, 10.0 + BEAT_S):
            os.utime(alive, (0, 0)) if marks else None
            stop.beat(now)
            marks.append(alive.stat().st_mtime > 0)
        assert marks == [True, False, True]
        return 0

    assert run_alone("hub", body, alive) == 0


@pytest.mark.processes
def test_a_child_leaves_when_its_lifeline_is_cut_whatever_it_does(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    code = (
        "import sys, time; from pathlib import Path;"
        "from abhinaya.stream.wire.child import run_child;"
        "print('up', flush=True);"
        f"run_child('x', Path({str(tmp_path)!r}), {reading}, lambda stop: time.sleep(60) or 0)"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code], pass_fds=[reading], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        time.sleep(0.1)
        assert child.poll() is None
        os.close(writing)
        assert child.wait(10) == EXIT_ORPHANED
    os.close(reading)


def test_last_words_are_used_up(tmp_path: Path) -> None:
    leave_exit_report(tmp_path, "S1-0", SourceError("a", "b"))
    assert read_exit_report(tmp_path, "S1-0") is not None
    assert read_exit_report(tmp_path, "S1-0") is None


@pytest.mark.parametrize("text", ["", "{", '{"exit_code": 3}'])
def test_last_words_that_cannot_be_read_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "S1-0.exit").write_text(text)
    assert read_exit_report(tmp_path, "S1-0") is None


def test_an_unknown_exit_code_is_a_process_error(tmp_path: Path) -> None:
    class OddError(AbhinayaError):
        exit_code = 99

    leave_exit_report(tmp_path, "S1-0", OddError("a", "b"))
    error = read_exit_report(tmp_path, "S1-0")
    assert error is not None
    assert type(error) is ProcessError


def test_being_woken_often_is_being_woken_once_and_never_blocks() -> None:
    reading, writing = wakeup()
    for _ in range(100_000):  # more than a pipe holds
        wake(writing)
    drain(reading)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    drain(reading)
    os.close(reading)
    os.close(writing)
