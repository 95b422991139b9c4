"""Files in every format, opened by the readers that people use."""

from __future__ import annotations

import csv
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import srt
import webvtt
from output_fakes import AGENT, CALL, CUSTOMER, FLAT, NASTY, NOW, SPOKEN, gap, verdict
from output_readers import READERS, read_srt, read_textgrid, read_vtt, written
from places import ROOT
from praatio import textgrid

from abhinaya.models.labels import LABELS
from abhinaya.stream.errors import ConfigError, SinkError
from abhinaya.stream.sinks import formats, open_sinks, ordered, whole
from abhinaya.stream.sinks.formats import SUFFIXES, format_of, open_output
from abhinaya.stream.sinks.reader import latest, read, rows
from abhinaya.stream.sinks.whole import journal_of
from abhinaya.stream.wire.messages import Activity

TESTS = ROOT / "tests"


@pytest.mark.parametrize("suffix", READERS)
def test_readers_find_every_segment_once_in_its_last_revision(tmp_path, suffix):
    assert READERS[suffix](written(tmp_path / f"x{suffix}")) == SPOKEN


@pytest.mark.parametrize("suffix", READERS)
def test_a_run_without_speech_gives_a_file_that_opens(tmp_path, suffix):
    path = written(tmp_path / f"x{suffix}", (CALL[0], CALL[-2]))
    assert READERS[suffix](path) == []
    assert READERS[suffix](written(tmp_path / f"none{suffix}", ())) == []


@pytest.mark.parametrize("suffix", READERS)
def test_what_is_provisional_leaves_no_trace(tmp_path, suffix):
    final = (verdict(0, 1.0, 6.0, "happy"), gap(1, 7.0, 9.0))
    events = (
        Activity(stream=AGENT, position=16_000, speaking=True),
        verdict(0, 1.0, 2.5, "sad", part=1),
        final[0],
        verdict(1, 7.0, 8.5, "sad", part=2),
        final[1],
    )
    path = written(tmp_path / f"x{suffix}", events)
    assert path.read_bytes() == written(tmp_path / f"y{suffix}", final).read_bytes()


def test_json_lines_have_provisional_verdicts_and_readers_pass_over_them(tmp_path):
    events = (
        Activity(stream=AGENT, position=16_000, speaking=True),
        verdict(0, 1.0, 2.5, "sad", part=1),
        verdict(0, 1.0, 6.0, "happy"),
    )
    path = written(tmp_path / "x.jsonl", events)
    *told, summary = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(e["type"], e["final"], e["part"]) for e in told] == [
        ("verdict", False, 1),
        ("verdict", True, 0),
    ]
    assert summary["streams"][AGENT]["segments"] == 1
    assert summary["streams"][AGENT]["emotions_s"] == {"happy": 5.0}
    assert [e["type"] for e in read(path)] == ["verdict", "summary"]
    assert [row.label for row in rows(path)] == ["happy"]


def test_there_is_a_reader_for_every_format():
    assert {*READERS, ".jsonl"} == set(SUFFIXES)


# --- what stands in them --------------------------------------------------------------------------


def test_words_survive_each_format(tmp_path):
    vtt = webvtt.read(written(tmp_path / "x.vtt"))[2].raw_text
    escaped = FLAT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert vtt == f"<v {AGENT}><c.surprise>[surprise]</c> {escaped}"
    cues = list(srt.parse(written(tmp_path / "x.srt").read_text("utf-8")))
    assert cues[2].content == f"{AGENT}: [surprise] {FLAT.replace('-->', '→')}"
    labels = written(tmp_path / "x.txt").read_text("utf-8").split("\n")
    assert labels[2] == f"2.000000\t12.000000\t{AGENT}: [surprise] {FLAT}"
    with written(tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file))[1]["transcript"] == NASTY
    assert pq.read_table(written(tmp_path / "x.parquet"))["transcript"].to_pylist().count(NASTY)
    grid = textgrid.openTextgrid(str(written(tmp_path / "x.TextGrid")), includeEmptyIntervals=False)
    assert [e.label for e in grid.getTier(f"{AGENT}: transcript").entries][1] == FLAT


