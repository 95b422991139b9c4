"""What the live view knows after which events."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from fakes import SECOND
from live_scenes import (
    START,
    ballot,
    board_of,
    decided,
    nodes,
    picture,
    so_far,
    speaks,
    started,
    status,
    told,
)

from abhinaya.models.labels import LABELS
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.live.board import CHANGES, ENDED, GAP, SPANS, Board, StreamState
from abhinaya.stream.wire.messages import FrontDown, Gap, NodeDown, StreamEnded

CALL = "call/agent"


def lost(sequence: int, start_s: float, end_s: float, stream: str = CALL) -> Gap:
    return Gap(
        stream=stream,
        sequence=sequence,
        start=int(start_s * SECOND),
        end=int(end_s * SECOND),
        reason="the backlog was full",
    )


def labels(stream: StreamState) -> list[str]:
    return [span.label for span in stream.spans]


def test_a_provisional_verdict_is_shown_until_the_segment_is_decided() -> None:
    board = board_of(started(CALL), speaks(CALL, 1), so_far(0, 1, 3, "sad", "well i", 1))
    stream = board.streams[CALL]
    assert stream.latest is not None
    assert (stream.latest.label, stream.latest.final, stream.verdict) == ("sad", False, None)
    board.see(so_far(0, 1, 4, "angry", "well i never", 2, part=2), START)
    assert stream.latest.label == "angry"
    assert labels(stream) == []
    board.see(decided(0, 1, 5, "happy", "well i never did"), START)
    assert stream.latest.label == "happy"
    assert stream.so_far is None
    assert labels(stream) == ["happy"]


def test_a_provisional_verdict_that_comes_too_late_is_not_shown() -> None:
    board = board_of(started(CALL), decided(0, 1, 5, "happy"))
    board.see(so_far(0, 1, 4, "angry", "well", 1), START)
    assert board.streams[CALL].latest == board.streams[CALL].verdict


def test_a_gap_ends_what_was_said_so_far() -> None:
    board = board_of(started(CALL), so_far(0, 1, 4, "angry", "well", 1), lost(0, 1, 6))
    stream = board.streams[CALL]
    assert stream.so_far is None
    assert labels(stream) == [GAP]
    assert (board.gaps, board.gap_reason) == (1, "the backlog was full")


def test_a_revision_changes_its_segment_and_no_other() -> None:
    board = board_of(started(CALL), *told(CALL))
    before = labels(board.streams[CALL])
    board.see(decided(1, 12.0, 20.5, "fear", revision=1), START)
    assert labels(board.streams[CALL]) == [before[0], "fear", *before[2:]]
    newest = board.streams[CALL].verdict
    assert newest is not None
    assert newest.sequence == 4, "the latest verdict stays the latest"
    board.see(decided(4, 44.0, 53.0, "fear", revision=1), START)
    assert board.streams[CALL].verdict is not None
    assert board.streams[CALL].verdict.label == "fear"


def test_the_mood_changes_later_than_the_labels() -> None:
    board = board_of(started(CALL))
    for i in range(6):
        board.see(decided(i, 5 * i, 5 * i + 4, "neutral"), START)
    board.see(decided(6, 30, 34, "angry"), START)
    stream = board.streams[CALL]
    assert stream.latest is not None
    assert (stream.latest.label, stream.mood) == ("angry", "neutral")
    for i in range(7, 12):
        board.see(decided(i, 5 * i, 5 * i + 4, "angry"), START)
    assert stream.mood == "angry"


def test_a_live_stream_goes_by_the_clock_and_a_file_by_what_is_decided() -> None:
    board = board_of(started("mic"), started("file", live=False), *told("file"))
    board.see(decided(0, 1, 5, "happy", stream="mic"), START + 6)
    assert board.streams["mic"].position(START + 60) == 60 * SECOND
    assert board.streams["file"].position(START + 60) == 53 * SECOND
    board.see(StreamEnded(stream="mic", sequence=1, position=61 * SECOND), START + 61)
    assert board.streams["mic"].position(START + 99) == 61 * SECOND
    assert not board.streams["mic"].speaking


def test_a_clock_that_is_set_back_does_not_turn_a_stream_back() -> None:
    board = board_of(started("mic"), decided(0, 10, 15, "happy", stream="mic"))
    assert board.streams["mic"].position(START - 3600) == 15 * SECOND


def test_nodes_that_die_are_named_until_they_are_back() -> None:
    board = board_of(*nodes("S1", "T2"), status())
    board.see(NodeDown(node="S1-0", incarnation="1", service="S1", reason="was killed"), START)
    assert board.down == {"S1-0": "was killed"}
    assert set(board.up) == {"asr-0", "T2-0"}
    board.see(next(iter(list(nodes("S1"))[1:])), START)
    assert (board.down, board.restarts) == ({}, 1)
    assert set(board.up) == {"asr-0", "S1-0", "T2-0"}


def test_a_front_that_is_silent_is_down_until_the_hub_hears_it() -> None:
    board = board_of(started(CALL), status())
    board.see(FrontDown(front="front-0", incarnation="1", reason="silent"), START)
    assert board.down == {"front-0": "silent"}
    board.see(status(fronts=()), START)
    assert board.down
    board.see(status(), START)
    assert not board.down


def test_latency_is_of_the_first_verdict_on_whole_segments() -> None:
    board = Board()
    assert board.latency_ms is None
    board.see(decided(0, 1, 5, "sad"), START + 5 + 1)
    board.see(so_far(1, 6, 8, "sad", "", 0), START + 8 + 50)
    board.see(decided(0, 1, 5, "happy", revision=1), START + 5 + 70)
    assert board.latency_ms == pytest.approx(1000)


def test_an_alert_is_remembered_with_its_stream() -> None:
    board = board_of(started(CALL))
    alert = Alert(
        rule="fury",
        stream=CALL,
        label="angry",
        sequence=1,
        first_sequence=0,
        start=0,
        end=SECOND,
        start_unix_s=START,
        speech=SECOND,
        segments=2,
        confidence=0.7,
        text="no",
    )
    board.raised(alert, START + 3)
    assert (board.alert, board.alerts) == (alert, 1)
    assert board.streams[CALL].alert_unix_s == START + 3


def test_every_voter_that_was_heard_of_has_a_place() -> None:
    board = board_of(*nodes("S1"), decided(0, 1, 5, "sad", votes=(ballot(CALL, 0, "X", "sad", 1),)))
    assert board.voters == {"S1", "X"}


# --- memory ---------------------------------------------------------------------------------------


def hours_of(board: Board, hours: range, streams: int) -> None:
    """Six-second segments, each with a beginning, a part and a verdict; now and then a gap."""
    for i in range(hours.start * 600, hours.stop * 600):
        for k in range(streams):
            name = f"desk {k}"
            board.see(speaks(name, 6 * i), START + 6 * i)
            label = LABELS[(i // 7 + k) % 8]
            board.see(so_far(i, 6 * i, 6 * i + 2, label, "a b c", 2, name), START + 6 * i + 2)
            if i % 50:
                board.see(decided(i, 6 * i, 6 * i + 5, label, "a b c d", name), START + 6 * i + 6)
            else:
                board.see(lost(i, 6 * i, 6 * i + 5, name), START + 6 * i + 6)
            board.see(speaks(name, 6 * i + 5, False), START + 6 * i + 6)


def test_eight_hours_keep_memory_flat() -> None:
    board = board_of(*(started(f"desk {k}") for k in range(4)))
    hours_of(board, range(1), 4)
    picture(board, 120, 40, START + 3600)
    gc.collect()
    tracemalloc.start()
    try:
        first = tracemalloc.get_traced_memory()[0]
        hours_of(board, range(1, 8), 4)
        picture(board, 120, 40, START + 8 * 3600)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()
    assert grown < 1_000_000, "what is kept is replaced, not added to"
    for stream in board.streams.values():
        assert len(stream.spans) == SPANS
        assert len(stream.moods) <= CHANGES


def test_streams_that_have_ended_are_forgotten_in_time() -> None:
    board = board_of(started("mic"))
    for i in range(3 * ENDED):
        name = f"episode {i}"
        board.see(started(name, live=False), START)
        board.see(decided(0, 1, 5, "sad", stream=name), START)
        board.see(StreamEnded(stream=name, sequence=1, position=6 * SECOND), START)
    assert len(board.streams) == ENDED + 1
    assert "mic" in board.streams
    assert f"episode {3 * ENDED - 1}" in board.streams
