"""What people and programs get to see of a run, with planted events."""

from __future__ import annotations

import io
import json
import os
import random
import re
from types import SimpleNamespace

import output_fakes
import pytest
from fakes import info, vote
from live_scenes import nodes, status
from output_fakes import NOW, SECOND, gap, said
from rich.cells import cell_len
from rich.console import Console

from abhinaya.models.labels import LABELS
from abhinaya.models.vote.ensemble import NOT_ASKED
from abhinaya.stream.errors import SinkError
from abhinaya.stream.sinks.base import publish
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.sinks.open import open_sinks
from abhinaya.stream.sinks.summary import Histogram, Summary
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import (
    Activity,
    FrontDown,
    Missing,
    NodeDown,
    Remark,
    StreamEnded,
    StreamStarted,
)

WORDS = "the words that were said"


def verdict(sequence=0, label="happy", seconds=2, stream="call", **changes):
    """A segment every 10 s, decided 750 ms after its end by two voters."""
    start_s = 10 * sequence
    votes = (vote(sequence, "S1", "happy"), vote(sequence, "T2", "happy"))
    fields = {"votes": votes, "missing": (), "text": WORDS} | changes
    return output_fakes.verdict(sequence, start_s, start_s + seconds, label, stream, **fields)


def lost(sequence=1, reason="the backlog was full"):
    return gap(sequence, 10 * sequence, 10 * sequence + 4, "call", reason)


(NODE,) = [event for event in nodes("S1") if event.service == "S1"]
STATUS = status(7, 3, refused={"too large": 2})

EVENTS = (
    NODE,
    StreamStarted(info=info("call")),
    verdict(0),
    lost(1),
    verdict(2, "sad"),
    NodeDown(node="S1-0", incarnation="1", service="S1", reason="killed"),
    FrontDown(front="front-0", incarnation="1", reason="silent"),
    Remark(source="mic", text="the input clips"),
    StreamEnded(stream="call", sequence=3, position=40 * SECOND),
)


def shown(events=EVENTS, *, terminal=True, width=80):
    """Give what appears on a console, and the console's raw output."""
    file = io.StringIO()
    look = {"width": width, "height": 25, "color_system": "truecolor"}
    lines = Lines(Console(file=file, force_terminal=terminal, **look))
    for event in events:
        lines.write(event, NOW)
    lines.close()
    raw = file.getvalue()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw), raw


# --- summary --------------------------------------------------------------------------------------


def summed(events):
    summary = Summary()
    for event in events:
        summary.add(event, NOW)
    return summary


def test_the_summary_adds_up_what_was_planted():
    events = [
        StreamStarted(info=info("call")),
        verdict(0, "happy", seconds=2),
        verdict(1, "sad", seconds=3),
        lost(2, "full"),
        lost(3, "full"),
        verdict(4, "happy", seconds=1, missing=(Missing(voter="T1", reason="late"),)),
        verdict(5, "unknown", seconds=1, reason="0 votes of at least 1"),
        verdict(6, "sad", seconds=1, missing=(Missing(voter="T1", reason=NOT_ASKED),)),
        StreamEnded(stream="call", sequence=7, position=99 * SECOND),
    ]
    assert summed(events).as_dict()["call"] == {
        "duration_s": 99.0,
        "ended": True,
        "reason": "",
        "speech_s": 8.0,
        "segments": 5,
        "emotions_s": {"happy": 3.0, "sad": 4.0, "unknown": 1.0},
        "revisions": 0,
        "incomplete": 1,
        "gaps": 2,
        "gaps_s": 8.0,
        "gap_reasons": {"full": 2},
        "latency_p50_ms": pytest.approx(750, rel=0.03),
        "latency_p95_ms": pytest.approx(750, rel=0.03),
    }


def test_a_revision_moves_the_seconds_and_counts_once():
    late = verdict(0, "angry", revision=1)
    summary = summed([verdict(0, "happy"), verdict(1, "sad"), late]).as_dict()["call"]
    assert summary["emotions_s"] == {"angry": 2.0, "sad": 2.0}
    assert (summary["segments"], summary["revisions"], summary["speech_s"]) == (2, 1, 4.0)