def test_csv_keeps_every_revision_and_marks_it(tmp_path):
    with written(tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["segment"] == "1"]
    assert [(row["label"], row["revision"]) for row in rows] == [
        ("neutral", "0"),
        ("surprise", "1"),
    ]
    assert rows[0]["votes"] == "S1=neutral:0.65 T2=neutral:0.65"
    assert rows[1]["votes"] == "S1=surprise:0.65 T2=neutral:0.65"
    assert rows[1]["missing"] == "ST1: no answer within 4 s"
    assert float(rows[1]["p_surprise"]) == pytest.approx((0.65 + 0.05) / 2)
    assert float(rows[1]["latency_ms"]) == 750


def test_parquet_nests_the_votes(tmp_path):
    table = pq.read_table(written(tmp_path / "x.parquet"))
    row = next(r for r in table.to_pylist() if r["label"] == "surprise")
    assert [(v["voter"], v["label"]) for v in row["votes"]] == [
        ("S1", "surprise"),
        ("T2", "neutral"),
    ]
    assert list(row["votes"][0]["probabilities"]) == list(LABELS)
    assert row["votes"][0]["probabilities"]["surprise"] == 0.65
    assert row["missing"] == [{"voter": "ST1", "reason": "no answer within 4 s"}]
    assert row["wall_time"].timestamp() == 1_000_002.0
    assert row["revision"] == 1


def test_textgrid_has_a_tier_for_each_voter_that_reaches_to_the_end(tmp_path):
    grid = textgrid.openTextgrid(str(written(tmp_path / "x.TextGrid")), includeEmptyIntervals=True)
    names = [
        f"{s}: {t}" for s in (AGENT, CUSTOMER) for t in ("label", "transcript", "S1", "T2", "ST1")
    ]
    assert list(grid.tierNames) == names
    for name in names:
        entries = grid.getTier(name).entries
        assert entries[0].start == 0
        assert entries[-1].end == grid.maxTimestamp == 4000
        assert all(a.end == b.start for a, b in itertools.pairwise(entries))
    assert {e.label for e in grid.getTier(f"{CUSTOMER}: ST1").entries} == {"", "(missing)"}


def test_a_cue_of_no_length_still_ends_after_its_start(tmp_path):
    path = written(tmp_path / "x.vtt", (verdict(0, 1.0, 1.0),))
    assert read_vtt(path) == [(AGENT, 1.0, 1.001, "happy")]


# --- choosing -------------------------------------------------------------------------------------


def test_capitals_do_not_matter():
    assert format_of(Path("x.TEXTGRID")) == ".TextGrid"
    assert format_of(Path("x.Vtt")) == ".vtt"


def test_an_unknown_suffix_is_refused_with_the_near_miss(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no format is called \.parqet; did you mean \.parquet\?"
    ):
        open_output(tmp_path / "x.parqet")
    with pytest.raises(ConfigError, match=r"no suffix; .*\.jsonl, \.csv"):
        open_output(tmp_path / "x")


def test_a_misspelt_suffix_leaves_the_other_files_alone(tmp_path):
    (tmp_path / "a.csv").write_text("from yesterday")
    with pytest.raises(ConfigError):
        open_sinks("lines", [tmp_path / "a.csv", tmp_path / "b.cvs"])
    assert (tmp_path / "a.csv").read_text() == "from yesterday"


