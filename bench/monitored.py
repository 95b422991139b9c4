"""Runs the real processes and shows their events to watchers."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from abhinaya.models.interrupts import INTERRUPTS, Signalled
from abhinaya.models.text import say
from abhinaya.stream.errors import ProcessError
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.run.monitor import Run
from abhinaya.stream.run.plan import Input, Plan, Supply
from abhinaya.stream.run.supervisor import Supervisor
from abhinaya.stream.serve.calls import Calls
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.settings.flags import overrides
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Activity, Event, Status, StreamStarted, Verdict

GONE = (psutil.NoSuchProcess, psutil.AccessDenied)
MAIN = "main"
"""Name of the process that supervises and records."""


# the observer below prints the same errors; without a handler, logging would print them too
logging.getLogger("abhinaya.run").addHandler(logging.NullHandler())


class Watcher:
    """Receives the events of a run. Each method does nothing unless a watcher overrides it."""

    def event(self, event: Event, now_unix_s: float) -> None:
        """Handle an event of a stream or process, as a sink does."""

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Handle an activity or a provisional verdict."""

    def look(self, processes: Supervisor, now: float) -> None:
        """Examine the processes, at each beat of the hub. `now` is monotonic."""


class _Sink:
    """Passes events to watchers; at each beat of the hub they examine the processes."""

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
            watcher.provisional(event, now_unix_s)

    def close(self) -> None:
        pass


class _Observer:
    """Prints troubles on standard error."""

    def loading(self, stages: Mapping[str, Stage]) -> None:
        pass

    def trouble(self, message: str) -> None:
        say(message, file=sys.stderr)


class _Pushed:
    """A thread that pushes calls, and then ends the run."""

    def __init__(self, body: Callable[[Calls], None]) -> None:
        self._body = body
        self.over = False
        self.error: BaseException | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the cells that need a push front: see `run.plan.Lines`."""
        return ("",)

    def start(self, directory: Path) -> None:
        threading.Thread(target=self._run, args=(directory,), daemon=True).start()

    def _run(self, directory: Path) -> None:
        calls = Calls(directory)
        try:
            self._body(calls)
        except BaseException as error:
            self.error = error
        self.over = True
        calls.close()
        signal.raise_signal(signal.SIGTERM)


class Usage(Watcher):
    """Measures processor time and memory of processes, from the first stream on.

    Memory is read every `every_s` seconds. With `begun` it counts from the first sample on.
    """

    def __init__(self, every_s: float = 1.0, begun: bool = False) -> None:
        self._every_s, self._begun = every_s, begun
        self._next = 0.0
        self._first: dict[int, float] = {}
        self._cpu: dict[int, float] = {}
        self._machine: list[tuple[float, float]] = []
        self.samples: dict[tuple[str, int], list[tuple[float, float]]] = {}
        """(name, process id) -> [(seconds, MiB resident)]"""
        self.resident_mib = 0.0
        """Largest sum over all processes at one moment; shared memory counts in each process."""
        self.pss_mib = 0.0
        """Largest sum over all processes at one moment; shared memory counts once."""

    def event(self, event: Event, now_unix_s: float) -> None:
        """Start counting at the first stream, after loading."""
        self._begun = self._begun or isinstance(event, StreamStarted)

    def look(self, processes: Supervisor, now: float) -> None:
        """Read the counters of this process and its children."""
        self.sample([(MAIN, os.getpid()), *running(processes)], now)

    def sample(self, named: Sequence[tuple[str, int]], now: float) -> None:
        """Read the counters of processes, named as (name, process id)."""
        cpu = {pid: cpu_seconds(pid) for _, pid in named}
        if not self._begun or not self._machine:
            self._first, self._machine = cpu, [machine_seconds()]
        self._machine[1:] = [machine_seconds()]
        # a process that has ended keeps its last value
        self._cpu |= {pid: max(used, self._cpu.get(pid, 0.0)) for pid, used in cpu.items()}
        if not self._begun or now < self._next:
            return
        self._next = now + self._every_s
        alive = {one: mib for one in named if (mib := resident_mib(one[1]))}
        for one, mib in alive.items():
            self.samples.setdefault(one, []).append((now, mib))
        self.resident_mib = max(self.resident_mib, sum(alive.values()))
        self.pss_mib = max(self.pss_mib, sum(pss_mib(pid) for _, pid in alive))

    def peaks(self) -> dict[str, float]:
        """Return the largest resident memory of each process in MiB, by name."""
        result: dict[str, float] = {}
        for (name, _), samples in self.samples.items():
            result[name] = max(result.get(name, 0.0), *(mib for _, mib in samples))
        return result

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all processes."""
        return sum(used - self._first.get(pid, 0.0) for pid, used in self._cpu.items())

    @property
    def others(self) -> float:
        """Share of the machine, 0 to 1, that other processes used."""
        if len(self._machine) < 2:
            return 0.0
        used, idle = (b - a for a, b in zip(*self._machine, strict=True))
        return max(0.0, used - self.cpu_s) / (used + idle) if used + idle > 0.1 else 0.0


