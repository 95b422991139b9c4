"""`abhinaya convert`, also of what a killed run has left."""

from __future__ import annotations

import json

import pytest
from output_fakes import SPOKEN
from output_readers import READERS, written

from abhinaya.stream.commands.main import main
from abhinaya.stream.commands.report import write_report
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sinks.export.formats import SUFFIXES, export
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


VERDICT = {
    "schema": "abhinaya.event/1", "type": "verdict", "stream": "a", "segment": 0, "start_s": 0,
    "end_s": 1.5, "label": "sad", "wall_time": "2026-01-01T00:00:00.000Z", "agreement": 1.0,
}  # fmt: skip


def changed(**changes):
    return json.dumps(VERDICT | changes)


ENDED = {"schema": "abhinaya.event/1", "type": "stream_ended", "stream": "a"}
REFUSED = {
    changed(start_s=2): r"starts at 2\.0 s and ends at 1\.5 s",
    changed(end_s=1e300): "ends at 1e",
    changed(start_s=-1): "starts at -1",
    changed(segment=-1): "segment has the number -1",
    changed(segment=10**30): "segment has the number 1000",
    changed(revision=2**40): "revision has the number",
    changed(wall_time="yesterday"): "yesterday",
    changed(schema="abhinaya.event/2"): "not an event of the schema",
    changed(schema=1): "not an event of the schema",
    changed(final=None): "Expected `bool`",
    changed().replace("1.5", "NaN"): "is not a JSON object",
    changed().replace("1.5", "1e999"): "is not a JSON object",
    changed(deep=1).replace("1}", "[" * 100_000 + "]" * 100_000 + "}"): "is not a JSON object",
    changed(reason="\ud800"): "is not a JSON object",
    json.dumps(ENDED | {"duration_s": 1e300}): "duration is 1e",
    json.dumps(ENDED | {"duration_s": -1}): "duration is -1",
}


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".html"])
def test_events_that_cannot_be_are_refused_by_line(tmp_path, suffix):
    path, target = tmp_path / "e.jsonl", tmp_path / f"y{suffix}"
    for line, words in REFUSED.items():
        path.write_text(f"{changed(stream='b')}\n{line}\n")
        with pytest.raises(SourceError, match=f"(line|event) 2.*{words}"):
            write_report(path, target) if suffix == ".html" else export(path, target)
        assert not target.exists()


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".html"])
def test_odd_but_possible_events_are_written(tmp_path, suffix):
    path = tmp_path / "e.jsonl"
    odd = (
        changed(label="bliss", end_s=100.0),  # a label of another version
        changed(segment=1, confidence=1e308, agreement=-1e308, latency_ms={"total": 1e308}),
        changed(segment=2, wall_time="0001-01-01T00:00:00+23:59", stream=""),
        changed(segment=3, transcript={"text": "x" * 1_000_000}),
        changed(segment=4)[:-20],  # cut off
    )
    path.write_text("\n".join(odd))
    write_report(path, tmp_path / "y.html") if suffix == ".html" else export(
        path, tmp_path / f"y{suffix}"
    )
    assert (tmp_path / f"y{suffix}").stat().st_size > 200
