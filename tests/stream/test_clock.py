"""Somebody sets the system's clock: no deadline, position or latency of a run changes."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import wave
from datetime import datetime
from pathlib import Path

import pytest
from places import ROOT

from abhinaya.stream.clock import handed_on, unix_time
from abhinaya.stream.front.numbering import BEHIND_S, BEHIND_WINDOW_S, Lag

MAY_READ = {
    "clock.py",  # once, when the run begins
    "run/directory.py",  # compares with the times of files, which are of that clock
    "sinks/alerts/webhook.py",  # a receiver compares the stamp of a delivery with its own clock
}
WALL = {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime.now"}

JUMPING = """
import time
real = time.time
time.time = lambda: real() + 3600 * (int(time.monotonic() * 2) % 3 - 1)
"""


def test_only_one_file_reads_a_clock_that_can_be_set() -> None:
    found = {
        path.relative_to(ROOT / "stream").as_posix()
        for path in (ROOT / "stream").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in WALL
    }
    assert found == MAY_READ


def test_a_process_of_the_run_shares_its_clock_whatever_the_system_says() -> None:
    script = "import time; time.time = lambda: 5.0; from abhinaya.stream import clock as c; "
    command = [sys.executable, "-c", script + "print(c.unix_time())"]
    theirs = subprocess.check_output(command, env=os.environ | handed_on())
    assert float(theirs) == pytest.approx(unix_time(), abs=30.0)


def test_a_delay_that_passes_is_late_and_one_that_stays_belongs_to_the_source() -> None:
    lag, now = Lag(), 1000.0
    for step in range(10 * 60):  # one stall of 5 s in each minute
        lag.seen(now + step, 5.0 if step % 60 < 10 else 0.2)
        assert lag.lasting_s == 0.0
    for step in range(1, 2 * round(BEHIND_WINDOW_S) + 2):
        lag.seen(now + 600 + step, 5.0)
    assert lag.lasting_s == pytest.approx(5.0 - BEHIND_S)
    lag.seen(now + 800, 0.1)  # the source has caught up
    assert lag.lasting_s == 0.0


@pytest.mark.processes
def test_a_clock_that_jumps_by_an_hour_changes_nothing(tmp_path: Path, short_call: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING, "utf-8")
    with wave.open(str(short_call)) as whole, wave.open(str(tmp_path / "a.wav"), "wb") as part:
        part.setparams(whole.getparams())
        part.writeframes(whole.readframes(8 * 16_000))
    command = [sys.executable, "-m", "abhinaya.stream", "a.wav", "--realtime", "--format", "jsonl"]
    begun = unix_time()
    out = subprocess.check_output(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, timeout=60
    )
    events = [json.loads(line) for line in out.splitlines()]
    verdicts = [e for e in events if e["type"] == "verdict" and e["final"]]
    (start,) = [e["wall_time"] for e in events if e["type"] == "stream_started"]
    (end,) = [e["duration_s"] for e in events if e["type"] == "stream_ended"]
    assert end == pytest.approx(8.0, abs=0.05)
    assert verdicts
    assert not [e for e in events if e["type"] == "gap"]
    took_s = unix_time() - begun
    for verdict in verdicts:
        assert verdict["votes"]
        assert 0 < verdict["latency_ms"]["total"] < 5000
        passed = datetime.fromisoformat(verdict["wall_time"]) - datetime.fromisoformat(start)
        assert passed.total_seconds() == pytest.approx(verdict["start_s"], abs=0.01)
        # the run's own clock, read once, may be an hour off; it must not jump after that
        away = (datetime.fromisoformat(start).timestamp() - begun + 1800) % 3600 - 1800
        assert 0 <= away < took_s
