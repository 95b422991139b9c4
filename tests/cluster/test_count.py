"""The count sees what it is there to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cluster.count import counted

EXPECTED = [(0.0, 1.0), (2.0, 3.0), (5.0, 6.5)]
Events = list[dict[str, Any]]


def verdict(number: int, start_s: float, end_s: float, **more: Any) -> dict[str, Any]:
    event = {"type": "verdict", "segment": number, "start_s": start_s, "end_s": end_s}
    return event | {"stream": "a", "final": True, "revision": 0, "missing": []} | more


def events() -> Events:
    """All that comes of a call to which nothing happens."""
    found = [verdict(n, *span) for n, span in enumerate(EXPECTED)]
    passing = verdict(2, 5.0, 5.7, final=False)
    revised = verdict(2, 5.0, 6.5, revision=1)
    return [*found, passing, revised, {"type": "stream_ended", "stream": "a"}]


def test_a_whole_call_is_whole() -> None:
    came = counted(events(), ["a"], EXPECTED).whole()
    assert (came.expected, came.verdicts) == (3, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.pop(0),
        lambda e: e.pop(1),
        lambda e: e.pop(),
        lambda e: e.append(e[0]),
        lambda e: e.append(e[-1]),
        lambda e: e.append(verdict(3, *EXPECTED[0])),
        lambda e: e.__setitem__(2, verdict(2, 5.0, 6.0)),
        lambda e: e.__setitem__(1, e[1] | {"type": "gap", "reason": ""}),
        lambda e: e.__setitem__(1, e[1] | {"type": "gap", "reason": "late"}),
    ],
    ids=[
        "first is missing", "one is missing", "no end", "one twice", "two ends",
        "speech twice under two numbers", "shorter", "gap without a cause", "gap",
    ],
)  # fmt: skip
def test_each_fault_is_seen(change: Callable[[Events], object]) -> None:
    changed = events()
    change(changed)
    with pytest.raises(AssertionError):
        counted(changed, ["a"], EXPECTED).whole()


def test_a_gap_with_its_cause_is_not_silent() -> None:
    changed = events()
    changed[1] = changed[1] | {"type": "gap", "reason": "late"}
    assert counted(changed, ["a"], EXPECTED).nothing_silent().gaps == {"late": 1}