def test_without_pyarrow_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SinkError, match=r"pyarrow is not installed.*abhinaya\[formats\]"):
        open_output(tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


def test_only_parquet_loads_pyarrow_and_nothing_loads_torch():
    code = (
        "import sys, abhinaya.stream.sinks.formats, abhinaya.stream.commands.convert\n"
        "print({'pyarrow', 'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- faults of the disk ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_or_a_missing_folder_is_refused_at_once(tmp_path, suffix):
    (tmp_path / f"d{suffix}").mkdir()
    with pytest.raises(SinkError, match="is a folder"):
        open_output(tmp_path / f"d{suffix}")
    with pytest.raises(SinkError, match="there is no folder"):
        open_output(tmp_path / "nowhere" / f"x{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_vanishes_is_an_error_with_the_name(tmp_path, suffix):
    folder = tmp_path / "out"
    folder.mkdir()
    sink = open_output(folder / f"x{suffix}")
    sink.write(CALL[2], NOW)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with pytest.raises(SinkError, match=rf"x{suffix}.*cannot be written"):
        sink.write(CALL[3], NOW)
    sink.close()
    sink.write(CALL[3], NOW)  # what is closed takes no more, and says nothing


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s not in (".jsonl",)])
def test_a_full_disk_keeps_what_was_written(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"x{suffix}"
    sink = open_output(path)
    monkeypatch.setattr(whole, "EVERY_S", 0.0)
    for event in CALL[:4]:
        sink.write(event, NOW)
    before = path.read_bytes()
    found = READERS[suffix](path)
    write = os.write

    def half_then_full(descriptor, data):
        if len(data) > 20:
            return write(descriptor, data[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(SinkError, match=r"No space left.*make room"):
        sink.write(verdict(9, 30.0, 31.0), NOW)
    assert path.read_bytes() == before
    assert READERS[suffix](path) == found
    assert not list(tmp_path.glob(".*.new"))


def test_a_disk_that_is_full_when_a_file_is_replaced_keeps_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "x.vtt"
    sink = open_output(path)
    sink.write(CALL[2], NOW)
    sink.write(CALL[3], NOW)
    before = path.read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SinkError, match=r"x\.vtt.*No space left"):
        sink.write(CALL[7], NOW)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.vtt"]


# --- at any moment --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [s for s in READERS if s not in formats.WHOLE])
def test_a_log_is_readable_after_every_event(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    sink = open_output(path)
    told = {}
    for event in CALL:
        sink.write(event, NOW)
        if hasattr(event, "start"):
            told[(event.stream, event.sequence)] = getattr(event, "label", "gap")
        assert sorted(row[3] for row in READERS[suffix](path)) == sorted(told.values())
    sink.close()


def test_a_whole_file_is_written_at_intervals_and_the_journal_goes_at_the_end(tmp_path):
    path = tmp_path / "x.TextGrid"
    sink = open_output(path)
    sink.write(CALL[0], NOW)
    sink.write(CALL[2], NOW + 1)
    assert read_textgrid(path) == []
    sink.write(CALL[3], NOW + whole.EVERY_S)
    assert len(read_textgrid(path)) == 2
    assert whole.journal_of(path).exists()
    sink.write(CALL[4], NOW + whole.EVERY_S + 1)
    sink.close()
    assert len(read_textgrid(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["x.TextGrid"]


WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from output_fakes import NOW, verdict, CUSTOMER, AGENT
from abhinaya.stream.sinks.formats import open_output
sink = open_output(Path(sys.argv[1]))
for i in itertools.count():
    now = NOW + i  # every second event is of another channel, and every third is revised
    sink.write(verdict(i, 2 * i + 1, 2 * i + 2, "happy", AGENT), now)
    sink.write(verdict(i, 2 * i, 2 * i + 1, "sad", CUSTOMER), now)
    if i % 3 == 0:
        sink.write(verdict(i, 2 * i + 1, 2 * i + 2, "angry", AGENT, revision=1), now)
    if i == 40:
        print("enough", flush=True)
"""


@pytest.mark.processes
@pytest.mark.parametrize("suffix", READERS)
def test_a_kill_in_the_middle_leaves_a_file_that_opens(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    folders = [str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout.readline() == b"enough\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    found = READERS[suffix](path)
    journal = journal_of(path)
    if journal.exists():  # written anew at intervals, longer ones where writing takes long
        assert len(list(latest(journal))) >= 60
        assert len(found) >= 20
    else:
        assert len(found) >= 60
    assert [row[1] for row in found] == sorted(row[1] for row in found)
    assert {"happy", "sad", "angry"} == {row[3] for row in found}


def test_memory_stays_flat_over_many_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(ordered, "REMEMBERED", 64)
    path = tmp_path / "x.srt"
    sink = open_output(path)
    tracemalloc.start()
    try:
        for i in range(300):
            sink.write(verdict(i, 2.0 * i, 2.0 * i + 1), NOW)
        gc.collect()
        early, _ = tracemalloc.get_traced_memory()
        for i in range(300, 1500):
            sink.write(verdict(i, 2.0 * i, 2.0 * i + 1), NOW)
        gc.collect()
        late, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert late - early < 20_000, "1200 segments more"
    sink.write(verdict(1490, 2980.0, 2981.0, "sad", revision=1), NOW)
    sink.close()
    found = read_srt(path)
    assert len(found) == 1500
    assert [i for i, row in enumerate(found) if row[3] == "sad"] == [1490]
