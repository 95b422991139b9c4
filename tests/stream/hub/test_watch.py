"""Starved is not stuck: what a look at a suspected process means, and who then decides."""

from __future__ import annotations

import fakes
import pytest
from desk import Desk
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.stream.hub.watch import EVIDENCE_S, LONGEST, Finding, Sample, Suspicion
from abhinaya.stream.wire.messages import Beat, NodeDown, Task

LIMIT_S = 4.0


def watch(
    seconds: float, cpu: float, state: str, idle: float | None, used_s: float = 0.0
) -> tuple[Finding, float]:
    """Look twice a second at a process with such shares; return the last finding and its time."""
    why = Suspicion("is silent", LIMIT_S, used_s)
    for look in range(round(2 * seconds) + 1):
        at = look / 2
        idle_s = None if idle is None else 50 + idle * at
        finding = why.judge(Sample(100 + at, 7 + cpu * at, state, idle_s))
        if finding.deadly:
            break
    return finding, at


@pytest.mark.parametrize(
    ("cpu", "state", "idle", "finding", "at_s"),
    [
        (0.0, "T", 0.0, Finding.FROZEN, 0.0),
        (0.0, "T", 2.0, Finding.FROZEN, 0.0),
        (0.0, "S", 1.9, Finding.STUCK, 1.0),  # a quiet machine, and it does nothing
        (0.0, "S", 0.0, Finding.STUCK, 1.0),  # a busy one, but it does not even want to work
        (0.0, "R", 1.0, Finding.STUCK, 1.0),
        (1.0, "R", 1.0, Finding.LOOPING, 1.0),
        (1.0, "R", 0.0, Finding.LOOPING, 4.0),  # it has had what its limit grants
        (0.07, "S", 0.0, Finding.STARVED, 20.0),  # load 30 on two processors
        (0.0, "R", 0.0, Finding.STARVED, 20.0),
        (0.0, "D", 0.1, Finding.STARVED, 20.0),  # it waits for a disk that swaps
        (0.07, "", None, Finding.STARVED, 20.0),  # on another machine only its beats tell
        (0.0, "", None, Finding.STUCK, 1.0),
        (2.0, "", None, Finding.LOOPING, 2.0),
    ],
)
def test_what_a_suspected_process_does(
    cpu: float, state: str, idle: float | None, finding: Finding, at_s: float
) -> None:
    assert watch(20.0, cpu, state, idle) == (finding, at_s)


def test_without_evidence_the_wall_clock_decides_and_what_was_used_before_counts() -> None:
    assert Suspicion("", LIMIT_S).judge(None) is Finding.STUCK
    assert watch(20.0, 0.1, "R", 0.0, used_s=LIMIT_S - 0.2) == (Finding.LOOPING, 2.0)


def test_a_machine_that_has_calmed_down_does_not_excuse_for_what_it_was() -> None:
    why, idle_s = Suspicion("", LIMIT_S), 0.0
    for second in range(40):
        idle_s += 2.0 * (second > 20)
        finding = why.judge(Sample(second, 0.0, "R", idle_s))
        assert finding is (Finding.STARVED if 1 <= second <= 20 else why.finding)
        if finding.deadly:
            break
    assert (finding, second) == (Finding.STUCK, 21)


@given(st.floats(0.0, 8.0), st.sampled_from("RSDT"), st.floats(0.0, 8.0))
def test_nobody_waits_forever(cpu: float, state: str, idle: float) -> None:
    finding, at_s = watch(LONGEST * LIMIT_S + 2, cpu, state, idle)
    assert finding.deadly
    assert at_s <= LONGEST * LIMIT_S + EVIDENCE_S


# --- who decides ----------------------------------------------------------------------------------


def beats(hub: Desk, age_s: float, cpu_s: float | None) -> None:
    hub.say(b"S1-0", Beat(name="S1-0", work_age_s=age_s, work_cpu_s=cpu_s))
    hub.tick(1.0)


def downs(hub: Desk) -> list[str]:
    return [down.reason for down in hub.events(NodeDown) if down.node == "S1-0"]


def test_a_node_elsewhere_is_judged_by_the_processor_time_in_its_beats() -> None:
    for cpu_of, end in (
        (lambda age: 0.1 * age, None),
        (lambda age: 0.2, 12),
        (lambda age: age, 11),
    ):
        hub = Desk().up("S1")
        for age in range(1, 31):
            beats(hub, age, cpu_of(age))
            if downs(hub):
                break
        assert (age if downs(hub) else None) == end
    hub = Desk().up("S1")
    beats(hub, 10.5, None)  # of an older release
    assert downs(hub) == ["has been stuck for 10.5 s in one batch"]


def test_where_somebody_watches_the_processes_the_hub_only_suspects() -> None:
    hub = Desk(supervised=True).up("S1").front()
    beats(hub, 10.5, 0.5)
    (suspect,) = hub.status().suspects
    assert (suspect.name, suspect.incarnation, suspect.limit_s) == ("S1-0", "1", 10.0)
    assert suspect.used_s == 0.5
    hub.tick(5.0)
    (node, front) = hub.status().suspects
    assert "silent" in node.reason
    assert front.name == "front-0"
    assert not [load for load in hub.status().nodes if load.node == "S1-0"]
    hub.say(b"front-0", fakes.segment(0))
    assert hub.to(b"S1-0", Task) == []  # a silent node gets nothing new
    hub.say(b"S1-0", Beat(name="S1-0"))
    assert len(hub.to(b"S1-0", Task)) == 1
    assert hub.status().suspects == ()
    assert downs(hub) == []


def test_while_the_hub_itself_stood_still_nobody_was_silent() -> None:
    hub = Desk().up("S1").front()
    hub.now += 60.0
    hub.broker.paused(60.0)
    hub.tick(1.0)
    assert downs(hub) == []
    hub.tick(3.0)
    assert len(downs(hub)) == 1
