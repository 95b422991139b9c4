"""Two cells beside each other: how much more they pass than one; and what the map costs a call.

    abhinaya bench cells

A cell is a real hub on TCP with CURVE, five null nodes, and a process that acts as all fronts and
the recorder. All of it is bound to one core, so that a core stands for a machine: two cells share
no processor time, as on two machines. In each round each cell passes alone what it can, then both
at once. By the clock the ratio needs a quiet machine; by processor time what others take is left
out, and the ratio says what cells cost each other. Calls go to cells as the real map says.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from abhinaya.bench.capacity.front import Passed
from abhinaya.bench.capacity.lab import LabCell, cell, on_core
from abhinaya.bench.monitored import cpu_seconds
from abhinaya.bench.null_nodes import NEEDS
from abhinaya.bench.report import Report, parser, publish, settings_of, table
from abhinaya.stream.cells.map import Cell, CellMap
from abhinaya.stream.errors import ConfigError, ProcessError
from abhinaya.stream.wire.keys import HUB, read_public

CALLS: Final = 64
MAPS: Final = (2, 24, 100, 1000)
"""Numbers of cells with which the choice is timed."""
CHOICES: Final = 300
SOON_S: Final = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a segment was lost."""
    arguments = parser("cells", __doc__)
    add = arguments.add_argument
    add("--seconds", type=float, default=5.0, help="of each measurement (%(default)g)")
    add("--repeats", type=int, default=5, help="rounds (%(default)s)")
    options = arguments.parse_args(argv)
    for option, value in (("--seconds", options.seconds), ("--repeats", options.repeats)):
        if not 1 <= value <= 3600:
            raise ConfigError(f"{option} {value}", "is not from 1 to 3600")
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise ConfigError("abhinaya bench cells", "needs two cores: each stands for a machine")
    rounds = [measure(cores, options.seconds) for _ in range(options.repeats)]
    lost, load = sum(found.lost for found in rounds), os.getloadavg()[0]
    costs = {cells: choice_s(cells) for cells in MAPS}
    rows = [
        (f"{number}", *(f"{rate:,.0f}/s" for rate in found.per_s), f"{found.ratio:.2f}",
         *(f"{rate:,.0f}" for rate in found.per_cpu_s), f"{found.cpu_ratio:.2f}")
        for number, found in enumerate(rounds, 1)
    ]  # fmt: skip
    title = "Segments of 5 s a second, and for a processor second; each cell has a core of its own"
    alone_and_both = ("first", "second", "both", "ratio")
    columns = ["round", *alone_and_both, "first/CPU s", "second/CPU s", "both/CPU s", "ratio"]
    map_rows = [(f"{cells:,} cells", f"{1e6 * cost:,.1f} us") for cells, cost in costs.items()]
    ratios = {
        "by the clock": [found.ratio for found in rounds],
        "by processor time": [found.cpu_ratio for found in rounds],
    }
    figures = {"rounds": rounds, "ratios": ratios, "lost": lost, "choice_s": costs, "load": load}
    publish(
        Report("cells", settings_of(options), figures),
        [table(title, columns, rows), table("The choice of a cell", ("map", "a call"), map_rows)],
        options.json,
    )
    for way, found in ratios.items():
        median, least, most = statistics.median(found), min(found), max(found)
        spread = f"median of {len(found)}, {least:.2f} to {most:.2f}"
        print(f"two cells pass {median:.2f} times what one passes, {way} ({spread})")
    print(f"{lost} segments lost; the load of the machine is {load:.1f} on {os.cpu_count()} cores")
    return 1 if lost else 0


@dataclass(frozen=True, slots=True)
class Round:
    """Segments a second of the first cell alone, of the second alone, and of both at once."""

    per_s: tuple[float, float, float]
    per_cpu_s: tuple[float, float, float]
    """The same for a processor second of a cell, both cells added: what others take is left out."""
    lost: int

    @property
    def ratio(self) -> float:
        """Return how many times as much both pass as one."""
        return times(self.per_s)

    @property
    def cpu_ratio(self) -> float:
        """Return the same by processor time."""
        return times(self.per_cpu_s)


def times(rates: Sequence[float]) -> float:
    """Return the last rate as a multiple of the mean of the others."""
    return rates[-1] / statistics.mean(rates[:-1])


def measure(cores: Sequence[int], seconds: float) -> Round:
    """Let each cell pass alone what it can, then both at once."""
    with ExitStack() as stack:
        labs = [stack.enter_context(cell(NEEDS, core)) for core in cores]
        cells = tuple(
            Cell(
                name=f"cell-{number}",
                endpoint=lab.endpoint,
                key=read_public(lab.keys.directory / f"{HUB}.key").public,
            )
            for number, lab in enumerate(labs)
        )
        known = CellMap(epoch=1, cells=cells)
        chosen = Counter(known.choose(f"call-{number}") for number in range(CALLS))
        fronts = [
            stack.enter_context(_front(lab, chosen[of], core, seconds))
            for lab, of, core in zip(labs, cells, cores, strict=True)
        ]
        for front in fronts:
            _line(front)
        both = [(lab.processes, front) for lab, front in zip(labs, fronts, strict=True)]
        found = [_passed(group) for group in (both[:1], both[1:], both)]
    first, second, at_once = (
        (sum(p.per_s for p, _ in group), sum(p.segments / cpu_s for p, cpu_s in group))
        for group in found
    )
    rates, per_cpu = zip(first, second, at_once, strict=True)
    return Round(rates, per_cpu, sum(one.lost for group in found for one, _ in group))


def _passed(
    cells: Sequence[tuple[tuple[int, ...], subprocess.Popen[str]]],
) -> list[tuple[Passed, float]]:
    """Let the fronts of some cells begin at once; return what each cell passed, and its CPU."""
    before = [_cpu_s(*each) for each in cells]
    begin = time.monotonic() + SOON_S
    for _, front in cells:
        assert front.stdin is not None
        front.stdin.write(f"{begin}\n")
        front.stdin.flush()
    passed = [msgspec.json.decode(_line(front), type=Passed) for _, front in cells]
    spent = [_cpu_s(*each) - since for each, since in zip(cells, before, strict=True)]
    return list(zip(passed, spent, strict=True))


def _cpu_s(processes: Sequence[int], front: subprocess.Popen[str]) -> float:
    return sum(map(cpu_seconds, (*processes, front.pid)))


@contextmanager
def _front(
    lab: LabCell, streams: int, core: int, seconds: float
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", "-m", "abhinaya.bench.capacity.front", lab.endpoint]
    command += [str(lab.keys.directory), lab.keys.name, str(max(1, streams)), str(seconds)]
    with on_core(core):
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise ProcessError("a front", f"ended with {process.wait()}", "see its last lines above")
    return line


def choice_s(cells: int) -> float:
    """Return the processor time of the choice of a cell for a call."""
    made = (Cell(name=f"cell-{n}", endpoint=f"tcp://10.0.0.1:{2 * n + 1}") for n in range(cells))
    known = CellMap(epoch=1, cells=tuple(made))
    before = time.process_time()
    for number in range(CHOICES):
        known.choose(f"twilio:CA{number:032x}")
    return (time.process_time() - before) / CHOICES
