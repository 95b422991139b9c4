"""The benchmark of pushed calls, small."""

from __future__ import annotations

import pytest

from abhinaya.bench.ingest import measure


@pytest.mark.processes
@pytest.mark.slow
def test_calls_at_once_lose_nothing() -> None:
    run = measure(calls=20, seconds=4.0)
    assert (run.dropped, run.lost, run.other, run.incomplete) == (0, 0, 0, 0)
    assert run.segments >= 20
    assert run.messages == 20 * 2 * 200
    assert run.feed_us < 100
    assert {"main", "hub", "push"} <= run.cpu.keys()
