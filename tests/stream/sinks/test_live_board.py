"""What the live view knows after which events."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from fakes import SECOND
from live_scenes import (
    START,
    alerted,
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
from output_fakes import gap

from abhinaya.models.labels import LABELS
from abhinaya.stream.sinks.live.board import CHANGES, ENDED, GAP, SPANS, Board, StreamState
from abhinaya.stream.wire.messages import FrontDown, NodeDown, StreamEnded

CALL = "call/agent"


def labels(stream: StreamState) -> list[str]:
    return [span.label for span in stream.spans]


def test_a_provisional_verdict_is_shown_until_the_segment_is_decided_and_not_after() -> None:
    board = board_of(started(CALL), speaks(CALL, 1), so_far(0, 1, 3, "sad", "well i", 1))
    stream = board.streams[CALL]
    for event, shown, kept in (
        (so_far(0, 1, 4, "angry", "well i never", 2, part=2), "angry", []),
        (decided(0, 1, 5, "happy", "well i never did"), "happy", ["happy"]),
        (so_far(0, 1, 4, "angry", "too late", 1), "happy", ["happy"]),
        (so_far(1, 6, 8, "sad", "and", 1), "sad", ["happy"]),
        (gap(1, 6, 9, CALL), "happy", ["happy", GAP]),
    ):
        board.see(event, START)
        assert stream.latest is not None
        assert (stream.latest.label, labels(stream)) == (shown, kept)
    assert (board.gaps, board.gap_reason) == (1, "the backlog was full")


def test_a_revision_changes_its_segment_and_no_other_and_not_the_latency() -> None:
    board = Board()
    assert board.latency_ms is None
    board.see(decided(0, 1, 5, "sad"), START + 5 + 1)
    board.see(so_far(1, 6, 8, "sad", "", 0), START + 8 + 50)
    board.see(decided(0, 1, 5, "happy", revision=1), START + 5 + 70)
    assert board.latency_ms == pytest.approx(1000), "of the first verdict on a whole segment"
    board = board_of(started(CALL), *told(CALL))
    stream, before = board.streams[CALL], labels(board.streams[CALL])
    board.see(decided(1, 12.0, 20.5, "fear", revision=1), START)
    assert labels(stream) == [before[0], "fear", *before[2:]]
    assert stream.verdict is not None
    assert (stream.verdict.sequence, stream.verdict.label) == (4, before[4])
    board.see(decided(4, 44.0, 53.0, "fear", revision=1), START)
    assert stream.verdict.label == "fear"


def test_the_mood_changes_later_than_the_labels() -> None:
    script = [(5.0 * i, 5.0 * i + 4, "angry" if i > 5 else "neutral", "") for i in range(12)]
    board = board_of(started(CALL), *told(CALL, script[:7]))
    assert (labels(board.streams[CALL])[-1], board.streams[CALL].mood) == ("angry", "neutral")
    board = board_of(started(CALL), *told(CALL, script))
    assert board.streams[CALL].mood == "angry"


def test_a_live_stream_goes_by_the_clock_and_a_file_by_what_is_decided() -> None:
    board = board_of(started("mic"), started("file", live=False), *told("file"))
    board.see(decided(0, 10, 15, "happy", stream="mic"), START + 16)
    mic = board.streams["mic"]
    assert mic.position(START + 60) == 60 * SECOND
    assert mic.position(START - 3600) == 15 * SECOND, "the clock was set back"
    assert board.streams["file"].position(START + 60) == 53 * SECOND
    board.see(StreamEnded(stream="mic", sequence=1, position=61 * SECOND), START + 61)
    assert (mic.position(START + 99), mic.speaking) == (61 * SECOND, False)


def test_nodes_and_fronts_that_die_are_named_until_they_are_back() -> None:
    board = board_of(*nodes("S1", "T2"), started(CALL), status())
    board.see(NodeDown(node="S1-0", incarnation="1", service="S1", reason="was killed"), START)
    assert (board.down, set(board.up)) == ({"S1-0": "was killed"}, {"asr-0", "T2-0"})
    board.see(list(nodes("S1"))[1], START)
    assert (board.down, board.restarts, len(board.up)) == ({}, 1, 3)
    board.see(FrontDown(front="front-0", incarnation="1", reason="silent"), START)
    board.see(status(fronts=()), START)
    assert board.down == {"front-0": "silent"}
    board.see(status(), START)
    assert not board.down


def test_alerts_are_remembered_with_their_stream_and_voters_once_they_are_seen() -> None:
    board = board_of(started(CALL), *nodes("S1"))
    alert = alerted("fury", CALL)
    board.add_alert(alert, START + 3)
    assert (board.alert, board.alerts) == (alert, 1)
    assert board.streams[CALL].alert_unix_s == START + 3
    board.see(decided(0, 1, 5, "sad", votes=(ballot(CALL, 0, "X", "sad", 1),)), START)
    assert board.voters == {"S1", "X"}


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
                board.see(gap(i, 6 * i, 6 * i + 5, name), START + 6 * i + 6)
            board.see(speaks(name, 6 * i + 5, False), START + 6 * i + 6)


def test_eight_hours_keep_memory_flat() -> None:
    board = board_of(*(started(f"desk {k}") for k in range(2)))
    hours_of(board, range(1), 2)
    picture(board, 120, 40, START + 3600)
    gc.collect()
    tracemalloc.start()
    try:
        first = tracemalloc.get_traced_memory()[0]
        hours_of(board, range(1, 8), 2)
        picture(board, 120, 40, START + 8 * 3600)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()
    assert grown < 500_000, "what is kept is replaced, not added to"
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
