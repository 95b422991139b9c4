"""`abhinaya convert`, also of what a killed run has left."""

from __future__ import annotations

import json

import pytest
from output_fakes import SPOKEN
from output_readers import READERS, written

from abhinaya.stream.commands.main import main
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sinks.export.formats import SUFFIXES
from abhinaya.stream.sinks.reader import read, rows


@pytest.fixture
def events(tmp_path):
    return written(tmp_path / "events.jsonl")


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".jsonl"])
def test_a_converted_file_is_the_one_that_the_run_would_have_written(tmp_path, events, suffix):
    assert main(["convert", str(events), str(tmp_path / f"later{suffix}")]) == 0
    direct = written(tmp_path / f"direct{suffix}")
    assert (tmp_path / f"later{suffix}").read_bytes() == direct.read_bytes()


def test_json_lines_become_the_same_json_lines(tmp_path, events):
    assert main(["convert", str(events), str(tmp_path / "copy.jsonl")]) == 0
    assert list(read(tmp_path / "copy.jsonl")) == list(read(events))


def test_events_of_a_version_before_are_read(tmp_path, events):
    lines = []
    for line in events.read_bytes().splitlines():
        event = json.loads(line)
        for vote in event.get("votes", ()):
            vote["model"] = "compact-speech"
        if transcript := event.get("transcript"):
            del transcript["translation"], transcript["language_probability"]
            transcript["model"] = "pocketsphinx"
        lines.append(json.dumps(event))
    events.write_text("\n".join(lines) + "\n", "utf-8")
    assert main(["convert", str(events), str(tmp_path / "x.srt")]) == 0
    assert READERS[".srt"](tmp_path / "x.srt") == SPOKEN
    assert main(["report", str(events), "-o", str(tmp_path / "x.html")]) == 0
    assert "<html" in (tmp_path / "x.html").read_text("utf-8")


def test_a_line_that_was_cut_off_is_left_out(tmp_path, events):
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join(lines[:4]) + lines[4][:50])
    assert main(["convert", str(events), str(tmp_path / "x.srt")]) == 0
    assert len(READERS[".srt"](tmp_path / "x.srt")) == 2


@pytest.mark.parametrize(
    ("source", "target", "code", "words"),
    [
        ("x.csv", "y.jsonl", 2, "x.csv: a .csv file does not have all fields of an event"),
        ("x.parquet", "y.jsonl", 2, "x.parquet: a .parquet file does not have"),
        ("events.jsonl", "y.vt", 2, "no format is called .vt; did you mean '.vtt'?"),
        ("events.jsonl", "events.jsonl", 2, "is the source itself"),
        ("no.jsonl", "y.vtt", 3, "no.jsonl: no such file"),
        ("folder", "y.vtt", 3, "is a folder"),
        ("audio.jsonl", "y.vtt", 3, "audio.jsonl, line 1: is not a JSON"),
        ("other.jsonl", "y.vtt", 3, "is not an event"),
        ("future.jsonl", "y.vtt", 3, "not an event of the schema abhinaya.event/1"),
        ("broken.jsonl", "y.vtt", 3, "missing required field"),
        ("events.jsonl", "nowhere/y.vtt", 4, "missing folder"),
        ("events.jsonl", "nowhere/y.parquet", 4, "missing folder"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_a_line(
    tmp_path, events, monkeypatch, capsys, source, target, code, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "audio.jsonl").write_bytes(b"RIFF\x00\xff\nWAVE\n")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "future.jsonl").write_text('{"schema": "abhinaya.event/9", "type": "gap"}\n')
    (tmp_path / "broken.jsonl").write_text('{"schema": "abhinaya.event/1", "type": "gap"}\n')
    (tmp_path / "y.vtt").write_text("from yesterday")
    assert main(["convert", source, target]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert (tmp_path / "y.vtt").read_text() == "from yesterday"


def test_an_event_of_a_later_version_is_passed_over_and_new_fields_are_ignored(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text(
        '{"schema": "abhinaya.event/1", "type": "alert", "stream": "a"}\n'
        '{"schema": "abhinaya.event/1", "type": "gap", "stream": "a", "segment": 0,'
        ' "start_s": 0, "end_s": 1.5, "reason": "full", "new": [1]}\n'
    )
    (row,) = rows(path)
    assert (row.stream, row.end_s, row.reason) == ("a", 1.5, "full")


def test_times_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text(
        '{"schema": "abhinaya.event/1", "type": "gap", "stream": "a", "segment": 0,'
        ' "start_s": 2, "end_s": 1.5, "reason": ""}\n'
    )
    with pytest.raises(SourceError, match=r"starts at 2\.0 s and ends at 1\.5 s"):
        list(rows(path))
