"""However a run is stopped and whatever dies meanwhile: nothing that was begun vanishes silently.

The program is the real one, with nodes that answer without models (`tests/null_program.py`). The
segments of a run that nobody disturbs are the measure: each must be a verdict or lie in a gap.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "null_program.py"
VICTIMS = {"hub": "stream.hub.main", "front": "stream.front.main", "node": "--null V1"}
DEEDS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}
STOPPING = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
WITHIN_S = 8.0

pytestmark = pytest.mark.processes


class Program:
    """One run of the program on several files."""

    def __init__(
        self, folder: Path, call: Path, files: int, busy_s: float, stdout: int | None = None
    ) -> None:
        # pytest's own folder may be too long for a socket: the run would then use another one
        self.run_folders = Path(tempfile.mkdtemp(prefix="stop-", dir="/tmp"))
        weakref.finalize(self, shutil.rmtree, self.run_folders, ignore_errors=True)
        self.output = folder / "events.jsonl"
        self.names = [f"f{number}" for number in range(files)]
        for name in self.names:
            (folder / f"{name}.wav").symlink_to(call)
        self._errors = (folder / "errors").open("wb")
        command = [sys.executable, str(PROGRAM), str(busy_s), *(f"{n}.wav" for n in self.names)]
        self.process = subprocess.Popen(
            [*command, "--plain", "--output", self.output.name],
            cwd=folder,
            stdout=(folder / "shown").open("wb") if stdout is None else stdout,
            stderr=self._errors,
            env=os.environ | {"XDG_RUNTIME_DIR": str(self.run_folders)},
        )
        self.stopped_at = 0.0

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if found := condition():
                return found
            assert self.process.poll() is None, self.errors()
            time.sleep(0.01)
        raise AssertionError("it did not happen")

    def events(self) -> list[dict[str, Any]]:
        text = self.output.read_text() if self.output.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def has(self, kind: str, times: int = 1) -> bool:
        return sum(event["type"] == kind for event in self.events()) >= times

    def children(self) -> dict[int, str]:
        """Return the command line of each child by its process id."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == self.process.pid:
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        return found

    def catches_signals(self) -> bool:
        """Whether the interpreter has begun to run the program."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    def victim(self, kind: str) -> int:
        where = VICTIMS[kind]
        return int(
            self.until(lambda: [pid for pid, line in self.children().items() if where in line])[0]
        )

    def stop(self, name: str = "SIGTERM") -> None:
        self.stopped_at = time.monotonic()
        self.process.send_signal(signal.Signals[name])

    def errors(self) -> str:
        return (self.output.parent / "errors").read_text()

    def shown(self) -> str:
        path = self.output.parent / "shown"
        return path.read_text() if path.exists() else ""

    def end(self) -> int:
        """Wait for the end; check that it was clean and, after a signal, quick."""
        children = self.children()
        code = self.process.wait(60)
        took_s = time.monotonic() - self.stopped_at
        assert not self.stopped_at or took_s < WITHIN_S
        assert "Traceback" not in self.errors() + self.shown()
        self.run_folders.rmdir()  # fails if something is left in it
        assert not any(is_alive(pid) for pid in children)
        return code

    def check(self, expected: list[tuple[float, float]] | None) -> None:
        """Check that each input and, if it has begun, each of its segments is accounted for."""
        by_stream: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.events():
            if event["type"] in ("verdict", "gap") and not event.get("revision"):
                by_stream[event["stream"]].append(event)
        ended = {e["stream"]: e for e in self.events() if e["type"] == "stream_ended"}
        assert set(ended) == set(self.names)
        for name, end in ended.items():
            events = by_stream[name]
            assert [event["segment"] for event in events] == list(range(len(events)))
            assert end["segments"] == len(events)
            if end["reason"].startswith("not processed"):
                continue
            gaps = [(e["start_s"], e["end_s"]) for e in events if e["type"] == "gap"]
            assert all(e["reason"] for e in events if e["type"] == "gap")
            judged = {(e["start_s"], e["end_s"]) for e in events if e["type"] == "verdict"}
            for start, stop in expected or ():
                assert (start, stop) in judged or any(b <= max(a, start) for b, a in gaps), name
                in_gap = any(b <= start + 10 and stop <= a + 0.01 for b, a in gaps)
                assert (start, stop) in judged or in_gap, (name, start, stop)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Starter:
    """Starts programs, and ends those that a failed test leaves."""

    folder: Path
    call: Path
    programs: list[Program]

    def __call__(self, files: int, busy_s: float, stdout: int | None = None) -> Program:
        self.programs.append(Program(self.folder, self.call, files, busy_s, stdout))
        return self.programs[-1]


@pytest.fixture
def start(tmp_path: Path, short_call: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path, short_call, [])
    yield starter
    for program in starter.programs:
        program.process.kill()
        program.process.wait()


@pytest.fixture(scope="module")
def expected(
    short_call: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[float, float]]:
    """Return the segments of a run that nobody disturbs."""
    program = Program(tmp_path_factory.mktemp("undisturbed"), short_call, 1, 0.0)
    assert program.end() == 0
    found = [(e["start_s"], e["end_s"]) for e in program.events() if e["type"] == "verdict"]
    assert len(found) > 4
    return found


def reach(program: Program, phase: str) -> None:
    """Wait for a phase of the run; in the last one it was asked to stop."""
    if phase == "imports":
        program.until(program.catches_signals)
    elif phase == "start":
        program.until(program.children)
    else:
        program.until(lambda: program.has("verdict", 2))
    if phase == "drain":
        program.stop()
        time.sleep(0.2)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("phase", "name"),
    [
        ("imports", "SIGINT"),
        ("start", "SIGHUP"),
        ("middle", "SIGQUIT"),
        ("drain", "SIGINT"),
        *(pytest.param("imports", name, marks=SLOW) for name in STOPPING[:1] + STOPPING[2:]),
        *(pytest.param("start", name, marks=SLOW) for name in ("SIGTERM", "SIGINT", "SIGQUIT")),
        *(pytest.param("middle", name, marks=SLOW) for name in ("SIGTERM", "SIGINT", "SIGHUP")),
        *(pytest.param("drain", name, marks=SLOW) for name in ("SIGTERM", "SIGHUP", "SIGQUIT")),
    ],
)
def test_a_signal_ends_the_run_in_order_in_every_phase(
    start: Starter, expected: list[tuple[float, float]], phase: str, name: str
) -> None:
    program = start(2, 0.3)
    reach(program, phase)
    program.stop(name)
    first = "SIGTERM" if phase == "drain" else name
    assert program.end() == 128 + signal.Signals[first]
    if phase == "imports":
        assert program.errors() == f"abhinaya-stream: stopped by {name}\n"
    else:
        program.check(expected)
        assert "no speech was found" not in program.shown()
        if phase == "start":
            assert program.shown().count("not processed: interrupted") >= 2


def test_six_files_on_slow_nodes_end_within_8_s_and_each_says_what_was_not_heard(
    start: Starter, expected: list[tuple[float, float]]
) -> None:
    program = start(6, 2.0)
    reach(program, "middle")
    program.stop("SIGTERM")
    assert program.end() == 143
    program.check(expected)
    gaps = {event["stream"] for event in program.events() if event["type"] == "gap"}
    assert len(gaps) >= 5
    assert "no speech was found" not in program.shown()


@pytest.mark.parametrize(
    ("victim", "deed", "phase"),
    [
        ("front", "kill", "drain"),
        ("hub", "kill", "drain"),
        ("front", "freeze", "middle"),
        *(
            pytest.param(victim, deed, phase, marks=SLOW)
            for victim in VICTIMS
            for deed in DEEDS
            for phase in ("start", "middle", "drain")
            if (victim, deed, phase)
            not in (
                ("front", "kill", "drain"),
                ("hub", "kill", "drain"),
                ("front", "freeze", "middle"),
            )
        ),
    ],
)
def test_no_segment_is_lost_in_silence_though_a_process_dies_or_freezes(
    start: Starter, expected: list[tuple[float, float]], victim: str, deed: str, phase: str
) -> None:
    program = start(2, 0.3)
    reach(program, phase)
    os.kill(program.victim(victim), DEEDS[deed])
    code = program.end()
    assert code == (143 if phase == "drain" else 0)
    program.check(expected)
    if phase != "drain":
        assert not program.has("gap")
    elif victim == "front" and deed == "kill":
        # at the end of the drain the reason would be another
        assert any("SIGKILL" in e["reason"] for e in program.events() if e["type"] == "gap")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_all_processes_at_once_is_one_to_the_run(
    start: Starter, expected: list[tuple[float, float]], name: str
) -> None:
    program = start(2, 0.3)
    reach(program, "middle")
    for pid in program.children():
        os.kill(pid, signal.Signals[name])
    program.stop(name)
    assert program.end() == 128 + signal.Signals[name]
    program.check(expected)
    reasons = {e["reason"] for e in program.events() if e["type"] in ("gap", "stream_ended")}
    assert reasons <= {"interrupted", ""}


def test_a_reader_that_has_stopped_reading_does_not_keep_the_run(
    start: Starter, expected: list[tuple[float, float]]
) -> None:
    """The pipe is full, so every write to it waits. The file is complete all the same."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * 3000)
    program = start(2, 0.1, stdout=writing)
    reach(program, "middle")
    time.sleep(1.0)
    program.stop("SIGTERM")
    assert program.end() == 143
    assert time.monotonic() - program.stopped_at > 4, "the pipe did not hold it up"
    program.check(expected)
    os.close(reading)
    os.close(writing)


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_the_run_and_the_file_says_so(
    start: Starter, expected: list[tuple[float, float]]
) -> None:
    reading, writing = os.pipe()
    program = start(2, 0.2, stdout=writing)
    os.close(writing)
    reach(program, "middle")
    os.close(reading)
    assert program.end() == 0  # as with `| head`
    program.check(expected)
    reasons = {event["reason"] for event in program.events() if event["type"] == "stream_ended"}
    assert reasons == {"nobody reads the output any more"}


