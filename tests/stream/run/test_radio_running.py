"""Radio through the whole program: cut, back, its process killed, and ended by Ctrl-C."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media_server import Radio, Site, site
from source_fakes import encode

from abhinaya.bench.demo import CALL
from abhinaya.stream.sources import open_source
from abhinaya.stream.sources.base import InputConfig

pytestmark = pytest.mark.processes

QUICK = ("--set", "network.stall_s=3", "--set", "network.longest_pause_s=0.7",
         "--set", "supervise.backoff_s=0.1")  # fmt: skip


@pytest.fixture(scope="module")
def program() -> tuple[bytes, float]:
    """The demo call, twice, as a broadcast, and its seconds."""
    call = np.concatenate([c.samples for c in open_source(InputConfig(str(CALL))).chunks()])
    target = io.BytesIO()
    encode(target, np.concatenate([call, call]), 16_000, "aac", "adts")
    return target.getvalue(), 2 * len(call) / 16_000


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as server:
        yield server


def start(url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "abhinaya.stream", url, "--format", "jsonl", *QUICK]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], timeout_s: float = 60) -> list[dict[str, Any]]:
    assert process.stdout
    assert process.stderr
    process.send_signal(signal.SIGINT)
    # not communicate(): it passes over the lines that readline() has taken in ahead
    out, errors = process.stdout.read(), process.stderr.read()
    process.wait(timeout=timeout_s)
    assert "Traceback" not in errors
    assert process.returncode == 0, errors  # nothing else could have ended it
    return [json.loads(line) for line in out.splitlines()]


def accounted(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the stream's segments and gaps, having checked that none is missing, nor overlaps."""
    told = [e for e in events if e["type"] == "gap" or (e["type"] == "verdict" and e["final"])]
    first = {e["segment"]: e for e in reversed(told)}
    assert sorted(first) == list(range(len(first)))
    ordered = [first[n] for n in sorted(first)]
    for before, after in itertools.pairwise(ordered):
        assert before["end_s"] <= after["start_s"] + 0.001
    [end] = [e for e in events if e["type"] == "stream_ended"]
    assert end["segments"] == len(first)
    assert end["reason"] == "interrupted"
    return ordered


@pytest.mark.slow
def test_radio_that_is_cut_goes_on_with_a_gap_and_says_so(
    web: Site, program: tuple[bytes, float]
) -> None:
    data, seconds = program
    web.routes["/talk.aac"] = Radio(data, len(data) / seconds, lengths_s=[9.0], deaf_s=3.0)
    process = start(web.url("/talk.aac", user="joe:s3cret@"))
    assert process.stdout
    events = []
    deadline = time.monotonic() + 90
    while not (events and events[-1]["type"] == "verdict" and events[-1]["start_s"] > 13):
        events.append(json.loads(process.stdout.readline()))
        assert time.monotonic() < deadline
    events += finish(process)
    assert "s3cret" not in json.dumps(events)
    gaps = [e for e in accounted(events) if e["type"] == "gap"]
    [gap] = [e for e in gaps if "the connection was lost" in e["reason"]]
    assert 8 < gap["start_s"] < 11
    assert 1.5 < gap["end_s"] - gap["start_s"] < 7
    remarks = " ".join(e["text"] for e in events if e["type"] == "remark")
    assert "connecting again" in remarks
    assert "connected again" in remarks
    [started] = [e for e in events if e["type"] == "stream_started"]
    assert started["live"]
    assert started["stream"] == "talk"


@pytest.mark.slow
def test_a_process_that_listens_to_radio_may_be_killed(
    web: Site, program: tuple[bytes, float], tmp_path: Path
) -> None:
    data, seconds = program
    web.routes["/talk.aac"] = Radio(data, len(data) / seconds)
    process = start(web.url("/talk.aac"))
    assert process.stdout
    events: list[dict[str, Any]] = []
    deadline = time.monotonic() + 90
    # amid the first segment: nothing of the stream is written yet but that it has begun
    while not any(e["type"] == "stream_started" for e in events):
        events.append(json.loads(process.stdout.readline()))
        assert time.monotonic() < deadline
    for _ in range(2):
        os.kill(front_of(process.pid), signal.SIGKILL)
        seen = len(events)
        while not any(e["type"] == "verdict" and e["final"] for e in events[seen:]):
            events.append(json.loads(process.stdout.readline()))
            assert time.monotonic() < deadline
    events += finish(process)
    told = accounted(events)
    gaps = [e for e in told if e["type"] == "gap"]
    restarts = [e for e in gaps if e["reason"] == "the input's process was restarted"]
    assert len(restarts) == 2
    assert told[0] == restarts[0]
    assert restarts[0]["start_s"] == 0
    # who tunes in amid a frame may take its bits for the beginning of others, which are damaged
    for gap in (e for e in gaps if e not in restarts):
        assert gap["reason"] == "its time stamps leave a hole"
        assert gap["end_s"] - gap["start_s"] < 0.5
    for verdict in (e for e in events if e["type"] == "verdict" and not e["revision"]):
        assert verdict["latency_ms"]["capture"] < 3000  # what was missed is no latency


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_dead_server(web: Site, program: tuple[bytes, float]) -> None:
    data, seconds = program
    radio = Radio(data, len(data) / seconds, lengths_s=[4.0], deaf_s=1e9)
    web.routes["/talk.aac"] = radio
    process = start(web.url("/talk.aac"))
    assert process.stdout
    lines: list[str] = []
    watch = threading.Timer(90, process.kill)
    watch.start()
    for line in process.stdout:
        lines.append(line)
        if "connecting again" in line:
            break
    watch.cancel()
    begun = time.monotonic()
    events = [json.loads(line) for line in lines] + finish(process)
    assert time.monotonic() - begun < 15
    accounted(events)


def front_of(pid: int) -> int:
    """Process id of the front that a run has started."""
    listing = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    ).stdout
    [front] = [
        line.split()[0] for line in listing.splitlines() if "abhinaya.stream.front.main" in line
    ]
    return int(front)
