"""The jitter buffer: order, wrap, loss, pauses, new clocks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from fakes import patient
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.stream.serve.telephony.jitter import JitterBuffer

N = 160
"""Samples of a packet of 20 ms."""


def packet(i: int) -> bytes:
    return bytes([i % 251]) * N


def drain(buffer: JitterBuffer, now: float) -> list[tuple[int, bytes]]:
    return buffer.pop(now) + buffer.pop(now + 1)


@patient
@given(st.data(), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF))
def test_packets_that_come_in_time_leave_whole_and_in_order(
    data: st.DataObject, sequence: int, time: int
) -> None:
    """Up to 39 ms late, some twice, across the wrap of both counters."""
    count = data.draw(st.integers(1, 60))
    arrivals = sorted(
        (i * 0.02 + data.draw(st.floats(0, 0.039)), i)
        for i in [*range(count), *data.draw(st.lists(st.integers(0, count - 1), max_size=5))]
    )
    buffer, got = JitterBuffer(), list[tuple[int, bytes]]()
    for now, i in arrivals:
        buffer.push(now, (sequence + i) & 0xFFFF, (time + i * N) & 0xFFFFFFFF, packet(i))
        got += buffer.pop(now)
    got += drain(buffer, arrivals[-1][0])
    assert got == [(i * N, packet(i)) for i in range(count)]
    assert (buffer.lost, buffer.late) == (0, len(arrivals) - count)


@patient
@given(st.sets(st.integers(1, 58)))
def test_lost_packets_are_holes_in_the_positions(lost: set[int]) -> None:
    buffer, got = JitterBuffer(silence=b"\xff"), list[tuple[int, bytes]]()
    for i in sorted(set(range(60)) - lost):
        buffer.push(i * 0.02, i, i * N, packet(i))
        got += buffer.pop(i * 0.02)
    got += drain(buffer, 1.2)
    assert got == [(i * N, packet(i)) for i in range(60) if i not in lost]
    assert buffer.lost == len(lost)


@patient
@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.booleans())))
def test_any_numbers_give_rising_positions(packets: list[tuple[int, int, bool]]) -> None:
    """Whatever a sender writes: no exception, no more silence than time has passed and a leap."""
    buffer, got = JitterBuffer(silence=b"\xff"), list[tuple[int, bytes]]()
    for i, (sequence, time, full) in enumerate(packets):
        buffer.push(i * 0.02, sequence, time, packet(i) if full else b"")
        got += buffer.pop(i * 0.02)
    got += drain(buffer, len(packets) * 0.02)
    assert sum(len(data) for _, data in got) <= (len(packets) + 1) * (N * 2 + 80_000)
    assert all(a + len(data) <= b for (a, data), (b, _) in pairwise(got))


def test_a_hole_is_waited_for_and_a_late_packet_is_dropped() -> None:
    buffer = JitterBuffer()
    for i in (0, 1):
        buffer.push(0.0, i, i * N, packet(i))
    assert buffer.pop(0.059) == []
    assert buffer.wait_s(0.02) == pytest.approx(0.04)
    assert [at for at, _ in buffer.pop(0.06)] == [0, N]
    buffer.push(0.08, 3, 3 * N, packet(3))
    assert buffer.pop(0.13) == []
    assert buffer.pop(0.14) == [(3 * N, packet(3))]
    buffer.push(0.15, 2, 2 * N, packet(2))
    assert (buffer.pop(0.15), buffer.late, buffer.lost, buffer.wait_s(1)) == ([], 1, 1, None)


@pytest.mark.parametrize("announced", [True, False])
def test_a_pause_is_silence_and_no_hole(announced: bool) -> None:
    """With an announcement (comfort noise) the silence comes at once, else with the next packet."""
    buffer = JitterBuffer(silence=b"\xff")
    buffer.push(0.0, 0, 0, packet(0))
    buffer.push(0.02, 1, N, b"")
    if announced:
        buffer.pause(0.02)
    got = buffer.pop(2.2)
    assert len(got) == (3 if announced else 1)
    buffer.push(3.0, 2, 24_000, packet(2))
    got += drain(buffer, 3.0)
    assert got[0] == (0, packet(0))
    assert got[-1] == (24_000, packet(2))
    assert all(a + len(data) == b for (a, data), (b, _) in pairwise(got))
    assert {byte for _, data in got[1:-1] for byte in data} == {0xFF}
    assert buffer.lost == 0


@pytest.mark.parametrize(
    ("sequence", "time", "position"),
    [
        (40_000, 160 * 3, 8_000),  # another sequence
        (2, 3_000_000_000, 8_000),  # another clock
        (2, 3 * N + 40_000, 3 * N + 40_000),  # not yet: a leap of five seconds
    ],
)
def test_a_new_clock_goes_on_by_the_time_of_arrival(
    sequence: int, time: int, position: int
) -> None:
    buffer = JitterBuffer()
    for i in (0, 1):
        buffer.push(0.02 * i, i, i * N, packet(i))
    buffer.push(1.0, sequence, time, packet(2))
    assert [at for at, _ in drain(buffer, 1.0)] == [0, N, position]


def test_tracks_share_their_zero_and_another_sender_follows_on() -> None:
    buffer = JitterBuffer(silence=b"\xff")
    buffer.begin(10.0)
    buffer.push(11.0, 7, 70_000, packet(7))
    assert drain(buffer, 11.0) == [(0, b"\xff" * 8_000), (8_000, packet(7))]
    buffer.restart()
    buffer.push(11.03, 900, 5, packet(8))
    assert drain(buffer, 11.03) == [(8_000 + N, packet(8))]
