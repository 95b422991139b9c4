"""Runs of the real processes with watchers: the run's own loop, looked at twice a second."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from abhinaya.bench.load import TICKS_PER_S, busy, cpu_seconds
from abhinaya.bench.machine import resident_mib
from abhinaya.stream import config as configuration
from abhinaya.stream.errors import ProcessError
from abhinaya.stream.flags import overrides
from abhinaya.stream.messages import Activity, Event, Status, Verdict
from abhinaya.stream.plan import Input, Plan
from abhinaya.stream.run import Run, run_directory
from abhinaya.stream.sinks.base import ShowsProvisional
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.supervisor import Stage, Supervisor

MAIN = "main"
"""How the process that supervises and records is called."""


class Watcher(Protocol):
    """Sees what happens in a run; what is provisional, if it has a place for that as a sink has."""

    def event(self, event: Event, now_unix_s: float) -> None:
        """Take an event of a stream or process, as a sink does."""
        ...

    def look(self, processes: Supervisor, now: float) -> None:
        """Look at the processes; called with each of the hub's beats. `now` is monotonic."""
        ...


class _Sink:
    """Passes events on to watchers; the hub's beat is when they look."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers
        self.processes: Supervisor | None = None

    def write(self, event: Event, now_unix_s: float) -> None:
        for watcher in self._watchers:
            watcher.event(event, now_unix_s)
            if isinstance(event, Status) and self.processes is not None:
                watcher.look(self.processes, time.monotonic())

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        for watcher in self._watchers:
            if isinstance(watcher, ShowsProvisional):
                watcher.provisional(event, now_unix_s)

    def close(self) -> None:
        pass


class _Teller:
    """Says on standard error what went wrong; loading is silent."""

    def loading(self, stages: Mapping[str, Stage]) -> None:
        pass

    def trouble(self, message: str) -> None:
        print(message, file=sys.stderr)


class Memory:
    """Resident memory of each process over time, in MiB.

    Args:
        every_s: between two samples.

    """

    def __init__(self, every_s: float = 1.0) -> None:
        self._every_s = every_s
        self._next = 0.0
        self.samples: dict[tuple[str, int], list[tuple[float, float]]] = {}
        """(name, process id) -> [(seconds, MiB)]"""

    def event(self, event: Event, now_unix_s: float) -> None:
        """Ignore it."""

    def look(self, processes: Supervisor, now: float) -> None:
        """Take a sample of everything that runs."""
        if now < self._next:
            return
        self._next = now + self._every_s
        for name, pid in [(MAIN, os.getpid()), *running(processes)]:
            if resident := resident_mib(pid):
                self.samples.setdefault((name, pid), []).append((now, resident))

    def peaks(self) -> dict[str, float]:
        """Give the largest sample of each process, by name."""
        result: dict[str, float] = {}
        for (name, _), samples in self.samples.items():
            result[name] = max(result.get(name, 0.0), *(mib for _, mib in samples))
        return result


class Others:
    """The share of the machine that processes not of the run used while it went on."""

    def __init__(self) -> None:
        self._cpu: dict[int, float] = {}
        self._first: tuple[float, float, float] | None = None
        self._last = (0.0, 0.0, 0.0)

    def event(self, event: Event, now_unix_s: float) -> None:
        """Ignore it."""

    def look(self, processes: Supervisor, now: float) -> None:
        """Read the counters."""
        for _, pid in [(MAIN, os.getpid()), *running(processes)]:
            self._cpu[pid] = max(self._cpu.get(pid, 0.0), cpu_seconds(pid))
        now_busy = busy(())
        self._last = (now_busy.all_s, now_busy.idle_s, sum(self._cpu.values()))
        if self._first is None:
            self._first = self._last

    @property
    def share(self) -> float:
        """The share, 0 to 1."""
        if self._first is None:
            return 0.0
        used, idle, ours = (b - a for a, b in zip(self._first, self._last, strict=True))
        return max(0.0, used - ours) / (used + idle) if used + idle > 1 / TICKS_PER_S else 0.0


def running(processes: Supervisor) -> list[tuple[str, int]]:
    """Give name and process id of every child that runs."""
    named = ((name, processes.pid(name)) for name in processes.stages())
    return [(name, pid) for name, pid in named if pid is not None]


def play(
    config: configuration.Config, recordings: dict[str, Path], watchers: Sequence[Watcher]
) -> None:
    """Run paced streams, one for each named recording, to their end.

    Raises:
        AbhinayaError: the run could not go on.

    """
    inputs = tuple(
        Input(name, InputConfig(str(path), realtime=True)) for name, path in recordings.items()
    )
    sink = _Sink(watchers)
    with run_directory() as directory:
        run = Run(Plan(config, inputs, None, True), directory, [sink], _Teller())
        sink.processes = run.supervisor
        code = run.run()
    if code:
        raise ProcessError("the run", f"ended with exit code {code}")


def add_profile(arguments: argparse.ArgumentParser) -> None:
    """Add the flags that choose a profile and change its settings."""
    arguments.add_argument("--profile", default=configuration.EMBEDDED, help="(%(default)s)")
    arguments.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings"
    )


def profile_of(options: argparse.Namespace) -> configuration.Config:
    """Load the profile that was chosen.

    Raises:
        ConfigError: it does not exist, or a setting does not fit.

    """
    return configuration.load(options.profile, overrides(options.settings))