def running(processes: Supervisor) -> list[tuple[str, int]]:
    """Return name and process id of every running child."""
    named = ((name, processes.pid(name)) for name in processes.stages())
    return [(name, pid) for name, pid in named if pid is not None]


def live(recordings: Mapping[str, Path]) -> list[Input]:
    """Return inputs that play the named recordings in real time."""
    return [Input(n, InputConfig(str(path), realtime=True)) for n, path in recordings.items()]


def play(
    config: configuration.Config,
    inputs: Sequence[Input],
    watchers: Sequence[Watcher],
    supply: Supply | None = None,
    pushes: Callable[[Calls], None] | None = None,
) -> None:
    """Run inputs, and those of a supply, to their end; with `pushes`, until it returns."""
    sink = _Sink(watchers)
    pushed = _Pushed(pushes) if pushes else None
    with run_directory() as directory:
        plan = Plan(config, tuple(inputs), None, True, supply, calls=pushed)
        run = Run(plan, directory, [sink], _Observer())
        sink.processes = run.supervisor
        if pushed:
            pushed.start(directory)
        code = run.run()
    if pushed and pushed.error:
        raise pushed.error
    if INTERRUPTS.count and not (pushed and pushed.over):
        raise Signalled(INTERRUPTS.number)
    if code:
        raise ProcessError("the run", f"ended with exit code {code}")


def add_profile(arguments: argparse.ArgumentParser) -> None:
    """Add the flags for a profile and its settings."""
    add = arguments.add_argument
    add("--profile", default=configuration.EMBEDDED, help="(%(default)s)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")


def profile_of(options: argparse.Namespace) -> configuration.Config:
    """Return the chosen profile with the chosen settings."""
    return profile_files.load(options.profile, overrides(options.settings))


# --- processor time and memory, by psutil ---------------------------------------------------------


def machine_seconds() -> tuple[float, float]:
    """Return the busy and the idle processor seconds of all cores together."""
    times = psutil.cpu_times()
    idle = times.idle + times.iowait
    return times.user + times.system + times.nice + times.irq + times.softirq + times.steal, idle


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds that a process has used; 0 if it has ended."""
    return _read(pid, lambda process: sum(process.cpu_times()[:2]))


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process; 0 if it has ended."""
    return _read(pid, lambda process: process.memory_info().rss / 2**20)


def pss_mib(pid: int) -> float:
    """Return the proportional set size (PSS) of a process; 0 if it has ended."""
    return _read(pid, lambda process: process.memory_full_info().pss / 2**20)


def _read(pid: int, value: Callable[[psutil.Process], float]) -> float:
    try:
        return float(value(psutil.Process(pid)))
    except GONE:
        return 0.0
