"""How the live view looks: planted boards, and the exact text of the picture."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from fakes import SECOND
from live_scenes import (
    SCRIPT,
    START,
    Drawn,
    ballot,
    board_of,
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
from rich.cells import cell_len
from rich.console import Console

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.live.block import FORMS, height
from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.sinks.live.timeline import Mark, marks, step_for, window
from abhinaya.stream.sinks.palette import LETTERS
from abhinaya.stream.wire.messages import Event, FrontDown, Gap, NodeDown, StreamEnded

GOLDEN = Path(__file__).parent / "live_pictures"
AGENT, CUSTOMER = "call/agent", "call/customer"


def call() -> Board:
    """A call: the agent has lost three seconds and a vote, the customer is speaking."""
    last = decided(6, 68, 70, "surprise", "wow really", AGENT)
    return board_of(
        *nodes("S1", "T2", "ST1"),
        status(),
        started(AGENT),
        *told(AGENT),
        Gap(
            stream=AGENT,
            sequence=5,
            start=64 * SECOND,
            end=67 * SECOND,
            reason="the backlog was full",
        ),
        missing(last, "T2", "no answer in 4 s"),
        started(CUSTOMER),
        *told(CUSTOMER, [(a + 3.7, b + 3.7, label, text) for a, b, label, text in SCRIPT]),
        speaks(CUSTOMER, 66),
        so_far(5, 66, 70, "fear", "and then i heard something outside and", 4, CUSTOMER),
    )


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


NOW = START + 71.5


def ansi(drawn: Drawn, **console: object) -> str:
    """Give what a terminal gets."""
    file = io.StringIO()
    settings: dict[str, object] = {"force_terminal": True, "color_system": "truecolor"}
    Console(file=file, width=200, **(settings | console)).print(drawn)  # type: ignore[arg-type]
    return file.getvalue()


# --- the whole picture ----------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "rows"), [(80, 20), (120, 36), (40, 12), (20, 8)])
def test_the_picture_of_a_call_is_the_one_that_is_kept(width: int, rows: int) -> None:
    text = picture(call(), width - 1, rows, NOW).text
    assert text + "\n" == (GOLDEN / f"call-{width}x{rows}.txt").read_text("utf-8")


@pytest.mark.parametrize(("streams", "width", "rows"), [(16, 80, 20), (64, 100, 24)])
def test_the_picture_of_many_streams_is_the_one_that_is_kept(
    streams: int, width: int, rows: int
) -> None:
    text = picture(desks(streams), width - 1, rows, NOW).text
    assert text + "\n" == (GOLDEN / f"desks-{streams}-{width}x{rows}.txt").read_text("utf-8")


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
    before.see(speaks(AGENT, 60), NOW)
    heights.add(len(picture(before, 79, 24, NOW)))
    before.see(so_far(5, 60, 63, "fear", "word " * 60, 3), NOW)
    heights.add(len(picture(before, 79, 24, NOW)))
    before.see(missing(decided(5, 60, 69, "fear", "word " * 60), "T2", "late " * 30), NOW)
    heights.add(len(picture(before, 79, 24, NOW)))
    before.see(StreamEnded(stream=AGENT, sequence=6, position=70 * SECOND), NOW)
    heights.add(len(picture(before, 79, 24, NOW)))
    assert len(heights) == 1


def test_each_form_takes_the_rows_that_it_says() -> None:
    for streams, board in ((2, call()), (16, desks(16))):
        for form in FORMS[: -2 if streams == 2 else None]:
            rows = streams * height(form, 3, 79) + 3
            drawn = picture(board, 79, rows, NOW)
            assert len(drawn) == rows, form


# --- the timeline ---------------------------------------------------------------------------------


def test_cells_lie_on_a_grid_that_does_not_depend_on_now() -> None:
    stream = call().streams[AGENT]
    whole = marks(stream, window(80 * SECOND, 80, SECOND), 80 * SECOND)
    for at in (71.0, 71.3, 71.999, 74.5):
        position = int(at * SECOND)
        view = window(position, 30, SECOND)
        seen = marks(stream, view, position)
        decided_until = 70 - view.first
        assert seen[:decided_until] == whole[view.first : view.first + decided_until]


def test_a_cell_shows_what_takes_up_most_of_it() -> None:
    board = board_of(
        started(AGENT),
        decided(0, 0.0, 1.4, "sad"),
        decided(1, 1.4, 3.0, "happy"),
        decided(2, 4.9, 5.0, "fear"),
        decided(3, 6.0, 6.3, "angry"),
    )
    seen = marks(board.streams[AGENT], window(8 * SECOND, 8, SECOND), 8 * SECOND)
    names = [mark.label or mark.kind for mark in seen]
    assert names == ["sad", "happy", "happy"] + ["silence"] * 3 + ["angry", "silence"]


def test_before_the_stream_began_there_is_nothing() -> None:
    board = board_of(started(AGENT), decided(0, 0.0, 2.0, "sad"))
    seen = marks(board.streams[AGENT], window(3 * SECOND, 6, SECOND), 3 * SECOND)
    assert [mark.kind for mark in seen] == ["none"] * 3 + ["label"] * 2 + ["silence"]


def test_speech_without_a_label_is_seen_as_speech() -> None:
    board = board_of(started(AGENT), decided(0, 0.0, 2.0, "sad"), speaks(AGENT, 3))
    seen = marks(board.streams[AGENT], window(6 * SECOND, 6, SECOND), 6 * SECOND)
    assert seen[3:] == [Mark("speech")] * 3
    board.see(so_far(1, 3, 5, "fear", "", 0), NOW)
    seen = marks(board.streams[AGENT], window(6 * SECOND, 6, SECOND), 6 * SECOND)
    assert seen[3:] == [Mark("so far", "fear")] * 2 + [Mark("speech")]


def test_speech_that_is_over_awaits_its_label_for_a_while() -> None:
    board = board_of(started(AGENT), decided(0, 0, 2, "sad"), speaks(AGENT, 3))
    board.see(so_far(1, 3, 5, "fear", "", 0), NOW)
    board.see(speaks(AGENT, 6, False), NOW)
    stream = board.streams[AGENT]
    seen = marks(stream, window(7 * SECOND, 7, SECOND), 7 * SECOND)
    assert seen[3:] == [Mark("so far", "fear")] * 2 + [Mark("speech"), Mark("silence")]
    assert "○ call/agent  quiet 1s" in picture(board, 79, 20, START + 7.2).text
    late = marks(stream, window(20 * SECOND, 20, SECOND), 20 * SECOND)
    assert late[5] == Mark("silence"), "it made no segment"
    board.see(decided(1, 3, 6, "happy"), NOW)
    seen = marks(stream, window(7 * SECOND, 7, SECOND), 7 * SECOND)
    assert seen[3:] == [Mark("label", "happy")] * 3 + [Mark("silence")]


def test_a_cell_stands_for_as_little_as_shows_the_whole_stream() -> None:
    assert step_for(60 * SECOND, 60) == SECOND
    assert step_for(61 * SECOND, 60) == 2 * SECOND
    assert step_for(121 * SECOND, 60) == 4 * SECOND
    assert step_for(36_000 * SECOND, 60) == 4 * SECOND


def test_the_ruler_says_how_long_ago_a_cell_was() -> None:
    for rows, width in ((20, 80), (20, 160)):
        board = board_of(started(AGENT), decided(0, 11.0, 12.0, "sad"), speaks(AGENT, 13))
        top, *rest = picture(board, width, rows, START + 41).text.split("\n")
        # 41 s are over: 11 to 12 s are the cell 30 s before now
        tick = top.index("-0:30") + len("-0:30") // 2
        assert rest[1][tick - 1 : tick + 1].strip("·") == "S"


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
        Gap(stream=text, sequence=2, start=0, end=SECOND, reason=text),
        NodeDown(node=text, incarnation="1", service=text, reason=text),
    )
    alert = Alert(
        rule=text,
        stream=text,
        label="sad",
        sequence=0,
        first_sequence=0,
        start=0,
        end=SECOND,
        start_unix_s=START,
        speech=SECOND,
        segments=1,
        confidence=None,
        text=text,
    )
    board.raised(alert, NOW)
    for rows in (4, 12, 30):
        drawn = picture(board, width, rows, NOW)
        assert max(drawn.widths) <= width
        assert all(line.isprintable() for line in drawn.text.split("\n"))
        raw = ansi(drawn)
        assert set(re.findall(r"\x1b.", raw)) <= {"\x1b["}
        assert not re.search(r"\x1b\[[0-9;]*[^0-9;m]", raw)


def test_markup_is_shown_as_it_is() -> None:
    board = board_of(started("[red]"), decided(0, 1, 5, "sad", "[bold]so[/bold] :smile:", "[red]"))
    text = picture(board, 79, 20, NOW).text
    assert "[red]" in text
    assert "[bold]so[/bold] :smile:" in text


def test_long_names_are_cut_and_leave_the_columns_where_they_are() -> None:
    name = "customers of the northern office who called twice on monday"
    board = board_of(started(name), *told(name))
    lines = picture(board, 79, 20, NOW).text.split("\n")
    assert "customers of" in lines[1]
    assert "…" in lines[1]
    assert lines[1].index("happy") == picture(call(), 79, 20, NOW).text.split("\n")[1].index("surp")


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
    board = board_of(started(AGENT), decided(0, 1, 5, "sad", text))
    shown = picture(board, 79, 20, NOW).text
    assert "word99”" in shown
    assert "word0 " not in shown
    assert "…" in shown


def test_a_line_with_other_things_has_the_last_words() -> None:
    board = desks(4)
    text = picture(board, 99, 12, NOW).text
    assert re.search(r"quiet 18s +… .*you have made my day”  +happy", text)
    board.see(decided(5, 70, 71, "sad", "漢字" * 50, "desk 01"), NOW)
    first = picture(board, 99, 12, NOW).text.split("\n")[1]
    assert "漢字漢字”" in first
    assert max(map(cell_len, picture(board, 99, 12, NOW).text.split("\n"))) <= 99


def test_scripts_without_spaces_are_folded_too() -> None:
    board = board_of(started(AGENT), decided(0, 1, 5, "sad", "漢字" * 50))
    drawn = picture(board, 39, 20, NOW)
    assert sum(line.count("漢") for line in drawn.text.split("\n")) > 10
    assert max(map(cell_len, drawn.text.split("\n"))) <= 39


# --- who is missing -------------------------------------------------------------------------------


def test_a_missing_voter_keeps_its_place_and_has_its_reason() -> None:
    board = board_of(*nodes("S1", "T2", "ST1"), started(AGENT))
    board.see(missing(decided(0, 1, 5, "sad", "no"), "T2", "no answer in 4 s"), NOW)
    text = picture(board, 79, 20, NOW).text
    assert re.search(r"^ +T2  ✗ no answer in 4 s$", text, re.M)
    assert "2 of 2" in text


def test_a_voter_that_is_awaited_is_not_called_missing() -> None:
    board = board_of(*nodes("S1", "T2", "ST1"), started(AGENT), so_far(0, 1, 3, "sad", "no", 1))
    text = picture(board, 79, 20, NOW).text
    assert re.search(r"^ +ST1 …$", text, re.M)
    assert "✗" not in text


def test_a_voter_that_waits_for_words_is_not_called_missing_either() -> None:
    waiting = missing(so_far(0, 1, 3, "sad", "", 0), "T2", "no transcript yet")
    board = board_of(*nodes("S1", "T2"), started(AGENT), waiting)
    text = picture(board, 79, 20, NOW).text
    assert re.search(r"^ +T2 … no transcript yet$", text, re.M)
    assert "✗" not in text


def test_the_words_before_can_be_read_until_there_are_new_ones() -> None:
    board = board_of(started(AGENT), decided(0, 1, 3, "sad", "the old words"))
    board.see(so_far(1, 4, 6, "happy", "", 0), NOW)
    assert "“the old words”" in picture(board, 79, 20, NOW).text
    assert "\x1b[38;2;128;128;128m“the" in ansi(picture(board, 79, 20, NOW)), "they are past"
    board.see(so_far(1, 4, 7, "happy", "new ones", 1, part=2), NOW)
    assert "“new ones …" in picture(board, 79, 20, NOW).text
    assert "old" not in picture(board, 79, 20, NOW).text


def test_unknown_without_votes_says_why() -> None:
    event = decided(
        0,
        1,
        5,
        UNKNOWN,
        confidence=None,
        agreement=0.0,
        votes=(),
        reason="0 votes of at least 1",
        transcript=None,
    )
    text = picture(board_of(started(AGENT), event), 79, 20, NOW).text
    assert "no label: 0 votes of at least 1" in text
    assert "unknown" in text


def test_no_words_says_why() -> None:
    import msgspec

    silent = msgspec.structs.replace(words(AGENT, 0, ""), reason="no words recognised")
    board = board_of(started(AGENT), decided(0, 1, 5, "sad", transcript=silent))
    assert "no words: no words recognised" in picture(board, 79, 20, NOW).text


def test_a_voter_without_probabilities_has_a_label_and_no_bar() -> None:
    import msgspec

    bare = msgspec.structs.replace(ballot(AGENT, 0, "T1", "sad", 0.5), probabilities=None)
    board = board_of(started(AGENT), decided(0, 1, 5, "sad", votes=(bare,), confidence=None))
    text = picture(board, 79, 20, NOW).text
    assert re.search(r"^ +T1 sad$", text, re.M)


# --- what goes wrong ------------------------------------------------------------------------------


def test_what_is_wrong_stands_first_below() -> None:
    board = call()
    board.see(NodeDown(node="S1-0", incarnation="1", service="S1", reason="was killed"), NOW)
    counts = picture(board, 119, 30, NOW).text.split("\n")[-2]
    assert counts.startswith("   S1-0 down: was killed · 3 nodes up · 1 gap: the backlog was full")
    assert "was killed" in picture(board, 30, 10, NOW).text.split("\n")[-2]


def test_a_stream_whose_front_is_silent_says_so() -> None:
    board = call()
    board.see(FrontDown(front="front-0", incarnation="1", reason="silent"), NOW)
    text = picture(board, 79, 20, NOW).text
    assert text.count("input is down") == 2


def test_the_latest_alert_is_shown_for_a_minute() -> None:
    board = call()
    alert = Alert(
        rule="fury",
        stream=AGENT,
        label="angry",
        sequence=1,
        first_sequence=1,
        start=12 * SECOND,
        end=20 * SECOND,
        start_unix_s=START,
        speech=8 * SECOND,
        segments=2,
        confidence=0.71,
        text="",
    )
    board.raised(alert, NOW)
    text = picture(board, 79, 20, NOW + 1).text
    assert text.split("\n")[-1] == (
        " ! alert fury: call/agent angry at 0:00:20.0 (2 segments, 8.0 s, 71%)"
    )
    assert "!○ call/agent" in text
    later = picture(board, 79, 20, NOW + 61).text
    assert "fury" not in later
    assert "surprise" in later.split("\n")[-1], "the legend is back"
    assert "!" not in later


def test_a_stream_that_broke_off_is_marked() -> None:
    board = call()
    end = StreamEnded(stream=AGENT, sequence=7, position=72 * SECOND, reason="was unplugged")
    board.see(end, NOW)
    board.see(StreamEnded(stream=CUSTOMER, sequence=7, position=72 * SECOND), NOW)
    lines = picture(board, 79, 20, NOW).text.split("\n")
    assert [line for line in lines if line.startswith(" ✗ call/agent     broke 0:01:12")]
    assert [line for line in lines if line.startswith(" ✓ call/customer  ended 0:01:12")]


# --- many streams ---------------------------------------------------------------------------------


def test_what_has_no_room_is_counted() -> None:
    text = picture(desks(64), 79, 20, NOW).text
    assert len(re.findall(r"desk \d\d", text)) == 16
    assert "+ 48 more" in text


def test_the_most_interesting_streams_come_first_when_not_all_fit() -> None:
    board = board_of(*(started(f"desk {k:02}") for k in range(64)))
    for i in range(5):
        for k in range(64):
            label = "angry" if k == 40 else "neutral"
            board.see(decided(i, 6 * i, 6 * i + 5, label, stream=f"desk {k:02}"), START + 30)
    board.see(
        Gap(stream="desk 50", sequence=9, start=31 * SECOND, end=32 * SECOND, reason="late"), NOW
    )
    board.see(StreamEnded(stream="desk 00", sequence=5, position=31 * SECOND), NOW)
    names = re.findall(r"desk \d\d", picture(board, 79, 12, NOW).text)
    assert names[:4] == ["desk 40", "desk 50", "desk 01", "desk 02"]
