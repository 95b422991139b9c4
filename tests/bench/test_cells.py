"""Two real cells on cores of their own; the choice of a cell."""

from __future__ import annotations

import os

import pytest

from abhinaya.bench.capacity.cells import choice_s, main, measure, times
from abhinaya.stream.errors import ConfigError


def test_the_map_costs_a_call_less_than_a_millisecond() -> None:
    assert choice_s(24) < 1e-3
    assert times((2.0, 4.0, 5.7)) == pytest.approx(1.9)


@pytest.mark.parametrize("wrong", ["--seconds=nan", "--seconds=inf", "--seconds=0", "--repeats=0"])
def test_a_wrong_length_is_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match="is not from 1 to 3600"):
        main([wrong])


@pytest.mark.processes
def test_two_cells_pass_segments_at_once_and_lose_none() -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    found = measure([cores[0], cores[-1]], 1.0)
    assert found.lost == 0
    assert min(found.per_s) > 0
    # on one core for both, or beside others, the clock says nothing; processor time does
    assert found.cpu_ratio > 1.3
    assert os.sched_getaffinity(0) >= set(cores)
