"""How the live view looks: planted boards, and the exact text of the picture."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from fakes import SECOND
from live_scenes import (
    AGENT,
    CUSTOMER,
    NOW,
    SCRIPT,
    START,
    Drawn,
    alerted,
    ballot,
    board_of,
    call,
    decided,
    missing,
    nodes,
    picture,
    so_far,
    speaks,
    started,
    status,
    told,
    words,
)
from msgspec.structs import replace
from output_fakes import gap
from rich.console import Console

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.sinks.palette import LETTERS
from abhinaya.stream.wire.messages import Event, FrontDown, NodeDown, StreamEnded, Verdict

GOLDEN = Path(__file__).parent / "live_pictures"


def desks(count: int) -> Board:
    """Streams of which every second speaks, and each of which has its own labels."""
    events: list[Event] = [*nodes("S1", "T2", "ST1"), status()]
    board = board_of(*events)
    for k in range(count):
        name = f"desk {k + 1:02}"
        script = [(a, b, LABELS[(LABELS.index(label) + k) % 8], t) for a, b, label, t in SCRIPT]
        for event in (started(name), *told(name, script)):
            board.see(event, START + 60)
        if k % 2:
            board.see(speaks(name, 66), START + 66)
    return board


def ansi(drawn: Drawn, **console: object) -> str:
    """Give what a terminal gets."""
    file = io.StringIO()
    settings: dict[str, object] = {"force_terminal": True, "color_system": "truecolor"}
    Console(file=file, width=200, **(settings | console)).print(drawn)  # type: ignore[arg-type]
    return file.getvalue()


# --- the whole picture ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.stem)
def test_the_picture_is_the_one_that_is_kept(path: Path) -> None:
    kind, *streams, size = path.stem.split("-")
    width, rows = map(int, size.split("x"))
    board = call() if kind == "call" else desks(int(streams[0]))
    assert picture(board, width - 1, rows, NOW).text + "\n" == path.read_text("utf-8")


@pytest.mark.parametrize("streams", [0, 1, 2, 5, 16, 64])
def test_it_fits_any_terminal(streams: int) -> None:
    board = call() if streams == 2 else desks(streams)
    for width in (1, 2, 5, 10, 19, 20, 35, 36, 40, 59, 67, 68, 79, 80, 119, 300):
        for rows in (1, 2, 3, 7, 8, 12, 20, 50):
            drawn = picture(board, width, rows, NOW)
            assert len(drawn) <= rows
            assert max(drawn.widths) <= width


def test_nothing_moves_because_somebody_speaks_or_a_voter_is_missing() -> None:
    before = board_of(*nodes("S1", "T2", "ST1"), status(), started(AGENT), *told(AGENT))
    heights = {len(picture(before, 79, 24, NOW))}
    for event in (
        speaks(AGENT, 60),
        so_far(5, 60, 63, "fear", "word " * 60, 3),
        missing(decided(5, 60, 69, "fear", "word " * 60), "T2", "late " * 30),
        StreamEnded(stream=AGENT, sequence=6, position=70 * SECOND),
    ):
        before.see(event, NOW)
        heights.add(len(picture(before, 79, 24, NOW)))
    assert len(heights) == 1


# --- colour and its absence -----------------------------------------------------------------------


def test_no_label_is_told_by_its_colour_alone() -> None:
    for label in (*LABELS, UNKNOWN):
        for seconds in (1, 2, 4, 12):
            board = board_of(started(AGENT), decided(0, 0, seconds, label))
            strip = picture(board, 79, 20, START + 13).text.split("\n")[2]
            names = (LETTERS[label], label[:2], label[:4], label)
            assert any(name in strip for name in names), (label, seconds)


def test_no_colour_is_needed_and_none_is_black_or_white() -> None:
    raw = ansi(picture(call(), 79, 20, NOW))
    assert "\x1b[7;38;2;" in raw, "a block has the background's colour as its text"
    codes = re.findall(r"\x1b\[([0-9;]*)m", re.sub(r"38;2;\d+;\d+;\d+", "", raw))
    assert {code for text in codes for code in text.split(";")} <= {"", "0", "1", "2", "3", "7"}
    bare = ansi(picture(call(), 79, 20, NOW), no_color=True)
    assert "38;2" not in bare
    assert "\x1b[7m angry" in bare, "blocks are still blocks"


# --- what is written into it ----------------------------------------------------------------------

EVIL = (
    "a\x1b]0;owned\x07b\x1b[2Jc\x1b[31m",
    "[red]not red[/red] [link=x]y[/link] :smile:",
    "line\nbreak\r\ttab\x00\x7f\x9b2J",
    "電話の会話ですよね、とても長い名前です",
    "👨\u200d👩\u200d👧 family ❤\ufe0f 👍🏽 e\u0301e\u0301 कि",
    "\u202eright to left\u202c שלום مرحبا",
    "x" * 300,
    "\u0301leading mark",
)


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("width", [20, 40, 79, 119])
def test_nothing_that_is_said_or_named_controls_the_terminal(text: str, width: int) -> None:
    verdict = missing(decided(0, 1, 5, "sad", text, text), "T2", text)
    board = board_of(
        *nodes("S1", "T2"),
        started(text),
        verdict,
        so_far(1, 6, 8, "sad", text, 1, text),
        gap(2, 0, 1, text, text),
        NodeDown(node=text, incarnation="1", service=text, reason=text),
    )
    alert = alerted(text, text, confidence=None, text=text)
    board.add_alert(alert, NOW)
    for rows in (4, 12, 30):
        drawn = picture(board, width, rows, NOW)
        assert max(drawn.widths) <= width
        assert all(line.isprintable() for line in drawn.text.split("\n"))
        raw = ansi(drawn)
        assert set(re.findall(r"\x1b.", raw)) <= {"\x1b["}
        assert not re.search(r"\x1b\[[0-9;]*[^0-9;m]", raw)


def test_names_are_shown_as_they_are_and_cut_where_they_are_long() -> None:
    board = board_of(started("[red]"), decided(0, 1, 5, "sad", "[bold]so[/bold] :smile:", "[red]"))
    text = picture(board, 79, 20, NOW).text
    assert "[red]" in text
    assert "[bold]so[/bold] :smile:" in text
    name = "customers of the northern office who called twice on monday"
    line = picture(board_of(started(name), *told(name)), 79, 20, NOW).text.split("\n")[1]
    assert re.search(r"customers of.*…", line)
    assert line.index("happy") == picture(call(), 79, 20, NOW).text.split("\n")[1].index("surp")


def test_what_may_still_change_is_dimmed() -> None:
    board = board_of(started(AGENT), so_far(0, 1, 3, "sad", "well i never heard", 2))
    raw = ansi(picture(board, 79, 20, NOW))
    plain, _, rest = raw.partition("\x1b[2;3m")
    assert "“well i" in plain
    assert rest.startswith("never heard …") or "never" in rest
    board.see(decided(0, 1, 4, "sad", "well i never heard of it"), NOW)
    assert "\x1b[2;3m" not in ansi(picture(board, 79, 20, NOW))


def test_of_a_text_that_is_too_long_the_end_is_shown() -> None:
    text = " ".join(f"word{i}" for i in range(100))
    shown = picture(board_of(started(AGENT), decided(0, 1, 5, "sad", text)), 79, 20, NOW).text
    assert "word99”" in shown
    assert "word0 " not in shown
    board = desks(4)
    one_line = picture(board, 99, 12, NOW)
    assert re.search(r"quiet 18s +… .*you have made my day”  +happy", one_line.text)
    board.see(decided(5, 70, 71, "sad", "漢字" * 50, "desk 01"), NOW)
    assert "漢字漢字”" in picture(board, 99, 12, NOW).text.split("\n")[1]
    assert max(picture(board, 99, 12, NOW).widths) <= 99


def test_the_words_before_can_be_read_until_there_are_new_ones() -> None:
    board = board_of(started(AGENT), decided(0, 1, 3, "sad", "the old words"))
    board.see(so_far(1, 4, 6, "happy", "", 0), NOW)
    assert "“the old words”" in picture(board, 79, 20, NOW).text
    assert "\x1b[38;2;128;128;128m“the" in ansi(picture(board, 79, 20, NOW)), "they are past"
    board.see(so_far(1, 4, 7, "happy", "new ones", 1, part=2), NOW)
    assert "“new ones …" in picture(board, 79, 20, NOW).text
    assert "old" not in picture(board, 79, 20, NOW).text


# --- who and what is missing ----------------------------------------------------------------------

SILENT, BARE = words(AGENT, 0, ""), ballot(AGENT, 0, "T1", "sad", 0.5)
NO_LABEL: dict[str, Any] = {
    "confidence": None,
    "agreement": 0.0,
    "votes": (),
    "reason": "0 votes of at least 1",
    "transcript": None,
}


@pytest.mark.parametrize(
    ("expected", "event"),
    [
        ("T2  ✗ no answer in 4 s", missing(decided(0, 1, 5, "sad"), "T2", "no answer in 4 s")),
        ("ST1 …", so_far(0, 1, 3, "sad", "no", 1)),
        ("T2  … no words yet", missing(so_far(0, 1, 3, "sad", "", 0), "T2", "no words yet")),
        ("no label: 0 votes of at least 1", decided(0, 1, 5, UNKNOWN, **NO_LABEL)),
        ("no words: noise", decided(0, 1, 5, "sad", transcript=replace(SILENT, reason="noise"))),
        ("T1  sad", decided(0, 1, 5, "sad", votes=(replace(BARE, probabilities=None),))),
    ],
)
def test_what_is_missing_has_its_place_and_its_reason(expected: str, event: Verdict) -> None:
    text = picture(board_of(*nodes("S1", "T2", "ST1"), started(AGENT), event), 79, 24, NOW).text
    assert expected in [line.strip() for line in text.split("\n")]
    assert ("✗" in text) == ("✗" in expected)


# --- what goes wrong ------------------------------------------------------------------------------


def test_what_is_wrong_stands_first_below_and_beside_its_stream() -> None:
    board = call()
    board.see(NodeDown(node="S1-0", incarnation="1", service="S1", reason="was killed"), NOW)
    counts = picture(board, 119, 30, NOW).text.split("\n")[-2]
    assert counts.startswith("   S1-0 down: was killed · 3 nodes up · 1 gap: the backlog was full")
    assert "was killed" in picture(board, 30, 10, NOW).text.split("\n")[-2]
    board.see(FrontDown(front="front-0", incarnation="1", reason="silent"), NOW)
    assert picture(board, 79, 20, NOW).text.count("input is down") == 2


def test_the_latest_alert_is_shown_for_a_minute() -> None:
    board = call()
    alert = alerted("fury", AGENT)
    board.add_alert(alert, NOW)
    text = picture(board, 79, 20, NOW + 1).text
    alerted_of = " ! alert fury: call/agent angry at 0:00:20.0 (2 segments, 8.0 s, 71%)"
    assert text.split("\n")[-1] == alerted_of
    assert "!○ call/agent" in text
    later = picture(board, 79, 20, NOW + 61).text
    assert "fury" not in later
    assert "surprise" in later.split("\n")[-1], "the legend is back"
    assert "!" not in later


def test_a_stream_that_broke_off_is_marked() -> None:
    board = call()
    for stream, reason in ((AGENT, "was unplugged"), (CUSTOMER, "")):
        end = StreamEnded(stream=stream, sequence=7, position=72 * SECOND, reason=reason)
        board.see(end, NOW)
    lines = picture(board, 79, 20, NOW).text.split("\n")
    assert [line for line in lines if line.startswith(" ✗ call/agent     broke 0:01:12")]
    assert [line for line in lines if line.startswith(" ✓ call/customer  ended 0:01:12")]


# --- many streams ---------------------------------------------------------------------------------


def test_the_most_interesting_streams_come_first_when_not_all_fit() -> None:
    board = board_of(*(started(f"desk {k:02}") for k in range(64)))
    for i in range(5):
        for k in range(64):
            label = "angry" if k == 40 else "neutral"
            board.see(decided(i, 6 * i, 6 * i + 5, label, stream=f"desk {k:02}"), START + 30)
    board.see(gap(9, 31, 32, "desk 50"), NOW)
    board.see(StreamEnded(stream="desk 00", sequence=5, position=31 * SECOND), NOW)
    names = re.findall(r"desk \d\d", picture(board, 79, 12, NOW).text)
    assert names[:4] == ["desk 40", "desk 50", "desk 01", "desk 02"]
