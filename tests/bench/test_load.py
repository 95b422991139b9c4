"""What is counted under load; then real processes that get more than they manage."""

from __future__ import annotations

import fakes
import pytest
from msgspec.structs import replace

from abhinaya.bench.load import Step, capacity, count, null_machine, offer, tables
from abhinaya.bench.report import percentiles
from abhinaya.stream.wire.messages import Missing


def test_missing_votes_are_counted_by_voter_and_kind_of_reason():
    step = Step(2.0, 10.0, 5.0)
    reasons = (
        "overload: left out",
        "no transcript: overload: left out",
        "late: no answer",
        "broke",
    )
    for reason in reasons:
        missing = (Missing(voter="S1", reason=reason),)
        count(step, replace(fakes.verdict(0), missing=missing, votes=()))
    count(step, fakes.gap(3))
    assert step.missing == {"S1: overload": 2, "S1: late": 1, "S1: other": 1}
    assert (step.verdicts, step.labels, step.late, step.gaps) == (4, 0, 1, 1)
    step.latency_ms = percentiles([1.0])
    assert [table.row_count for table in tables(5.0, [step])] == [1, 1]


@pytest.mark.processes
def test_twice_what_null_nodes_manage_costs_the_slowest_voter_and_no_label():
    machine = null_machine(20.0)
    per_s = capacity(machine, 4, 2.0)
    assert 15 < per_s <= 26  # the slowest takes 40 ms
    step = offer(machine, 4, Step(2.0, 2 * per_s, 8.0))
    assert (step.lost, step.gaps, step.late) == (0, 0, 0)
    assert step.labels == step.verdicts > 8 * per_s
    assert step.missing["V3: overload"] > 0.2 * step.verdicts
    assert step.missing["V1: overload"] < 0.1 * step.verdicts
    assert step.remarks[0].startswith("the machine is overloaded")
