"""What each cell of a timeline shows."""

from __future__ import annotations

import pytest
from fakes import SECOND
from live_scenes import (
    AGENT,
    NOW,
    START,
    board_of,
    call,
    decided,
    picture,
    so_far,
    speaks,
    started,
)

from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.sinks.live.timeline import marks, step_for, window


def seen(board: Board, cells: int) -> list[str]:
    """Name what each of the last second-long cells shows."""
    found = marks(board.streams[AGENT], window(cells * SECOND, cells, SECOND), cells * SECOND)
    return [mark.kind if not mark.label else f"{mark.kind} {mark.label}" for mark in found]


def test_cells_lie_on_a_grid_that_does_not_depend_on_now() -> None:
    stream = call().streams[AGENT]
    whole = marks(stream, window(80 * SECOND, 80, SECOND), 80 * SECOND)
    for at in (71.0, 71.3, 71.999, 74.5):
        position = int(at * SECOND)
        view = window(position, 30, SECOND)
        decided_until = 70 - view.first
        found = marks(stream, view, position)[:decided_until]
        assert found == whole[view.first : view.first + decided_until]


def test_a_cell_shows_what_takes_up_most_of_it() -> None:
    board = board_of(
        started(AGENT),
        decided(0, 0.0, 1.4, "sad"),
        decided(1, 1.4, 3.0, "happy"),
        decided(2, 4.9, 5.0, "fear"),
        decided(3, 6.0, 6.3, "angry"),
    )
    labels = ["sad", "happy", "happy", "", "", "", "angry", ""]
    assert seen(board, 8) == [f"label {label}" if label else "silence" for label in labels]
    early = marks(board.streams[AGENT], window(SECOND, 3, SECOND), SECOND)
    assert [mark.kind for mark in early] == ["none", "none", "label"]


def test_speech_is_seen_before_it_has_a_label_and_awaits_one_for_a_while() -> None:
    board = board_of(started(AGENT), decided(0, 0, 2, "sad"), speaks(AGENT, 3))
    assert seen(board, 6)[3:] == ["speech"] * 3
    board.see(so_far(1, 3, 5, "fear", "", 0), NOW)
    assert seen(board, 6)[3:] == ["so far fear"] * 2 + ["speech"]
    board.see(speaks(AGENT, 6, False), NOW)
    assert seen(board, 7)[3:] == ["so far fear"] * 2 + ["speech", "silence"]
    assert "○ call/agent  quiet 1s" in picture(board, 79, 20, START + 7.2).text
    assert seen(board, 20)[5] == "silence", "it made no segment"
    board.see(decided(1, 3, 6, "happy"), NOW)
    assert seen(board, 7)[3:] == ["label happy"] * 3 + ["silence"]


@pytest.mark.parametrize("width", [80, 160])
def test_the_ruler_says_how_long_ago_a_cell_was(width: int) -> None:
    steps = [step_for(seconds * SECOND, 60) // SECOND for seconds in (60, 61, 121, 36_000)]
    assert steps == [1, 2, 4, 4], "as little as shows the whole stream"
    board = board_of(started(AGENT), decided(0, 11.0, 12.0, "sad"), speaks(AGENT, 13))
    top, *rest = picture(board, width, 20, START + 41).text.split("\n")
    # 41 s are over: 11 to 12 s are the cell 30 s before now
    tick = top.index("-0:30") + len("-0:30") // 2
    assert rest[1][tick - 1 : tick + 1].strip("·") == "S"
