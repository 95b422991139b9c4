"""Calls over cells that Ray places on three machines; every fault of a process, machine and net."""

from __future__ import annotations

import shutil
import time

import pytest
from cluster import faults
from cluster.calls import Calls
from cluster.lab import Lab, until
from cluster.placed import NODE, Placed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def placed(lab: Lab) -> Placed:
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    if shutil.which("redis-server") is None:
        pytest.skip("Ray's head keeps its state in a Redis: redis-server is missing")
    placed = Placed(lab)
    placed.up()
    return placed


@pytest.fixture
def cells(placed: Placed) -> Placed:
    """Return the cluster when it has recovered from what was done before."""
    placed.wait()
    return placed


def test_files_come_whole(cells: Placed) -> None:
    faults.nothing(cells)


def test_a_killed_node(cells: Placed) -> None:
    faults.killed_node(cells)


def test_a_killed_hub(cells: Placed) -> None:
    faults.killed_hub(cells)


@pytest.mark.parametrize("seconds", [3, 10, 60])
def test_a_cut(cells: Placed, seconds: int) -> None:
    faults.cut(cells, cells.hub_machine("alpha"), seconds)


def test_a_killed_raylet(cells: Placed) -> None:
    faults.killed(cells, "raylet killed", cells.kill_raylet, faults.LOST_S)


def test_a_machine_that_is_switched_off(cells: Placed) -> None:
    machine = cells.hub_machine("alpha")

    def off(name: str) -> float:
        at = time.monotonic()
        machine.off()
        return at

    faults.killed(cells, "machine switched off", off, faults.LOST_S)
    cells.join(machine.on())


@pytest.mark.parametrize("seconds", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_a_head_that_is_away(cells: Placed, seconds: int) -> None:
    calls = faults.begin(cells, seconds + 40)
    cells.lose(cells.head)
    time.sleep(seconds)
    cells.join(cells.head)
    faults.finish(cells, f"head away for {seconds} s", calls)
    cells.wait()
    faults.killed(cells, "node killed after that", cells.kill_node)


def test_a_machine_that_joins_is_used(cells: Placed) -> None:
    """The others have no room for more nodes."""
    calls = faults.begin(cells, 60)
    cells.command(cells.head, "scale", "loudness=3")
    cells.join(cells.spare)
    until(lambda: cells.spare.pids(NODE), 40, "a node runs on the new machine")
    faults.finish(cells, "machine added", calls)
    cells.command(cells.head, "scale", "loudness=1")


def test_a_drained_cell_finishes_its_calls_and_leaves(cells: Placed) -> None:
    calls = faults.begin(cells, 40)
    cells.command(cells.head, "down", "--cell", "beta")
    until(lambda: cells.open() == {"alpha"}, 10, "the map says that beta drains")
    later = Calls(cells.client, cells.profile, 60, [*cells.options, "--realtime"])
    faults.finish(cells, "cell drained, open calls", calls)
    until(lambda: not cells.processes("beta"), 40, "beta leaves")
    came = faults.finish(cells, "cell drained, new calls", later)
    assert not came.incomplete, "the new calls had nothing to do with it"
