"""Times the command on files: times real time, memory, time to the first label.

A part of `abhinaya bench load --real`. Runs `abhinaya-stream FILE ... --format jsonl` and reads its
lines. CPU is processor seconds of all processes for a second of audio; other load on the machine
affects it less than the times. Memory is sampled four times a second. Resident memory counts shared
pages in each process, PSS once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
from rich.table import Table

from abhinaya.bench.monitored import GONE, MAIN, Usage
from abhinaya.bench.report import table, table_of
from abhinaya.stream.errors import ProcessError

SAMPLE_EVERY_S: Final = 0.25


Done = dict[str, Any]
"""Figures of one run of the command:

first_label_s   from the start of the command to its first label
stream_s        from the start of the first stream to the end of the last, so without loading
whole_s         from the start of the command to its exit
cpu             processor seconds of all processes within `stream_s`, for a second of audio
peak_mib        process -> largest resident memory
peak_sum_mib    largest sum of resident memory at one moment, with shared memory in each process
pss_mib         the same with shared memory once
others          share of the machine that other processes used
"""


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
    with contextlib.suppress(*GONE):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def process_name(pid: int) -> str:
    """Return the supervisor's name for a process; empty for another process."""
    words: list[str] = []
    with contextlib.suppress(*GONE):
        words = psutil.Process(pid).cmdline()
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
    events: list[dict[str, Any]] = []
    cpu = [0.0]
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
            for line in process.stdout or ():
                at = time.monotonic()
                events.append(msgspec.json.decode(line, type=dict[str, Any]) | {"at": at})
                if events[-1]["type"] in ("stream_started", "stream_ended"):
                    cpu.append(tree.cpu_s())
            process.wait()
        finally:
            process.kill()  # no effect if it has ended
            code = process.wait()
            usage = tree.stop()
        whole_s = time.monotonic() - begun
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").splitlines()
    started, ended, verdicts, gaps = (
        [event for event in events if event["type"] == kind]
        for kind in ("stream_started", "stream_ended", "verdict", "gap")
    )
    if code or not ended:
        raise ProcessError("abhinaya-stream", f"exited with {code}", lines[-1] if lines else "")
    audio_s = sum(event["duration_s"] for event in ended)
    stream_s = ended[-1]["at"] - started[0]["at"]
    return {
        "files": len(files),
        "audio_s": audio_s,
        "segments": sum(event["revision"] == 0 for event in verdicts),
        "gaps": len(gaps),
        "first_label_s": verdicts[0]["at"] - begun if verdicts else float("nan"),
        "stream_s": stream_s,
        "times_real_time": audio_s / stream_s,
        "cpu": (cpu[-1] - cpu[1]) / audio_s,
        "whole_s": whole_s,
        "peak_mib": usage.peaks(),
        "peak_sum_mib": usage.resident_mib,
        "pss_mib": usage.pss_mib,
        "others": usage.others,
    }


def flags_of(options: argparse.Namespace) -> list[str]:
    """Return the command's flags for the profile and its settings."""
    flags = ["--profile", str(options.profile), "--accept-noncommercial"]
    for pair in options.settings:
        flags += ["--set", pair]
    return flags


def tables(runs: Sequence[Done], best: Done) -> list[Table]:
    """Return memory by process, and the figures of each run."""
    speed = table_of(
        f"{best['files']} file(s), {best['audio_s']:.0f} s of audio, as fast as the nodes allow",
        {
            "run": lambda run: "fastest" if run is best else "",
            "x real time": "{0[times_real_time]:.2f}",
            "CPU": "{0[cpu]:.4f}",
            "first label s": "{0[first_label_s]:.2f}",
            "whole s": "{0[whole_s]:.1f}",
            "gaps": "{0[gaps]}",
            "MiB": "{0[peak_sum_mib]:.0f}",
            "PSS": "{0[pss_mib]:.0f}",
            "others": "{0[others]:.0%}",
        },
        runs,
    )
    peaks = sorted(best["peak_mib"].items())
    memory = table("Peak resident memory", ("process", "MiB"), [(n, f"{m:.0f}") for n, m in peaks])
    return [memory, speed]
