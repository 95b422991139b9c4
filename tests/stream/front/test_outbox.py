"""What a front keeps until the hub has it."""

from __future__ import annotations

import fakes
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.stream.front.outbox import Item, LatestOnly, Outbox
from abhinaya.stream.wire.messages import Activity, End, Gap, Segment


def filled(count: int, *, window: int = 4, capacity: int = 8, first: int = 0) -> Outbox:
    outbox = Outbox(first, window, capacity)
    for sequence in range(first, first + count):
        outbox.put(fakes.segment(sequence))
    return outbox


def numbers(outbox: Outbox) -> list[int]:
    return [item.sequence for item in outbox.sendable()]


def send(outbox: Outbox) -> list[int]:
    items = outbox.sendable()
    for item in items:
        outbox.sent(item)
    return [item.sequence for item in items]


def test_a_credit_may_widen_and_narrow_the_window() -> None:
    outbox = filled(8)
    outbox.credit(0, 6)
    assert numbers(outbox) == [0, 1, 2, 3, 4, 5]
    outbox.credit(0, 1)
    assert numbers(outbox) == [0]


def test_a_file_that_must_wait_may_still_say_that_it_ends() -> None:
    outbox = Outbox(0, 0, 3)
    outbox.put(fakes.gap(0))
    outbox.put(End(stream="call", sequence=1, position=0))
    assert numbers(outbox) == [0, 1]
    outbox = filled(2, window=0)
    outbox.put(End(stream="call", sequence=2, position=0))
    assert numbers(outbox) == []


def test_what_a_predecessor_has_sent_is_kept_until_acknowledged_and_not_sent() -> None:
    outbox = Outbox(2, 4, 8)
    outbox.resume(4)
    for sequence in range(6):
        outbox.put(fakes.segment(sequence))
    assert numbers(outbox) == [4, 5]
    outbox.resume(2)
    assert numbers(outbox) == [2, 3, 4, 5]


SAMPLES = 16
"""Of each segment."""


def test_the_oldest_unsent_segments_over_the_bound_are_shed_with_their_places_and_the_reason() -> (
    None
):
    outbox = filled(9, window=2)
    send(outbox)
    outbox.shed(8 * SAMPLES - 1, "memory full")
    outbox.credit(2, 16)
    first, second, *others = outbox.sendable()
    for sequence, shed in ((2, first), (3, second)):
        segment = fakes.segment(sequence)
        assert shed == Gap(
            stream="call",
            sequence=sequence,
            start=segment.start,
            end=segment.end,
            reason="memory full",
        )
    assert all(isinstance(item, Segment) for item in others)


def test_what_was_sent_is_never_shed() -> None:
    outbox = filled(9, window=9)
    send(outbox)
    outbox.shed(0, "full")
    outbox.resume(0)
    assert all(isinstance(item, Segment) for item in outbox.sendable())


def test_a_gap_or_the_end_is_never_shed() -> None:
    outbox = Outbox(0, 4, 1)
    outbox.put(fakes.gap(0))
    outbox.put(fakes.segment(1))
    outbox.put(fakes.segment(2))
    outbox.put(End(stream="call", sequence=3, position=0))
    outbox.shed(SAMPLES, "full")
    kept = outbox.sendable()
    assert [item.sequence for item in kept] == [0, 1, 2, 3]
    assert kept[0] == fakes.gap(0)
    assert isinstance(kept[2], Segment)
    assert isinstance(kept[3], End)


def test_a_long_cut_off_leaves_the_latest_segments_up_to_the_capacity() -> None:
    """The gaps of those shed before must not count again and drive out what would still fit."""
    outbox = Outbox(0, 100, 3)
    for sequence in range(20):
        outbox.put(fakes.segment(sequence))
        outbox.shed(3 * SAMPLES, "full")
    kept = [item.sequence for item in outbox.sendable() if isinstance(item, Segment)]
    assert kept == [17, 18, 19]


def test_what_waited_during_a_cut_goes_in_small_portions_and_its_deadline_begins_then() -> None:
    outbox = Outbox(0, 48, 8, pace=4)
    for sequence in range(12):
        outbox.put(fakes.segment(sequence), now=100.0 + sequence)
    assert send(outbox) == [0, 1, 2, 3]
    assert send(outbox) == []
    outbox.credit(2, 48)
    assert send(outbox) == [4, 5]
    assert outbox.held_s(fakes.segment(5), now=160.0) == 55.0
    outbox.credit(6, 48)
    assert send(outbox) == [6, 7, 8, 9]
    assert send(outbox) == [10, 11]  # it has caught up
    outbox.put(fakes.segment(12), now=170.0)
    assert send(outbox) == [12]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 3)),
        st.tuples(st.just("send"), st.integers(1, 5)),
        st.tuples(st.just("acknowledge"), st.integers(0, 4)),
        st.tuples(st.just("reconnect"), st.integers(0, 6)),
    ),
    max_size=60,
)


@fakes.patient
@given(steps, st.integers(1, 5))
def test_it_behaves_as_a_list_with_three_marks(steps: list[tuple[str, int]], window: int) -> None:
    outbox = Outbox(0, window, 6)
    items: list[Item] = []
    acknowledged = unsent = 0
    for step, n in steps:
        if step == "put":
            for _ in range(n):
                items.append(fakes.segment(len(items)))
                outbox.put(items[-1])
        elif step == "send":
            for item in outbox.sendable()[:n]:
                outbox.sent(item)
                unsent += 1
        elif step == "acknowledge":
            acknowledged = min(acknowledged + n, unsent)
            outbox.credit(acknowledged, window)
        else:
            unsent = max(acknowledged, unsent - n)
            outbox.resume(unsent)
        assert outbox.acknowledged == acknowledged
        assert outbox.empty == (acknowledged == len(items))
        assert outbox.full == (len(items) - acknowledged >= 6)
        assert outbox.sendable() == items[unsent : max(unsent, acknowledged + window)]


# --- what is provisional --------------------------------------------------------------------------


def activity(speaking: bool) -> Activity:
    return Activity(stream="call", position=0, speaking=speaking)


def test_the_newest_part_takes_the_place_of_one_that_was_not_sent() -> None:
    latest = LatestOnly()
    latest.put(fakes.partial(3, part=1))
    latest.put(fakes.partial(3, part=2))
    assert [(i.sequence, i.part) for i in latest.take(3) if fakes.is_partial(i)] == [(3, 2)]
    assert latest.take(3) == []


def test_a_part_waits_for_the_segments_before_its_own() -> None:
    latest = LatestOnly()
    latest.put(fakes.partial(3))
    assert latest.take(2) == []
    assert len(latest.take(3)) == 1


def test_a_part_is_nothing_once_its_segment_is_on_its_way() -> None:
    latest = LatestOnly()
    latest.put(fakes.partial(3))
    assert latest.take(4) == []
    assert latest.take(3) == []


def test_activity_waits_for_nothing_and_only_the_latest_is_told() -> None:
    latest = LatestOnly()
    latest.put(activity(True))
    latest.put(activity(False))
    latest.put(fakes.partial(3))
    assert latest.take(0) == [activity(False)]
    assert latest.take(0) == []
