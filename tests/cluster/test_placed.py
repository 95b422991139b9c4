"""Calls over the cells of `abhinaya cluster up`, and every fault of process, machine and network.

The twin on one machine gets those faults that one machine can have.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest
from cluster import faults
from cluster.calls import Calls
from cluster.lab import new_lab, until
from cluster.placed import NODE, Placed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

EITHER = pytest.mark.parametrize("placed", ["ray", "one machine"], indirect=True)
RAY = pytest.mark.parametrize("placed", ["ray"], indirect=True)


@pytest.fixture(scope="module")
def placed(request: pytest.FixtureRequest) -> Iterator[Placed]:
    on_ray = request.param == "ray"
    if on_ray:
        pytest.importorskip("ray", reason="the extra `cluster` is not installed")
        if shutil.which("redis-server") is None:
            pytest.skip("Ray's head keeps its state in a Redis: redis-server is missing")
    with new_lab() as lab:
        placed = Placed(lab, on_ray)
        placed.up()
        yield placed


@pytest.fixture
def cells(placed: Placed) -> Placed:
    """Return the cluster when it has recovered from what was done before."""
    placed.wait()
    return placed


@EITHER
def test_files_come_whole(cells: Placed) -> None:
    faults.nothing(cells)


@EITHER
def test_a_killed_node(cells: Placed) -> None:
    faults.killed_node(cells)


@EITHER
def test_a_killed_hub(cells: Placed) -> None:
    faults.killed_hub(cells)


@pytest.mark.parametrize("seconds", [3, 10, 60])
@RAY
def test_a_cut(cells: Placed, seconds: int) -> None:
    faults.cut(cells, cells.hub_machine("alpha"), seconds)


@RAY
def test_a_killed_raylet(cells: Placed) -> None:
    faults.killed(cells, "raylet killed", cells.kill_raylet, faults.LOST_S)


@RAY
def test_a_machine_that_is_switched_off(cells: Placed) -> None:
    machine = cells.hub_machine("alpha")
    faults.killed(cells, "machine switched off", cells.switch_off, faults.LOST_S)
    cells.join(machine.on())


@pytest.mark.parametrize(
    "seconds", [30, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(700)])]
)
@RAY
def test_a_head_that_is_away(cells: Placed, seconds: int) -> None:
    calls = faults.begin(cells, seconds + 40)
    cells.lose_head()
    time.sleep(seconds)
    cells.join(cells.head)
    came = faults.finish(cells, f"head away for {seconds} s", calls)
    assert not came.incomplete, "hubs and nodes went on"
    cells.wait()
    faults.killed(cells, "node killed after that", cells.kill_node)


@RAY
def test_a_redis_that_is_away(cells: Placed) -> None:
    calls = faults.begin(cells, 60)
    assert cells.head.kill("redis-server") == 1
    time.sleep(20)
    cells.start_redis()
    came = faults.finish(cells, "Redis away for 20 s", calls)
    assert not came.incomplete, "hubs and nodes went on"
    cells.wait()
    faults.killed(cells, "node killed after that", cells.kill_node)


@RAY
def test_a_machine_that_joins_is_used(cells: Placed) -> None:
    """The others have no room for one more node."""
    calls = faults.begin(cells, 60)
    cells.command("scale", "loudness=3")
    cells.join(cells.spare)
    until(lambda: cells.spare.pids(NODE), 40, "a node runs on the new machine")
    faults.finish(cells, "machine added", calls)
    cells.command("scale", "loudness=1")


@EITHER
def test_a_drained_cell_finishes_its_calls_and_leaves(cells: Placed) -> None:
    """The cell is taken out of the file, and `up` is called again."""
    calls = faults.begin(cells, 40)
    cells.without("beta")
    until(lambda: cells.open() == {"alpha"}, 20, "the map says that beta drains")
    later = Calls(cells.client, cells.profile, 60, [*cells.options, "--realtime"])
    faults.finish(cells, "cell drained, open calls", calls)
    until(lambda: not cells.processes("beta"), 40, "beta leaves")
    came = faults.finish(cells, "cell drained, new calls", later)
    assert not came.incomplete, "the new calls had nothing to do with it"
