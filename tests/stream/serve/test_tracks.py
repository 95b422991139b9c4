"""Where pushed audio belongs: the clock of a track, whatever the sender says."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.stream.serve.tracks import JUMP_S, TrackClock

RATE = 8000


def clock(size: int = 1, next: int = 0) -> TrackClock:
    return TrackClock(RATE, size, 0.0, next / RATE, next)


@given(st.binary(max_size=99), st.integers(1, 4), st.lists(st.integers(0, 98), max_size=9))
def test_bytes_cut_anywhere_are_the_same_samples(data: bytes, size: int, cuts: list[int]) -> None:
    track, got = clock(size), b""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        start, whole, dropped = track.place(0.0, data[begin:end], None)
        assert (start * size, dropped) == (len(got), 0)
        got += whole
    assert got + track.rest == data
    assert track.next == len(data) // size
    assert len(track.rest) < size


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 90)), max_size=30))
def test_in_any_order_each_sample_is_used_once_in_its_place_or_dropped(
    messages: list[tuple[int, int]],
) -> None:
    track, used, dropped = clock(), set[int](), 0
    for position, count in messages:
        start, whole, lost = track.place(0.1, bytes(count), position)
        taken = set(range(start, start + len(whole)))
        assert taken <= set(range(position, position + count))
        assert not taken & used
        assert min(taken, default=1 << 30) > max(used, default=-1)
        used |= taken
        dropped += lost
        assert len(whole) + lost == count
    assert len(used) + dropped == sum(count for _, count in messages)


@pytest.mark.parametrize(
    ("now", "position", "start", "jumps"),
    [
        (10.0, 80_000, 80_000, 0),  # follows on
        (10.0, 80_160, 80_160, 0),  # a lost packet
        (40.0, 320_000, 320_000, 0),  # half a minute without network: a long gap
        (10.0, 3_000_000, 80_000, 1),  # the time is not there yet: another clock
        (10.0, 0, 80_000, 1),  # begins again
        (10.0, 2**32, 80_000, 1),
    ],
)
def test_a_jump_that_the_wall_clock_contradicts_is_a_new_clock(
    now: float, position: int, start: int, jumps: int
) -> None:
    track = clock(next=10 * RATE)
    assert track.place(now, bytes(160), position) == (start, bytes(160), 0)
    assert track.jumps == jumps
    # what follows on the sender's clock follows on
    assert track.place(now, bytes(160), position + 160)[0] == start + 160


def test_audio_without_position_after_a_pause_comes_now_and_not_before() -> None:
    track = clock(next=10 * RATE)
    assert track.place(11.5, bytes(800), None)[0] == 10 * RATE  # a late packet
    assert track.place(30.0, bytes(800), None)[0] == 30 * RATE - 800
    assert track.place(30.0, bytes(8 * 800), None)[0] == 30 * RATE  # what the network held back
    assert track.ahead_s(30.0) == pytest.approx(0.8)
    assert track.place(33.0, bytes(800), None)[0] == 33 * RATE - 800


def test_late_audio_is_cut_to_what_is_new() -> None:
    track = clock(size=2, next=1000)
    assert track.place(0.2, bytes(range(200)) * 2, 900) == (1000, bytes(range(200)), 200)
    assert track.place(0.2, bytes(9), 0) == (1100, b"", 8)
    assert track.place(0.2, bytes(2), 1100) == (1100, bytes(2), 1)  # half a sample came before
    assert track.next == 1101
    assert JUMP_S * RATE > 1100