def test_what_may_still_change_goes_to_those_that_have_a_place_for_it():
    first, last = verdict(0, part=1), verdict(0)
    speaks = Activity(stream="call", position=0, speaking=True)
    final, passing = [], []
    some = SimpleNamespace(write=lambda event, now: final.append(event))
    every = SimpleNamespace(**vars(some), provisional=lambda event, now: passing.append(event))
    for event in (speaks, first, lost(1), last):
        publish([some, every], event, NOW)
    assert final == [lost(1), lost(1), last, last]
    assert passing == [speaks, first]


def test_a_stream_without_speech_is_there_and_says_so():
    events = [
        StreamStarted(info=info("quiet")),
        StreamEnded(stream="quiet", sequence=0, position=SECOND, sound="it is silent"),
    ]
    assert summed(events).streams["quiet"].silent
    for terminal in (True, False):
        assert "no speech was found: it is silent" in shown(events, terminal=terminal)[0]
        assert "not heard to its end" in shown(events[:1], terminal=terminal)[0]
    end = StreamEnded(stream="call", sequence=1, position=9 * SECOND, sound="it is faint")
    faint = [StreamStarted(info=info("call")), verdict(0), end]
    assert "call: speech may be missed: it is faint" in "".join(shown(faint, terminal=False))


def test_quantiles_are_right_to_a_few_percent():
    dice = random.Random(2)
    values = [dice.lognormvariate(6, 1) for _ in range(5000)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for share in (0.5, 0.95):
        exact = sorted(values)[int(share * len(values)) - 1]
        assert histogram.quantile(share) == pytest.approx(exact, rel=0.04)


def test_memory_stays_bounded_over_many_segments_and_reasons():
    summary = Summary()
    for i in range(5000):
        summary.add(verdict(i), NOW + i)
        summary.add(lost(i, reason=f"reason {i}"), NOW)
    stream = summary.streams["call"]
    assert len(stream._recent) <= 256
    assert len(stream.gap_reasons) <= 17
    assert len(stream.latency._counts) < 500
    assert sum(stream.gap_reasons.values()) == 5000


# --- lines on a terminal --------------------------------------------------------------------------


LATE = (Missing(voter="T1", reason="no answer in 4 s"),)
SILENT = said("", reason="no words recognised")
NONE = {"confidence": None, "reason": "1 vote of at least 2", "transcript": SILENT}


@pytest.mark.parametrize(
    ("event", "parts"),
    [
        (verdict(1), ("0:00:10.0", "call", "happy", "━", "65%", "0.8 s", "S1\u00a0happy\u00a065%")),
        (verdict(1, missing=LATE), ("T1\u00a0missing: no answer in 4 s", f"“{WORDS}”")),
        (verdict(revision=1), ("revised",)),
        (verdict(revision=2), ("revision 2",)),
        (verdict(part=1), ("so far",)),
        (verdict(0, "unknown", **NONE), ("no label: 1 vote of at", "no words: no words")),
        (lost(), ("gap", "4.0 s not heard: the backlog was full")),
    ],
)
def test_a_line_says_everything_about_a_segment(event, parts):
    text, _ = shown([event])
    assert [part for part in parts if part not in text] == []
    assert "revised" not in shown([verdict()])[0]


def test_colour_never_stands_alone():
    for label in (*LABELS, "unknown"):
        text, raw = shown([verdict(label=label)])
        assert label in text
        assert "\x1b[1;38;2;" in raw
        bare = re.findall(r"\x1b\[[0-9;]*\b(?:33|93|97|37)m", raw)
        assert not bare, "yellow and white cannot be read on a light background"


@pytest.mark.parametrize("width", [80, 60, 40])
def test_nothing_is_wider_than_the_terminal_and_no_word_is_lost(width):
    words = [f"word{i}" for i in range(40)]
    missing = (Missing(voter="T1", reason="the " + "long " * 20 + "reason"),)
    name = "a stream with quite a long name"
    long = verdict(stream=name, transcript=said(" ".join(words)), missing=missing)
    wide = verdict(stream="電話の会話ですよね", transcript=said("漢字" * 60))
    late = lost(reason="because " * 20 + "it was late")
    text, _ = shown([long, late, wide, verdict(3, "sad")], width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert all(word in text for word in words)
    assert "it was late" in " ".join(text.split())


def test_what_is_said_cannot_control_the_terminal():
    evil = verdict(stream="a\x1b]0;x\x07", transcript=said("[red]bold[/red] \x1b[2J gone\r\n"))
    _, raw = shown([evil])
    assert "\x1b[2J" not in raw
    assert "\x1b]0" not in raw
    assert "[red]bold[/red]" in raw


def test_the_status_line_is_below_and_leaves_no_trace():
    text, raw = shown([STATUS, verdict(), status(8)])
    assert "1 node · 0 at work · 7 waiting · 3 open · 0 gaps · 2 messages refused" in text
    assert raw.count("\x1b[2K") >= 2, "each change erases the line"
    assert "waiting" not in raw.rsplit("\x1b[2K", 1)[1], "nothing of it is left at the end"
    assert "\x1b[?25h" in raw, "the cursor is back"


def test_loading_names_what_is_not_ready():
    file = io.StringIO()
    lines = Lines(Console(file=file, force_terminal=True, width=80))
    lines.loading({"hub": Stage.READY, "S1-0": Stage.STARTING, "asr-0": Stage.WAITING})
    lines.write(STATUS, NOW)
    assert "waiting" not in file.getvalue(), "the two do not take turns"
    lines.write(StreamStarted(info=info("call")), NOW)
    lines.write(STATUS, NOW)
    assert "7 waiting" in file.getvalue()
    lines.close()
    assert "loading: 1 of 3 ready · S1-0 starting, asr-0 starting again" in file.getvalue()


def test_processes_come_and_go_in_words():
    text, _ = shown([*EVENTS, NODE])
    assert "S1: planted 1 (Apache-2.0)" in text
    assert text.count("Apache-2.0") == 1, "a licence is shown once"
    assert "S1-0 is down: killed" in text
    assert "S1-0 is ready" in text
    assert "mic: the input clips" in text
    assert "call: ended at 0:00:40.0" in text


# --- lines elsewhere ------------------------------------------------------------------------------


def test_without_a_terminal_lines_are_plain_and_columns_stable():
    text, raw = shown([STATUS, *EVENTS], terminal=False, width=80)
    assert "\x1b" not in raw
    assert "waiting" not in text
    rows = [line for line in text.splitlines() if line.startswith("0:")]
    assert len(rows) == 3, "one line each, however wide"
    assert {row.index("call") for row in rows} == {22}
    columns = re.split(r" {2,}", rows[0])
    assert columns[:6] == ["0:00:00.0", "0:00:02.0", "call", "happy", "0.650", "1.00"]
    assert columns[6:] == ["750ms", "r0", "S1=happy:0.65 T2=happy:0.65", f"“{WORDS}”"]


def test_a_full_disk_behind_standard_output_is_an_error():
    with open("/dev/full", "w") as file:
        lines = Lines(Console(file=file, width=80))
        with pytest.raises(SinkError, match="standard output"):
            lines.write(verdict(), NOW)
        lines.close()
        with pytest.raises(OSError, match="space"):
            file.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


# --- opening --------------------------------------------------------------------------------------


def test_json_on_standard_output_keeps_trouble_apart(capfd):
    sinks = open_sinks("jsonl", [])
    sinks.all[0].write(verdict(), NOW)
    sinks.observer.trouble("S1-0: killed; starting it again")
    sinks.close()
    out, err = capfd.readouterr()
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["verdict", "summary"]
    assert "S1-0: killed" in err


def test_one_file_for_two_is_refused_and_one_that_fails_to_close_does_not_stop_others(tmp_path):
    with pytest.raises(SinkError, match="named twice"):
        open_sinks("lines", [tmp_path / "a.vtt", tmp_path / "." / "a.vtt"])
    sinks = open_sinks("lines", [tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(SinkError, match=r"a\.jsonl"):
        sinks.close()
    assert "summary" in (tmp_path / "b.jsonl").read_text()
