"""The live view on a terminal: when it begins, what stays, what resizing and Ctrl-C leave."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator

import pytest
from fakes import SECOND
from live_scenes import (
    START,
    alerted,
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
from terminal import Program, Screen, console_on

from abhinaya.bench.demo import CALL
from abhinaya.models.labels import LABELS
from abhinaya.stream.commands import stream as cli
from abhinaya.stream.errors import ConfigError, SinkError
from abhinaya.stream.sinks.base import publish
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.sinks.live.view import MAX_INTERVAL_S, MIN_INTERVAL_S, View, silence_keyboard
from abhinaya.stream.sinks.open import open_sinks
from abhinaya.stream.sinks.palette import COLOURS
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import NodeDown, Remark, StreamEnded

NAME = "call/agent"


def viewed(
    width: int = 80, height: int = 24, *, live: bool = True, always: bool = False,
    no_color: bool = False,
) -> tuple[Screen, View]:  # fmt: skip
    """A terminal, and a view on it that has seen a call so far."""
    screen = Screen(width, height)
    console = console_on(screen, width, height)
    console.no_color = no_color
    view = View(console, always)
    for event in (*nodes("S1", "T2", "ST1"), status(), started(NAME, live), *told(NAME)):
        publish([view], event, START + 54)
    view.tick(START + 55)
    return screen, view


def in_view(screen: Screen) -> bool:
    return "now" in screen.text and "A angry" in screen.text


# --- when it begins -------------------------------------------------------------------------------


def test_a_live_stream_begins_it() -> None:
    screen, _ = viewed()
    assert in_view(screen)
    assert screen.colour_at(" angry  ") == (COLOURS["angry"][1:], True), "in reverse"
    assert "quiet" in screen.text
    assert "0:00:12.0" not in screen.text, "verdicts are no lines any more"


def test_a_file_gets_lines_unless_it_is_asked_for() -> None:
    screen, _ = viewed(live=False)
    assert not in_view(screen)
    assert "0:00:12.0  call/agent  angry" in screen.past + screen.text
    screen, _ = viewed(live=False, always=True)
    assert in_view(screen)


def test_loading_is_told_before_and_lines_of_a_file_stay_when_a_microphone_comes() -> None:
    screen = Screen()
    view = View(console_on(screen))
    view.loading({"hub": Stage.READY, "S1-0": Stage.STARTING})
    assert "loading: 1 of 2 ready · S1-0 starting" in screen.text
    for name in ("file", "mic"):
        view.write(started(name, live=name == "mic"), START + 6)
        view.write(decided(0, 1, 5, "angry", "no", name), START + 6)
    view.tick(START + 7)
    assert "0:00:01.0  file        angry" in screen.text
    assert "loading" not in screen.text
    assert in_view(screen)


# --- when it is drawn -----------------------------------------------------------------------------


def test_it_is_drawn_at_a_bounded_rate_and_what_came_last_although_nothing_follows() -> None:
    screen, view = viewed()
    before = screen.writes
    for i in range(500):
        now = START + 60 + i / 125
        publish([view], so_far(5, 54, 55 + i / 125, "sad", "a " * i, 0, NAME, part=i + 1), now)
        view.tick(now)
    drawn = screen.writes - before
    assert 20 <= drawn <= 4 / MIN_INTERVAL_S + 1
    screen, view = viewed()
    now = START + 55.01
    publish([view], so_far(5, 54, 55, "surprise", "what was that", 3, NAME), now)
    assert "what was that" not in screen.text
    view.tick(now + MIN_INTERVAL_S)
    assert "what was that" in screen.text
    publish([view], decided(5, 54, 58, "surprise", "never mind"), START - 3000)
    view.tick(START - 3000)
    assert "never mind" in screen.text, "the clock was set back"


def test_time_moves_on_although_nothing_happens_and_else_nothing_is_written() -> None:
    screen, view = viewed()
    publish([view], StreamEnded(stream=NAME, sequence=5, position=55 * SECOND), START + 55.5)
    view.tick(START + 56)
    written = len(screen.raw)
    for i in range(100):
        view.tick(START + 57 + i / 20)
    assert len(screen.raw) == written, "nothing has changed"
    screen, view = viewed()
    publish([view], speaks(NAME, 55), START + 56)
    view.tick(START + 57)
    assert "speaking 2s" in screen.text
    view.tick(START + 58 + MAX_INTERVAL_S)
    assert "speaking 3s" in screen.text


def drawn_at_once(view: View, now: float) -> str:
    """Give what a terminal shows on which the same picture is drawn as a whole."""
    screen = Screen()
    console_on(screen).print(picture(view._board, 79, 19, now))
    return screen.text


def test_a_picture_that_was_drawn_again_and_again_is_the_one_drawn_at_once() -> None:
    screen, view = viewed()
    for i in range(24):
        now = START + 60 + i
        part = so_far(5 + i // 8, 59, 60 + i, LABELS[i % 8], "漢字 a " * i, 0, NAME, part=i + 1)
        publish([view], part, now)
        if i % 8 == 7:
            publish([view], decided(5 + i // 8, 59 + i - 7, 60 + i, LABELS[i % 8]), now)
        if i == 20:
            view.trouble("S1-0: was killed; starting it again")
        view.tick(now + 0.5)
        top = next(n for n, line in enumerate(screen.lines) if line.endswith(" now"))
        assert "\n".join(screen.lines[top:]).rstrip() == drawn_at_once(view, now + 0.5)


# --- what stays -----------------------------------------------------------------------------------


def test_remarks_warnings_and_alerts_are_readable_above_and_stay() -> None:
    screen, view = viewed()
    publish([view], Remark(source="mic", text="the input clips"), START + 56)
    down = NodeDown(node="S1-0", incarnation="1", service="S1", reason="was killed")
    publish([view], down, START + 56)
    view.trouble("S1-0: was killed; starting it again")
    view.alert(alerted("fury", NAME, text="this is outrageous"), START + 56)
    view.tick(START + 57)
    above, _, below = screen.text.partition("now")
    for text in ("mic: the input clips", "starting it again", "“this is outrageous”"):
        assert text in above
    assert "S1-0 down: was killed" in below
    assert "! alert fury" in below
    view.close()
    for text in ("mic: the input clips", "S1-0 is down: was killed", "“this is outrageous”"):
        assert text in screen.past + screen.text


def test_at_the_end_the_summary_stays_and_nothing_else_of_the_view() -> None:
    screen, view = viewed()
    publish([view], gap(5, 60, 62, NAME, "late"), START + 62)
    assert screen.cursor_hidden
    view.close()
    view.close()
    assert not screen.cursor_hidden
    assert not in_view(screen)
    assert "A angry" not in screen.text + screen.past
    assert "share of speech" in screen.text
    assert "1 lost, late" in screen.text
    assert b"\x1b[?1049h" not in screen.raw, "the screen is not taken away"


# --- other sizes ----------------------------------------------------------------------------------


def test_another_size_gives_another_picture_and_no_remains() -> None:
    screen, view = viewed()
    console = view._lines.screen._console
    for i, (width, height) in enumerate([(120, 30), (60, 30), (20, 12), (80, 24), (80, 10)]):
        screen.resize(width, height)
        console.size = (width, height)  # type: ignore[assignment]
        view.tick(START + 60 + i)
        assert screen.text.count("now") == 1, (width, height)
        assert screen.text.count("A ") == 1, (width, height)
    view.close()
    assert not screen.cursor_hidden
    assert "A  C" not in screen.text


def test_twenty_columns_without_colour() -> None:
    screen, _ = viewed(20, 12, no_color=True)
    assert re.search(r"○ call/\S* +H +62%", screen.text)
    assert max(map(len, screen.lines)) <= 20
    assert not re.search(rb"\x1b\[[0-9;]*(?:3[0-9]|9[0-7])[;m]", screen.raw)


def test_what_a_terminal_makes_of_old_lines_is_cleared_away() -> None:
    """One that becomes narrower folds them, one that becomes taller brings them back."""
    screen, view = viewed()
    console = view._lines.screen._console
    screen.feed(b"\x1b[Hfolded and brought back\x1b[12Hlike this\x1b[24H")
    console.size = (50, 24)  # type: ignore[assignment]
    screen.resize(50, 24)
    view.tick(START + 60)
    assert "folded" not in screen.text
    assert "like this" not in screen.text
    assert f"{NAME}: listening to mic (live)" in screen.text, "what should stay is there again"
    assert screen.text.count("now") == 1


# --- where there is no such terminal --------------------------------------------------------------

OPEN = """
import sys
from abhinaya.stream.sinks.open import open_sinks
sinks = open_sinks(sys.argv[1], view=sys.argv[2])
sinks.observer.trouble("shown as \\u6f22 by " + type(sinks.observer).__name__)
sinks.close()
"""


@pytest.mark.parametrize(
    ("environment", "view", "shown"),
    [
        ({}, "auto", "shown as 漢 by View"),
        ({}, "plain", "shown as 漢 by Lines"),
        ({"TERM": "dumb"}, "auto", "shown as 漢 by Lines"),
        ({"PYTHONIOENCODING": "ascii"}, "auto", "shown as ? by Lines"),
        ({"TERM": "dumb"}, "live", "--live: needs a terminal"),
    ],
)
def test_a_terminal_that_cannot_show_it_gets_lines(
    environment: dict[str, str], view: str, shown: str
) -> None:
    program = Program((sys.executable, "-c", OPEN, "lines", view), environment)
    try:
        program.read_until(lambda s: shown in s.text)
        if "dumb" in environment.values() and view == "auto":
            assert b"\x1b" not in program.screen.raw
    finally:
        program.close()


def test_without_a_terminal_there_are_lines_and_asking_for_it_is_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sinks = open_sinks("lines")
    assert isinstance(sinks.observer, Lines)
    sinks.close()
    with pytest.raises(ConfigError, match="no JSON"):
        open_sinks("jsonl", view="live")
    assert cli.main([str(CALL), "--live"]) == 2
    assert "--live: needs a terminal" in capfd.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main([str(CALL), "--live", "--plain"])
    assert "not allowed with" in capfd.readouterr().err


def test_without_a_keyboard_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    silence_keyboard()()
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        silence_keyboard()()


def test_a_terminal_that_is_gone_is_an_error() -> None:
    class Gone(type(console_on(Screen()).file)):  # type: ignore[misc]
        gone = False

        def write(self, text: str, /) -> int:
            if self.gone:
                raise OSError(5, "Input/output error")
            return super().write(text)

    console = console_on(Screen())
    console.file = wire = Gone(Screen())
    view = View(console)
    view.write(started(NAME), START)
    wire.gone = True
    with pytest.raises(SinkError, match="standard output"):
        view.tick(START + 1)
    view.close()


# --- real runs ------------------------------------------------------------------------------------

LISTEN = (
    *(sys.executable, "-m", "abhinaya.stream", str(CALL)),
    *("--channels", "split", "--channel-names", "agent,customer"),
)


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    arguments, environment, width, height = request.param
    running = Program((*LISTEN, *arguments), environment, width, height)
    yield running
    running.close()


def labelled(screen: Screen) -> bool:
    """Whether both parties have a label in the view, beside its bar."""
    return len(re.findall(r"[○●] call/(?:agent|customer) .*[━╸─]+ +\d+%", screen.text)) == 2


@pytest.mark.processes
@pytest.mark.parametrize("program", [(("--realtime",), {}, 80, 24)], indirect=True)
def test_a_paced_call_is_seen_live_and_ctrl_c_leaves_the_summary(program: Program) -> None:
    program.read_until(lambda s: labelled(s) and in_view(s))
    assert program.screen.cursor_hidden
    program.read_until(lambda s: re.search(r"● call/\w+ +speaking \d+s", s.text) is not None)
    assert "call/agent: listening to" in program.screen.past + program.screen.text
    program.type(b"is it on?\n\n\n")
    program.resize(100, 30)
    program.read_until(lambda s: labelled(s) and max(map(len, s.lines)) > 90)
    assert "is it on?" not in program.screen.text
    assert not program.modes_are_kept, "what is typed would spoil the picture"
    program.type(b"\x03")
    assert program.finish() == 130
    assert "share of speech" in program.screen.text
    assert "A angry" not in program.screen.text
    assert program.screen.text.count(" now") == 0, "nothing of the picture is left"
    assert not program.screen.cursor_hidden
    assert program.modes_are_kept


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("program", [(("--realtime",), {}, 80, 24)], indirect=True)
def test_ctrl_c_twice_leaves_the_terminal_sane(program: Program) -> None:
    program.read_until(in_view)
    os.killpg(program.process.pid, signal.SIGINT)
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.finish() == 130
    assert not program.screen.cursor_hidden
    assert "A angry" not in program.screen.text
    assert "Traceback" not in program.screen.past + program.screen.text
    assert program.modes_are_kept
