"""Files as fast as the nodes allow: times real time, memory, and the time to the first label.

    abhinaya bench throughput

Runs the command a person would, `abhinaya-stream FILE ... --format jsonl`, and reads its lines as
they come. Memory is resident memory of each of its processes, sampled four times a second; pages
that processes share are counted in each, so that the sum is an upper bound.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.table import Table

from abhinaya.bench.load import busy, others_share
from abhinaya.bench.machine import resident_mib
from abhinaya.bench.monitored import MAIN, add_profile
from abhinaya.bench.recording import demo
from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.stream.errors import ProcessError

SAMPLE_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Done:
    """One run of the command."""

    files: int
    audio_s: float
    segments: int
    gaps: int
    first_label_s: float
    """From starting the command to its first label."""
    stream_s: float
    """From the first stream's start to the last one's end."""
    whole_s: float
    """From starting the command to its exit."""
    peak_mib: dict[str, float]
    """By process."""
    peak_sum_mib: float
    """Of all processes at one moment."""
    others: float
    """Share of the machine that processes not of the run used meanwhile."""

    @property
    def times_real_time(self) -> float:
        """Seconds of audio a second, once loaded."""
        return self.audio_s / self.stream_s

    @property
    def segments_per_s(self) -> float:
        """Segments decided a second, once loaded."""
        return self.segments / self.stream_s


class Tree:
    """Samples the memory of a process and its children in a thread until it is gone."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.pids: set[int] = {pid}
        self.peaks: dict[str, float] = {}
        self.peak_sum = 0.0
        self._before = self._after = busy(self.pids)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Stop sampling; give the share of the machine that others used."""
        self._over.set()
        self._thread.join()
        return others_share(self._before, self._after)

    def _loop(self) -> None:
        while not self._over.wait(SAMPLE_EVERY_S):
            pids = [self._pid, *children(self._pid)]
            self.pids.update(pids)
            total = 0.0
            for pid in pids:
                mib = resident_mib(pid)
                name = MAIN if pid == self._pid else process_name(pid)
                if name:
                    self.peaks[name] = max(self.peaks.get(name, 0.0), mib)
                    total += mib
            self.peak_sum = max(self.peak_sum, total)
            if len(pids) > 1:  # at the end they are gone, and their counters with them
                self._after = busy(self.pids)


def children(pid: int) -> list[int]:
    """Give the process ids of the direct children."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def process_name(pid: int) -> str:
    """Give the name that the supervisor gave a process; empty if it is gone or none of its own."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return ""
    if "--name" in words:
        return words[words.index("--name") + 1]
    if "-m" in words:
        return words[words.index("-m") + 1].rpartition(".")[2]
    return ""


def measure(files: Sequence[Path], flags: Sequence[str]) -> Done:
    """Run the command on `files`.

    Raises:
        ProcessError: it failed; the reason is its last line.

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
            times, events = _read(process)
        finally:
            process.kill()  # has no effect on one that has ended
            code = process.wait()
            others = tree.stop()
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
        whole_s=whole_s,
        peak_mib=tree.peaks,
        peak_sum_mib=tree.peak_sum,
        others=others,
    )


def _read(process: subprocess.Popen[bytes]) -> tuple[list[float], list[dict[str, Any]]]:
    """Read events to the end of the output, each with the moment it came."""
    assert process.stdout is not None
    times, events = [], []
    for line in process.stdout:
        times.append(time.monotonic())
        events.append(msgspec.json.decode(line, type=dict[str, Any]))
    process.wait()
    return times, events


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit with 1 if a segment became a gap."""
    arguments = parser("throughput", __doc__)
    arguments.add_argument("files", nargs="*", type=Path, help="(the demo recording)")
    arguments.add_argument("--repeats", type=int, default=3, help="runs; the fastest stands (3)")
    add_profile(arguments)
    options = arguments.parse_args(argv)
    files = options.files or [demo()]
    runs = [measure(files, flags_of(options)) for _ in range(options.repeats)]
    best = max(runs, key=lambda run: run.times_real_time)
    first = min(run.first_label_s for run in runs)
    settings = {"profile": options.profile, "settings": options.settings, "files": files}
    settings["files"] = [str(path) for path in files]
    figures = {
        "best": asdict(best),
        "times_real_time": best.times_real_time,
        "segments_per_s": best.segments_per_s,
        "first_label_s": first,
        "runs": [asdict(run) for run in runs],
    }
    publish(Report("throughput", settings, figures), _tables(runs, best), options.json)
    return 1 if any(run.gaps for run in runs) else 0


def flags_of(options: argparse.Namespace) -> list[str]:
    """Give the flags of the command that choose the profile and its settings."""
    flags = ["--profile", str(options.profile), "--accept-noncommercial"]
    for pair in options.settings:
        flags += ["--set", pair]
    return flags


def _tables(runs: Sequence[Done], best: Done) -> list[Table]:
    speed = table(
        f"{best.files} file(s), {best.audio_s:.0f} s of audio, as fast as the nodes allow",
        ("run", "x real time", "segments/s", "first label s", "whole s", "gaps", "MiB", "others"),
        [
            (
                f"{number}" + (" (fastest)" if run is best else ""),
                f"{run.times_real_time:.2f}",
                f"{run.segments_per_s:.2f}",
                f"{run.first_label_s:.2f}",
                f"{run.whole_s:.1f}",
                str(run.gaps),
                f"{run.peak_sum_mib:.0f}",
                f"{run.others:.0%}",
            )
            for number, run in enumerate(runs, 1)
        ],
    )
    memory = table(
        "Peak resident memory",
        ("process", "MiB"),
        [
            *((name, f"{mib:.0f}") for name, mib in sorted(best.peak_mib.items())),
            ("all at once", f"{best.peak_sum_mib:.0f}"),
        ],
    )
    return [memory, speed]
