"""How many nodes a service gets, with a clock moved by hand and a queue that is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from abhinaya.stream.cluster.config import ScalingConfig
from abhinaya.stream.cluster.scaling import LONGEST, Load, Scaler

CONFIG = ScalingConfig(up_s=1.5, hold_s=3.0, down_s=60.0)
STEP_S = 0.5
STARTS_S = 4.0
"""What a node needs until it is ready."""


def simulate(
    load: Callable[[float], float], seconds: float, most: int = 8
) -> list[tuple[float, int]]:
    """Run a service whose nodes do one second of work a second; return (time, nodes) changes."""
    scaler, backlog, now = Scaler(CONFIG, 1), 0.0, 0.0
    ready: list[float] = [0.0]  # when each node becomes ready
    changes = [(0.0, 1)]
    carry = 0.0
    while now < seconds:
        now += STEP_S
        up = sum(at <= now for at in ready)
        backlog = max(0.0, backlog + STEP_S * (load(now) - up))
        carry += min(up, load(now))
        busy = up if backlog else int(carry)  # a node that is busy half of the time
        carry -= min(carry, busy)
        oldest_s = 0.3 + backlog / max(up, 1)
        target = scaler.decide(now, Load(oldest_s, busy, up < len(ready)), 1, most)
        assert 1 <= target <= most
        assert abs(target - len(ready)) <= 1
        if target > len(ready):
            ready.append(now + STARTS_S)
        elif target < len(ready):
            ready.pop()
        if target != changes[-1][1]:
            changes.append((now, target))
    return changes


def removals(changes: Sequence[tuple[float, int]]) -> list[float]:
    """Return when a node was removed."""
    return [at for (_, before), (at, n) in pairwise(changes) if n < before]


@settings(max_examples=25, deadline=None)
@given(st.floats(0.0, 7.5), st.integers(2, 8))
def test_a_steady_load_is_carried_and_the_number_of_nodes_comes_to_rest(
    load: float, most: int
) -> None:
    changes = simulate(lambda _: load, 2400.0, most)
    needed = min(most, max(1, -int(-load // 1)))
    assert changes[-1][1] >= needed
    assert changes[-1][1] <= min(most, 2 * load + 2)
    assert sum(at > 600 for at, _ in changes) <= 4, changes


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.0, 8.0), min_size=3, max_size=6))
def test_under_any_load_changes_are_few_and_at_rest_the_minimum_is_left(loads: list[float]) -> None:
    """The load changes each 200 s, then nothing is left to do."""
    busy_s = 200.0 * len(loads)

    def load(now: float) -> float:
        return loads[int(now // 200)] if now < busy_s else 0.0

    changes = simulate(load, busy_s + 8 * (LONGEST + 2) * CONFIG.down_s)
    assert changes[-1][1] == 1
    assert all(b - a >= CONFIG.down_s for a, b in pairwise(removals(changes)))


def test_a_burst_gets_a_node_within_seconds_and_loses_it_only_after_minutes() -> None:
    changes = simulate(lambda now: 1.8 if now < 100 else 0.2, 400.0)
    first, *later = removals(changes)
    assert changes[1][0] < 10
    assert 100 + CONFIG.down_s < first < 100 + 2 * CONFIG.down_s
    assert len(later) < 3
    assert changes[-1][1] == 1


def test_a_node_that_had_to_come_back_is_removed_ever_later() -> None:
    """The load is as high as one node carries, but comes in bursts that one node is late with."""
    changes = simulate(lambda now: 3.0 if now % 90 < 12 else 0.0, 6000.0)
    assert len(removals(changes)) <= 12