@pytest.mark.slow
def test_a_terminal_that_is_closed_is_a_signal_and_a_stopped_main_process_loses_nothing(
    start: Starter, expected: list[tuple[float, float]]
) -> None:
    terminal, inside = os.openpty()
    program = start(2, 0.6, stdout=inside)
    threading.Thread(target=lambda: drained(terminal), daemon=True).start()
    reach(program, "middle")
    program.process.send_signal(signal.SIGSTOP)
    time.sleep(4)  # longer than a hub may be silent
    program.process.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    program.stop("SIGHUP")
    os.close(inside)
    os.close(terminal)
    assert program.end() == 129
    program.check(expected)
    reasons = {event["reason"] for event in program.events() if event["type"] == "stream_ended"}
    assert reasons == {"interrupted"}


def drained(terminal: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


@pytest.mark.slow
def test_a_hub_that_dies_too_often_ends_the_run_and_each_stream_with_the_reason(
    start: Starter, expected: list[tuple[float, float]]
) -> None:
    program = start(2, 1.0)
    reach(program, "middle")
    before = 0
    while program.process.poll() is None:
        hubs = [pid for pid, line in program.children().items() if VICTIMS["hub"] in line]
        for pid in hubs:
            if pid != before:
                time.sleep(0.1)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                before = pid
        time.sleep(0.02)
    assert program.end() == 5
    program.check(expected)
    assert any("hub: was killed" in e["reason"] for e in program.events() if e["type"] == "gap")


def test_the_main_process_killed_leaves_whole_lines_and_no_process(start: Starter) -> None:
    program = start(2, 0.3)
    reach(program, "middle")
    children = program.children()
    program.process.kill()
    program.process.wait()
    deadline = time.monotonic() + 5
    while any(is_alive(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert program.output.read_bytes().endswith(b"}\n")
    assert len(program.events()) > 3
