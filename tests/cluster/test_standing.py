"""Calls over standing hubs and nodes that nobody supervises, and a map of cells by hand.

The hub of alpha and the node of beta are on one machine, the hub of beta and the node of alpha on
another. So a cut of one machine takes one cell's hub and the other one's node.
"""

from __future__ import annotations

import time

import pytest
from cluster import faults
from cluster.calls import Calls
from cluster.lab import Lab
from cluster.standing import Standing

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cells(lab: Lab) -> Standing:
    cells = Standing(lab)
    m1, m2 = lab.machine("m1"), lab.machine("m2")
    cells.cell("alpha", m1, m2)
    cells.cell("beta", m2, m1)
    cells.publish(alpha="open", beta="open")
    return cells


def test_files_come_whole(cells: Standing) -> None:
    faults.nothing(cells)


def test_a_killed_node(cells: Standing) -> None:
    faults.killed_node(cells)


def test_a_killed_hub(cells: Standing) -> None:
    faults.killed_hub(cells)


@pytest.mark.parametrize("seconds", [3, 10, 60])
def test_a_cut(cells: Standing, seconds: int) -> None:
    faults.cut(cells, cells.hub_machine("alpha"), seconds)


def test_a_cut_of_the_client_from_all_cells(cells: Standing) -> None:
    faults.cut(cells, cells.client, 15)


def test_a_drained_cell_finishes_its_calls_and_gets_no_new_ones(cells: Standing) -> None:
    calls = faults.begin(cells, 25)
    cells.publish(alpha="draining")
    later = Calls(cells.client, cells.profile, 30, [*cells.options, "--realtime"])
    later.running()
    faults.finish(cells, "cell drained, open calls", calls)
    cells.lose("alpha")
    cells.publish(alpha="gone")
    came = faults.finish(cells, "cell drained, new calls", later)
    assert not came.incomplete, "the new calls had nothing to do with it"
    cells.cell("alpha", cells.hubs["alpha"], cells.nodes["alpha"])
    cells.publish(alpha="open")


def test_a_cell_that_starts_again_on_another_machine_keeps_its_calls(cells: Standing) -> None:
    calls, before, node = faults.begin(cells, 40), cells.hubs["alpha"], cells.nodes["alpha"]
    at = cells.lose("alpha")
    cells.cell("alpha", cells.lab.machine("m3"), node)
    cells.publish()
    answers_s = calls.answers(at, 30, cells.calls_of("alpha"))
    faults.finish(cells, "cell moved to another machine", calls, answers_s)
    assert answers_s < faults.LOST_S
    cells.lose("alpha")
    cells.cell("alpha", before, node)
    cells.publish()


def test_a_hub_that_comes_back_after_others_took_its_calls(cells: Standing) -> None:
    """It still has their segments, and answers them: nothing may come twice."""
    calls = faults.begin(cells, 60)
    cells.freeze_hub("alpha", 20)
    faults.finish(cells, "hub frozen for 20 s", calls)


def test_a_client_that_one_hub_does_not_hear(cells: Standing) -> None:
    """The hub and its node see each other all the time."""
    calls, hub = faults.begin(cells, 60), cells.hubs["alpha"]
    rule = ("INPUT", "--source", cells.client.address, "--jump", "DROP")
    hub.run("iptables", "--append", *rule)
    time.sleep(20)
    hub.run("iptables", "--delete", *rule)
    faults.finish(cells, "hub does not hear the client for 20 s", calls)


def test_files_of_a_cell_lost_for_good_are_taken_over(cells: Standing) -> None:
    calls = Calls(cells.client, cells.profile, 900, cells.options)
    calls.running()
    cells.lose("alpha")
    faults.finish(cells, "cell lost for good, files", calls)
    cells.cell("alpha", cells.hubs["alpha"], cells.nodes["alpha"])


def test_cells_that_are_lost_in_turn(cells: Standing) -> None:
    """Calls go from alpha to beta and back to an alpha that knows nothing of them."""
    calls = faults.begin(cells, 75)
    for name in ("alpha", "beta"):
        at = cells.lose(name)
        calls.answers(at, 40, cells.calls_of(name))
        cells.cell(name, cells.hubs[name], cells.nodes[name])
        time.sleep(5)
    faults.finish(cells, "cells lost in turn", calls)


def test_a_cell_lost_for_good_is_taken_over(cells: Standing) -> None:
    calls = faults.begin(cells, 50)
    at = cells.lose("alpha")
    answers_s = calls.answers(at, 40, cells.calls_of("alpha"))
    faults.finish(cells, "cell lost for good", calls, answers_s)
    assert answers_s < faults.LOST_S
