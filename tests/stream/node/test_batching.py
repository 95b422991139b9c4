"""How a node gathers tasks into batches."""

from __future__ import annotations

import fakes
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.stream.node.batching import Batcher
from abhinaya.stream.wire.messages import Task

MANY = 10**9


def batcher(size: int = 4, padded: int = MANY, wait_s: float = 1.0) -> Batcher:
    return Batcher(size, padded, wait_s)


def busy(size: int = 4, padded: int = MANY, wait_s: float = 1.0) -> Batcher:
    """One whose batches have been full for so long that it waits nearly as long as it may."""
    result = batcher(size, padded, wait_s)
    for _ in range(30):
        for sequence in range(size):
            result.add(0.0, fakes.task(1000 + sequence, length=1))
        assert len(result.take(0.0)) == size
    return result


def numbers(batch: list[tuple[float, Task]]) -> list[int]:
    return [task.sequence for _, task in batch]


def test_an_idle_node_waits_for_nothing() -> None:
    idle = batcher()
    idle.add(5.0, fakes.task(0))
    assert idle.next_due() == 5.0
    assert numbers(idle.take(5.0)) == [0]
    assert len(idle) == 0


def test_a_busy_node_lets_a_batch_fill_until_its_oldest_task_is_old_enough() -> None:
    node = busy(wait_s=1.0)
    node.add(10.0, fakes.task(0))
    node.add(10.5, fakes.task(1))
    due = node.next_due()
    assert due is not None
    assert 10.9 < due <= 11.0
    assert node.take(due - 0.01) == []
    assert numbers(node.take(due)) == [0, 1]


def test_a_task_over_the_padded_length_goes_alone() -> None:
    node = batcher(padded=10)
    node.add(0.0, fakes.task(0, length=50))
    node.add(0.0, fakes.task(1, length=1))
    assert numbers(node.take(0.0)) == [0]


def test_the_wait_grows_with_full_batches_and_shrinks_with_single_tasks() -> None:
    node = busy(wait_s=1.0)
    waits = []
    for round_ in range(12):
        now = 100.0 * round_
        node.add(now, fakes.task(round_))
        due = node.next_due()
        assert due is not None
        waits.append(due - now)
        node.take(due)
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 0.9
    assert waits[-1] < 0.05


def test_a_batch_is_sorted_by_length_and_keeps_the_arrivals() -> None:
    node = batcher()
    for sequence, length in enumerate((30, 10, 20)):
        node.add(float(sequence), fakes.task(sequence, length=length))
    batch = node.take(9.0)
    assert numbers(batch) == [1, 2, 0]
    assert [arrival for arrival, _ in batch] == [1.0, 2.0, 0.0]


def test_the_oldest_goes_first_with_those_nearest_to_it_in_length() -> None:
    node = batcher(size=2)
    for sequence, length in enumerate((50, 10, 11, 49)):
        node.add(float(sequence), fakes.task(sequence, length=length))
    assert numbers(node.take(9.0)) == [3, 0]
    assert numbers(node.take(9.0)) == [1, 2]


def test_a_cancelled_task_is_not_run() -> None:
    node = batcher()
    node.add(0.0, fakes.task(0))
    node.add(0.0, fakes.task(1))
    assert node.cancel(("call", 0))
    assert not node.cancel(("call", 0))
    assert numbers(node.take(0.0)) == [1]
    assert not node.cancel(("call", 1))


def test_a_part_comes_last_and_alone() -> None:
    node = batcher()
    node.add(1.0, fakes.task(5, part=1))
    node.add(1.0, fakes.task(6, part=1))
    node.add(2.0, fakes.task(0))
    assert len(node) == 3
    assert numbers(node.take(2.0)) == [0]
    assert node.next_due() == 1.0
    assert numbers(node.take(2.0)) == [5]
    assert numbers(node.take(2.0)) == [6]
    assert (len(node), node.next_due()) == (0, None)


def test_while_a_batch_fills_no_part_is_begun() -> None:
    node = busy(wait_s=1.0)
    node.add(10.0, fakes.task(0))
    node.add(10.0, fakes.task(1, part=1))
    assert node.take(10.1) == []
    due = node.next_due()
    assert due is not None
    assert due > 10.5
    assert numbers(node.take(due)) == [0]


def test_a_part_is_dropped_by_its_number_and_with_its_segment() -> None:
    node = batcher()
    node.add(0.0, fakes.task(5, part=2))
    assert node.cancel(("call", 5), 1) == []
    assert [t.part for t in node.cancel(("call", 5), 2)] == [2]
    node.add(0.0, fakes.task(5, part=3))
    node.add(0.0, fakes.task(5))
    assert node.cancel(("call", 5), 4) == []
    assert [t.part for t in node.cancel(("call", 5))] == [0, 3]
    assert len(node) == 0
    node.add(0.0, fakes.task(5, part=3))
    node.clear()
    assert len(node) == 0


@fakes.patient
@given(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0, 0.5)), max_size=40),
    st.integers(1, 6),
    st.integers(20, 150),
)
def test_every_task_runs_once_within_the_limits_and_none_is_starved(
    tasks: list[tuple[int, float]], size: int, padded: int
) -> None:
    """The node takes a batch whenever it may; every batch is followed by new arrivals."""
    node = Batcher(size, padded, 1.0)
    now, ran, batches = 0.0, [], 0
    waiting: dict[int, int] = {}
    for sequence, (length, pause) in enumerate(tasks):
        now += pause
        node.add(now, fakes.task(sequence, length=length))
        waiting[sequence] = batches
        batch = node.take(now)
        batches += bool(batch)
        ran += [batch] if batch else []
    while len(node):
        due = node.next_due()
        assert due is not None
        assert due <= now + 1.0
        now = max(now, due)
        ran.append(node.take(now))
        assert ran[-1]
    assert sorted(n for batch in ran for n in numbers(batch)) == list(range(len(tasks)))
    for batch in ran:
        lengths = [task.end - task.start for _, task in batch]
        assert lengths == sorted(lengths)
        assert len(batch) <= size
        assert len(batch) == 1 or max(lengths) * len(batch) <= padded
    oldest = [min(numbers(batch)) for batch in ran]
    left = set(range(len(tasks)))
    for first, batch in zip(oldest, ran, strict=True):
        assert first == min(left)
        left -= set(numbers(batch))


def test_a_task_for_more_of_a_segment_joins_the_one_that_has_not_been_begun() -> None:
    node = batcher(size=1)
    node.add(1.0, fakes.task(0, services=("S2",), states={"S2": b"a"}))
    node.add(2.0, fakes.task(1, services=("S2",)))
    text = fakes.task(0, services=("ST1",), samples=None, transcript="hello", language="en")
    node.add(3.0, text)
    assert len(node) == 2
    ((arrival, task),) = node.take(3.0)
    assert (arrival, task.sequence, task.services) == (1.0, 0, ("S2", "ST1"))
    assert task.samples is not None
    assert (task.transcript, task.language, task.states) == ("hello", "en", {"S2": b"a"})
    node.add(4.0, text)
    assert [t.services for _, t in (*node.take(4.0), *node.take(4.0))] == [("S2",), ("ST1",)]


def test_a_part_takes_the_place_of_an_older_one() -> None:
    node = batcher()
    for part in (1, 2):
        node.add(1.0, fakes.task(0, part=part))
    ((_, task),) = node.take(1.0)
    assert task.part == 2
    assert len(node) == 0
