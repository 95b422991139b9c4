"""The meter against carriers whose latency and losses are planted; then the real processes."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from abhinaya.bench.transport import Meter, Run, measure, quietest, ratios


class Planted:
    """Answers after a fixed time, except what it is told to lose."""

    def __init__(self, after_s: float, lost: frozenset[int] = frozenset()) -> None:
        self._after_s = after_s
        self._lost = lost
        self._due: list[tuple[float, int]] = []
        self.most = 0

    def send(self, number: int) -> None:
        if number not in self._lost:
            self._due.append((time.perf_counter() + self._after_s, number))
        self.most = max(self.most, len(self._due))

    def poll(self, timeout_s: float) -> list[int]:
        time.sleep(min(timeout_s, 0.0005))
        now = time.perf_counter()
        done = [number for due, number in self._due if due <= now]
        self._due = [entry for entry in self._due if entry[0] > now]
        return done

    def close(self) -> None:
        pass


def test_a_paced_meter_keeps_the_rate_and_times_from_sending():
    meter = Meter(Planted(0.02))
    meter.measure(0.5, per_s=100)
    assert 40 <= meter.sent <= 51
    assert meter.lost == 0
    assert min(meter.latencies_ms) >= 20


def test_what_never_comes_back_is_lost_and_not_waited_for_again():
    meter = Meter(Planted(0.001, frozenset({3, 5})), patience_s=0.05)
    meter.measure(0.2, per_s=100)
    assert meter.lost == 2
    assert meter.sent == len(meter.latencies_ms) + 2
    meter.measure(0.05, per_s=100)
    assert meter.lost == 0


def test_without_a_rate_a_meter_keeps_just_so_many_on_their_way(monkeypatch):
    carrier = Planted(0.005)
    meter = Meter(carrier, in_flight=8)
    meter.measure(0.2, None)
    assert carrier.most == 8
    assert meter.lost == 0
    assert len(meter.latencies_ms) > 80


RUN = Run("hub", 1, 200.0, 100, 0, 200.0, 1.0, 2.0, 3.0, 0.0)


def test_the_quietest_run_stands_unless_one_lost_something():
    runs = [replace(RUN, p99_ms=p99) for p99 in (5.0, 2.0, 9.0)]
    assert quietest(runs).p99_ms == 2.0
    rates = [replace(RUN, offered_per_s=None, per_s=rate) for rate in (500.0, 900.0, 700.0)]
    assert quietest(rates).per_s == 900.0
    losing = [runs[0], replace(RUN, lost=1), runs[1]]
    assert quietest(losing).lost == 1


def test_ratios_compare_like_with_like():
    rows = [
        replace(RUN, path="bare relay", p99_ms=1.0),
        replace(RUN, path="bare relay", offered_per_s=None, per_s=2000.0),
        replace(RUN, streams=16, p99_ms=2.5),
        replace(RUN, streams=16, offered_per_s=500.0, p99_ms=77.0),
        replace(RUN, streams=16, offered_per_s=None, per_s=1000.0),
    ]
    assert list(ratios(rows).values()) == [0.5, 2.5]


@pytest.mark.processes
def test_real_segments_pass_through_hub_and_bare_relay_without_loss():
    hub = measure("hub", 3, 40, 0.5)
    bare = measure("bare relay", 1, 40, 0.5)
    for run in (hub, bare):
        assert run.lost == 0
        assert 10 <= run.sent <= 21
        assert 0 < run.p50_ms <= run.p99_ms
