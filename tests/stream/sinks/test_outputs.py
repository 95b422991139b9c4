"""Files in every format, opened by the readers that people use."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import srt
import webvtt
from fakes import info
from output_fakes import AGENT, CALL, CUSTOMER, FLAT, NASTY, NOW, SPOKEN, gap, verdict
from output_readers import READERS, read_srt, read_vtt, written
from places import ROOT
from praatio import textgrid

from abhinaya.models.labels import LABELS
from abhinaya.stream.errors import ConfigError, SinkError
from abhinaya.stream.sinks.base import publish
from abhinaya.stream.sinks.export.formats import SUFFIXES, export, format_of
from abhinaya.stream.sinks.open import open_sinks
from abhinaya.stream.sinks.reader import read, rows
from abhinaya.stream.wire.messages import Activity, StreamStarted

TESTS = ROOT / "tests"


@pytest.mark.parametrize("suffix", READERS)
def test_readers_find_every_segment_once_and_open_a_file_without_speech(tmp_path, suffix):
    assert READERS[suffix](written(tmp_path / f"x{suffix}")) == SPOKEN
    path = written(tmp_path / f"x{suffix}", (CALL[0], CALL[-2]))
    assert READERS[suffix](path) == []
    assert {*READERS, ".jsonl"} == set(SUFFIXES), "there is a reader for every format"
    assert READERS[suffix](written(tmp_path / f"none{suffix}", ())) == []


SO_FAR = (
    Activity(stream=AGENT, position=16_000, speaking=True),
    verdict(0, 1.0, 2.5, "sad", part=1),
    verdict(0, 1.0, 6.0, "happy"),
)


@pytest.mark.parametrize("suffix", READERS)
def test_what_is_provisional_leaves_no_trace(tmp_path, suffix):
    last = gap(1, 7.0, 9.0)
    path = written(tmp_path / f"x{suffix}", (*SO_FAR, verdict(1, 7.0, 8.5, "sad", part=2), last))
    assert path.read_bytes() == written(tmp_path / f"y{suffix}", (SO_FAR[-1], last)).read_bytes()


def test_a_second_run_does_not_take_the_place_of_the_first(tmp_path):
    mono = (StreamStarted(info=info("a")), verdict(0, 0.0, 1.0, "sad", "a"))
    path = written(tmp_path / "x.jsonl", (*mono, *CALL))
    again = open_sinks("jsonl", [path], append=True)
    told(again, (*mono, *CALL))
    again.close()
    first = [("a", 0.0, 1.0, "sad"), *SPOKEN]
    second = [(name.replace("call/", "call (2)/"), *rest) for name, *rest in SPOKEN]
    for suffix, reader in READERS.items():
        export(path, tmp_path / f"y{suffix}")
        expected = [*first, ("a (2)", 0.0, 1.0, "sad"), *second]
        assert sorted(reader(tmp_path / f"y{suffix}")) == sorted(expected)


def test_json_lines_have_provisional_verdicts_and_readers_pass_over_them(tmp_path):
    path = written(tmp_path / "x.jsonl", SO_FAR)
    *told, summary = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    found = [(e["type"], e["final"], e["part"]) for e in told]
    assert found == [("verdict", False, 1), ("verdict", True, 0)]
    assert summary["streams"][AGENT]["segments"] == 1
    assert summary["streams"][AGENT]["emotions_s"] == {"happy": 5.0}
    assert [e["type"] for e in read(path)] == ["verdict", "summary"]
    assert [row.label for row in rows(path)] == ["happy"]


# --- what stands in them --------------------------------------------------------------------------


def test_words_survive_each_format(tmp_path):
    vtt = webvtt.read(written(tmp_path / "x.vtt"))[2].raw_text
    escaped = FLAT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert vtt == f"<v {AGENT}><c.surprise>[surprise]</c> {escaped}"
    shown = FLAT.replace("-->", "→").replace("<", "‹").replace(">", "›")  # noqa: RUF001
    cues = list(srt.parse(written(tmp_path / "x.srt").read_text("utf-8")))
    assert cues[2].content == f"{AGENT}: [surprise] {shown}"
    labels = written(tmp_path / "x.txt").read_text("utf-8").split("\n")
    assert labels[2] == f"2.000000\t12.000000\t{AGENT}: [surprise] {FLAT}"
    with written(tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file))[1]["transcript"] == FLAT
    assert pq.read_table(written(tmp_path / "x.parquet"))["transcript"].to_pylist().count(NASTY)
    grid = textgrid.openTextgrid(str(written(tmp_path / "x.TextGrid")), includeEmptyIntervals=False)
    assert [e.label for e in grid.getTier(f"{AGENT}: transcript").entries][1] == FLAT


def test_csv_keeps_every_revision_and_marks_it(tmp_path):
    with written(tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["segment"] == "1"]
    found = [(row["label"], row["revision"]) for row in rows]
    assert found == [("neutral", "0"), ("surprise", "1")]
    assert rows[0]["votes"] == "S1=neutral:0.65 T2=neutral:0.65"
    assert rows[1]["votes"] == "S1=surprise:0.65 T2=neutral:0.65"
    assert rows[1]["missing"] == "ST1: no answer within 4 s"
    assert float(rows[1]["p_surprise"]) == pytest.approx((0.65 + 0.05) / 2)
    assert float(rows[1]["latency_ms"]) == 750


def test_parquet_nests_the_votes(tmp_path):
    table = pq.read_table(written(tmp_path / "x.parquet"))
    row = next(r for r in table.to_pylist() if r["label"] == "surprise")
    votes = [(v["voter"], v["label"]) for v in row["votes"]]
    assert votes == [("S1", "surprise"), ("T2", "neutral")]
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


def test_a_cue_of_no_length_still_ends_after_its_start_and_capitals_do_not_matter(tmp_path):
    path = written(tmp_path / "x.Vtt", (verdict(0, 1.0, 1.0),))
    assert read_vtt(path) == [(AGENT, 1.0, 1.001, "happy")]
    assert format_of(Path("x.TEXTGRID")) == ".TextGrid"


# --- choosing -------------------------------------------------------------------------------------


def test_an_unknown_suffix_is_refused_with_the_near_miss_and_leaves_other_files_alone(tmp_path):
    (tmp_path / "a.csv").write_text("from yesterday")
    for name, said in (("b.parqet", r"no format is called \.parqet; did you mean '\.parquet'\?"),
                       ("b", r"no suffix; known: .*\.csv, \.jsonl")):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            open_sinks("lines", [tmp_path / "a.csv", tmp_path / name])
    assert (tmp_path / "a.csv").read_text() == "from yesterday"


def test_without_pyarrow_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SinkError, match=r"needs pyarrow, .*abhinaya\[formats\]"):
        open_sinks("jsonl", [tmp_path / "x.parquet"])
    assert not list(tmp_path.iterdir())


def test_only_parquet_loads_pyarrow_and_nothing_loads_torch():
    code = (
        "import sys, abhinaya.stream.sinks.open, abhinaya.stream.commands.convert\n"
        "print({'pyarrow', 'torch', 'transformers', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- while a run goes on --------------------------------------------------------------------------


def told(sinks, events):
    for event in events:
        publish(sinks.all[:1], event, NOW)


def test_only_json_lines_are_live_and_the_others_are_made_of_them_at_the_end(tmp_path):
    paths = [tmp_path / name for name in ("x.vtt", "x.jsonl", "x.parquet")]
    sinks = open_sinks("jsonl", paths)
    told(sinks, CALL)
    assert len(list(rows(paths[1]))) == len(CALL)
    assert (read_vtt(paths[0]), READERS[".parquet"](paths[2])) == ([], [])
    assert len(list(tmp_path.iterdir())) == 3, "the .jsonl is the journal"
    sinks.close()
    assert read_vtt(paths[0]) == READERS[".parquet"](paths[2]) == SPOKEN


def test_without_json_lines_there_is_a_journal_until_the_end(tmp_path):
    path = tmp_path / "x.srt"
    path.write_text("from yesterday")
    sinks = open_sinks("jsonl", [path, tmp_path / "x.csv"])
    assert path.read_text() == "", "yesterday's result is not taken for today's"
    told(sinks, CALL)
    journal = tmp_path / "x.srt.journal.jsonl"
    assert len(list(rows(journal))) == len(CALL)
    sinks.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.csv", "x.srt"]
    assert READERS[".srt"](path) == READERS[".csv"](tmp_path / "x.csv") == SPOKEN


def test_what_a_killed_run_has_left_is_kept_and_named(tmp_path, capfd):
    killed = open_sinks("jsonl", [tmp_path / "x.vtt"])
    told(killed, CALL)
    again = open_sinks("jsonl", [tmp_path / "x.vtt"])
    again.close()
    kept = tmp_path / "x.vtt.journal-1.jsonl"
    assert f"of a run that was killed is kept as {kept}" in capfd.readouterr().err
    export(kept, tmp_path / "old.vtt")
    assert (read_vtt(tmp_path / "old.vtt"), read_vtt(tmp_path / "x.vtt")) == (SPOKEN, [])


WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from output_fakes import NOW, verdict, CUSTOMER, AGENT
from abhinaya.stream.sinks.open import open_sinks
sink = open_sinks("jsonl", [Path(sys.argv[1])]).all[0]
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
def test_a_kill_in_the_middle_loses_nothing(tmp_path):
    path = tmp_path / "x.vtt"
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r}){WRITE_FOR_EVER}"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"enough\n"
        finally:
            process.kill()
    assert read_vtt(path) == []
    for suffix, reader in READERS.items():
        export(tmp_path / "x.vtt.journal.jsonl", tmp_path / f"y{suffix}")
        found = reader(tmp_path / f"y{suffix}")
        assert len(found) >= 80
        assert [row[1] for row in found] == sorted(row[1] for row in found)
        assert {"happy", "sad", "angry"} == {row[3] for row in found}


# --- faults of the disk ---------------------------------------------------------------------------


def test_a_folder_a_missing_folder_and_a_pipe_are_refused_at_once(tmp_path):
    for suffix in SUFFIXES:
        (tmp_path / f"d{suffix}").mkdir()
        with pytest.raises(SinkError, match="is a folder"):
            open_sinks("jsonl", [tmp_path / f"d{suffix}"])
        with pytest.raises(SinkError, match="missing folder"):
            open_sinks("jsonl", [tmp_path / "nowhere" / f"x{suffix}"])
    os.mkfifo(tmp_path / "x.vtt")
    with pytest.raises(SinkError, match=r"not into a pipe or a device; use \.jsonl there"):
        open_sinks("jsonl", [tmp_path / "x.vtt"])
    assert len(list(tmp_path.iterdir())) == len(SUFFIXES) + 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_vanishes_is_an_error_with_the_name(tmp_path, suffix, capfd):
    folder = tmp_path / "out"
    folder.mkdir()
    sinks = open_sinks("jsonl", [folder / f"x{suffix}"])
    told(sinks, CALL[:3])
    shutil.rmtree(folder)
    told(sinks, CALL[3:])
    assert f"x{suffix}" in str(sinks.fault)
    assert capfd.readouterr().err.count("cannot be written") == 1
    if suffix == ".jsonl":
        sinks.close()
        return
    with pytest.raises(SinkError, match=rf"x{suffix}: cannot be written"):
        sinks.close()


@pytest.mark.parametrize("suffix", READERS)
def test_a_disk_that_is_full_at_the_end_keeps_the_old_file_and_the_journal(
    tmp_path, monkeypatch, suffix
):
    path = tmp_path / f"x{suffix}"
    sinks = open_sinks("jsonl", [path])
    told(sinks, CALL)
    before = path.read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(SinkError, match=r"No space left.*abhinaya convert .*journal\.jsonl"):
            sinks.close()
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2, "nothing half written"
    export(tmp_path / f"x{suffix}.journal.jsonl", path)
    assert READERS[suffix](path) == SPOKEN


def test_memory_holds_a_place_for_each_segment_and_not_its_words(tmp_path):
    path, target = tmp_path / "x.jsonl", tmp_path / "x.srt"
    events = [verdict(i, 2.0 * i, 2.0 * i + 1, text="word " * 400) for i in range(1500)]
    written(path, [*events, verdict(1490, 2980.0, 2981.0, "sad", revision=1)])
    assert path.stat().st_size > 3_000_000
    tracemalloc.start()
    try:
        export(path, target)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
    found = read_srt(target)
    assert [i for i, row in enumerate(found) if row[3] == "sad"] == [1490]
