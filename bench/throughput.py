"""Times the command on files: times real time, memory, time to the first label.

A part of `abhinaya bench load --real`. Runs `abhinaya-stream FILE ... --format jsonl` and reads its
lines. CPU is processor seconds of all processes for a second of audio; other load on the machine
affects it less than the times. Memory is sampled four times a second. Resident memory counts shared
pages in each process, PSS once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
from rich.table import Table

from abhinaya.bench.machine import GONE
from abhinaya.bench.monitored import MAIN, Usage
from abhinaya.bench.report import table, table_of
from abhinaya.stream.errors import ProcessError

SAMPLE_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Done:
    """Figures of one run of the command."""

    files: int
    audio_s: float
    segments: int
    gaps: int
    first_label_s: float
    """Seconds from the start of the command to its first label."""
    stream_s: float
    """Seconds from the start of the first stream to the end of the last."""
    cpu_s: float
    """Processor seconds of all processes within `stream_s`."""
    whole_s: float
    """Seconds from the start of the command to its exit."""
    peak_mib: dict[str, float]
    """Process name -> largest resident memory."""
    peak_sum_mib: float
    """Largest sum of resident memory at one moment; shared memory counts in each process."""
    pss_mib: float
    """Largest sum of PSS at one moment; shared memory counts once."""
    others: float
    """Share of the machine that other processes used."""

    @property
    def times_real_time(self) -> float:
        """Seconds of audio for each second, without loading."""
        return self.audio_s / self.stream_s

    @property
    def cpu(self) -> float:
        """Processor seconds for each second of audio, without loading."""
        return self.cpu_s / self.audio_s


class Tree:
    """Samples a process and its children in a thread."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.usage = Usage(SAMPLE_EVERY_S, begun=True)
        self._over, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self) -> Usage:
        """Stop sampling; return the usage."""
        self._over.set()
        self._thread.join()
        return self.usage

    def cpu_s(self) -> float:
        """Return the processor seconds so far."""
        self._sample()
        return self.usage.cpu_s

    def _loop(self) -> None:
        while not self._over.wait(SAMPLE_EVERY_S):
            self._sample()

    def _sample(self) -> None:
        named = [(process_name(pid), pid) for pid in children(self._pid)]
        if named or not self.usage.samples:  # at the end the children have ended
            own = [(MAIN, self._pid), *(one for one in named if one[0])]
            with self._lock:
                self.usage.sample(own, time.monotonic())


def children(pid: int) -> list[int]:
    """Return the process ids of the direct children."""
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except GONE:
        return []


def process_name(pid: int) -> str:
    """Return the supervisor's name for a process; empty for another process."""
    try:
        words: list[str] = psutil.Process(pid).cmdline()
    except GONE:
        return ""
    if "--name" in words:
        return words[words.index("--name") + 1]
    if "-m" in words:
        return words[words.index("-m") + 1].removesuffix(".main").rpartition(".")[2]
    return ""


def measure(files: Sequence[Path], flags: Sequence[str]) -> Done:
    """Run the command on `files`; return its figures.

    Raises ProcessError: the command failed; the message has its last line.
    """
    command = [sys.executable, "-P", "-m", "abhinaya.stream", "--format", "jsonl", *flags]
    begun = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, *map(str, files)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        tree = Tree(process.pid)
        try:
            times, events, cpu_s = _read(process, tree)
        finally:
            process.kill()  # no effect if it has ended
            code = process.wait()
            usage = tree.stop()
        whole_s = time.monotonic() - begun
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").splitlines()
    if code or not any(event["type"] == "stream_ended" for event in events):
        raise ProcessError("abhinaya-stream", f"exited with {code}", lines[-1] if lines else "")
    moments = dict.fromkeys(("stream_started", "verdict"), float("nan"))
    for moment, event in reversed(list(zip(times, events, strict=True))):
        moments[event["type"]] = moment
    ended = [m for m, e in zip(times, events, strict=True) if e["type"] == "stream_ended"]
    return Done(
        files=len(files),
        audio_s=sum(e["duration_s"] for e in events if e["type"] == "stream_ended"),
        segments=sum(e["type"] == "verdict" and e["revision"] == 0 for e in events),
        gaps=sum(e["type"] == "gap" for e in events),
        first_label_s=moments["verdict"] - begun,
        stream_s=ended[-1] - moments["stream_started"],
        cpu_s=cpu_s,
        whole_s=whole_s,
        peak_mib=usage.peaks(),
        peak_sum_mib=usage.resident_mib,
        pss_mib=usage.pss_mib,
        others=usage.others,
    )


def _read(
    process: subprocess.Popen[bytes], tree: Tree
) -> tuple[list[float], list[dict[str, Any]], float]:
    """Return the times of the events, the events, and the streams' processor seconds."""
    assert process.stdout is not None
    times, events, cpu = [], [], [0.0]
    for line in process.stdout:
        times.append(time.monotonic())
        events.append(msgspec.json.decode(line, type=dict[str, Any]))
        if events[-1]["type"] in ("stream_started", "stream_ended"):
            cpu.append(tree.cpu_s())
    process.wait()
    return times, events, cpu[-1] - cpu[min(1, len(cpu) - 1)]


def flags_of(options: argparse.Namespace) -> list[str]:
    """Return the command's flags for the profile and its settings."""
    flags = ["--profile", str(options.profile), "--accept-noncommercial"]
    for pair in options.settings:
        flags += ["--set", pair]
    return flags


def tables(runs: Sequence[Done], best: Done) -> list[Table]:
    """Return memory by process, and the figures of each run."""
    speed = table_of(
        f"{best.files} file(s), {best.audio_s:.0f} s of audio, as fast as the nodes allow",
        {
            "run": lambda run: "fastest" if run is best else "",
            "x real time": "{0.times_real_time:.2f}",
            "CPU": "{0.cpu:.4f}",
            "first label s": "{0.first_label_s:.2f}",
            "whole s": "{0.whole_s:.1f}",
            "gaps": "{0.gaps}",
            "MiB": "{0.peak_sum_mib:.0f}",
            "PSS": "{0.pss_mib:.0f}",
            "others": "{0.others:.0%}",
        },
        runs,
    )
    peaks = sorted(best.peak_mib.items())
    memory = table("Peak resident memory", ("process", "MiB"), [(n, f"{m:.0f}") for n, m in peaks])
    return [memory, speed]
