"""The faults of several machines: each is made during calls, which are then counted.

Whoever runs the cells is a `Cells`: nobody (`standing.py`) or `abhinaya cluster up` (`placed.py`).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from cluster import observer
from cluster.calls import Calls
from cluster.count import Came
from cluster.figures import note
from cluster.lab import Lab, Machine, until

from abhinaya.stream.cells.map import decode

ANSWERS_S: Final = 6
"""Within this a killed node or hub is there again."""
LOST_S: Final = 20
"""Within this the calls of a machine or cell that is lost have labels again."""
NOTICES: Final = 10
"""A cut makes fewer `node_up` and `node_down` of one node."""

CELL: Final = "alpha"
"""The cell that the faults hit; `beta` is the other one."""


class Cells(Protocol):
    """Two cells, alpha and beta, in good health."""

    title: str
    """In the table."""
    lab: Lab
    client: Machine
    profile: Path
    map: Path
    """The map of cells."""

    @property
    def options(self) -> Sequence[object]:
        """Return how calls reach the cells."""
        ...

    def calls_of(self, name: str) -> set[str]:
        """Return the calls that this cell has when all cells are open."""
        ...

    def kill_hub(self, name: str) -> float:
        """Kill the hub of a cell, which then starts again; return when it was killed."""
        ...

    def kill_node(self, name: str) -> float:
        """Kill the node of a cell, which then starts again; return when it was killed."""
        ...

    def hub_machine(self, name: str) -> Machine:
        """Return the machine of the hub of a cell."""
        ...


def begin(cells: Cells, seconds: int) -> Calls:
    """Begin calls in both cells, after the end of those of a test that failed."""
    cells.client.kill("abhinaya-stream", "--format")
    calls = Calls(cells.client, cells.profile, seconds, [*cells.options, "--realtime"])
    calls.running()
    return calls


def finish(
    cells: Cells,
    fault: str,
    calls: Calls,
    answers_s: float | None = None,
    notices: Callable[[], Counter[str]] | None = None,
) -> Came:
    """Wait for the end of the calls, note what came of them, and hold that nothing is missing.

    `notices`: what the hubs have sent about nodes, also what a run does not write.
    """
    came = calls.count()
    if notices is not None:
        came.notices = notices()
    note(f"{cells.title}: {fault}", came, answers_s)
    return came.whole()


def nothing(cells: Cells) -> None:
    """Let nothing fail: files over both cells."""
    assert cells.calls_of("alpha")
    assert cells.calls_of("beta")
    finish(cells, "none, files", Calls(cells.client, cells.profile, 60, cells.options))


def killed_node(cells: Cells) -> None:
    """Kill the only node of a cell."""
    killed(cells, "node killed", cells.kill_node)


def killed_hub(cells: Cells) -> None:
    """Kill the hub of a cell."""
    killed(cells, "hub killed", cells.kill_hub)


def killed(
    cells: Cells, fault: str, kill: Callable[[str], float], limit_s: float = ANSWERS_S
) -> None:
    """Kill something of a cell, and hold that the cell votes on new speech in time."""
    calls = begin(cells, 20 + 2 * round(limit_s))
    at = kill(CELL)
    answers_s = calls.answers(at, 3 * limit_s, cells.calls_of(CELL))
    finish(cells, fault, calls, answers_s)
    assert answers_s < limit_s


def cut(cells: Cells, machine: Machine, seconds: int) -> None:
    """Cut a machine off, with all that runs there."""
    title = "client" if machine is cells.client else "machine"
    with observed(cells) as notices:
        calls = begin(cells, seconds + 30)
        machine.cut()
        time.sleep(seconds)
        machine.mend()
        came = finish(cells, f"{title} cut off for {seconds} s", calls, notices=notices)
    assert 0 < came.most_notices < NOTICES, came


@contextmanager
def observed(cells: Cells) -> Iterator[Callable[[], Counter[str]]]:
    """Observe every hub from its own machine; yield what counts its notices of each node."""
    begun, logs = [], []
    for cell in decode(cells.map.read_bytes(), cells.map).cells:
        (machine,) = [m for m in cells.lab.machines.values() if f"//{m.address}:" in cell.endpoint]
        keys, log = cells.lab.folder / "keys" / "clients", f"observer-{len(begun)}-{time.time()}"
        command = (sys.executable, observer.__file__, cell.endpoint, keys, cell.key)
        begun.append((machine, machine.start(*command, log=log)))
        logs.append((cell.name, machine.folder / log))

    def count() -> Counter[str]:
        return Counter(
            f"{cell}/{node}" for cell, log in logs for node in log.read_text().splitlines()
        )

    try:
        until(lambda: len({each.partition("/")[0] for each in count()}) == len(logs), 60, "nodes")
        yield count
        assert all(process.poll() is None for _, process in begun), logs
    finally:
        for machine, process in begun:
            machine.kill(observer.__file__)
            process.wait()
