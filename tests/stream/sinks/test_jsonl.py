"""JSON lines: whole lines on the disk, whatever happens to it."""

from __future__ import annotations

import json
import os
import signal

import pytest
from live_scenes import status
from output_fakes import CALL, NOW, verdict

from abhinaya.models.interrupts import Signalled
from abhinaya.stream.errors import ConfigError, SinkError
from abhinaya.stream.sinks import jsonl
from abhinaya.stream.sinks import open as opened
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.sinks.jsonl import JsonLines
from abhinaya.stream.sinks.open import open_sinks

SEGMENTS = (verdict(0, 0.0, 2.0), verdict(1, 3.0, 5.0))


def test_each_event_is_a_line_on_the_disk_at_once(tmp_path):
    path = tmp_path / "events.jsonl"
    sink = JsonLines(path)
    sink.write(status(), NOW)  # the hub's beat is left out
    for count, event in enumerate(CALL, start=1):
        sink.write(event, NOW)
        assert len(path.read_bytes().splitlines()) == count
    sink.close()
    sink.close()
    kinds = [json.loads(line)["type"] for line in path.read_bytes().splitlines()]
    assert kinds == [to_dict(event, NOW)["type"] for event in CALL] + ["summary"]


@pytest.mark.parametrize("rest", [b"", b'{"type": "ver', b"x" * 3_000_000])
def test_a_log_goes_on_behind_its_last_whole_line(tmp_path, rest):
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"type": "old"}\n' + rest)
    sinks = open_sinks("jsonl", [path], append=True)
    sinks.all[0].write(SEGMENTS[0], NOW)
    sinks.close()
    lines = [json.loads(line)["type"] for line in path.read_bytes().splitlines()]
    assert lines == ["old", "verdict", "summary"]
    with pytest.raises(ConfigError, match="cannot be appended to"):
        open_sinks("jsonl", [tmp_path / "x.vtt"], append=True)


def test_a_full_disk_is_an_error_with_a_remedy_and_a_reader_who_leaves_ends_the_program():
    sink = JsonLines(descriptor=os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(SinkError, match=r"No space left.*make room"):
        sink.write(SEGMENTS[0], NOW)
    sink.close()
    reading, writing = os.pipe()
    os.close(reading)
    sink = JsonLines(descriptor=writing)
    with pytest.raises(SystemExit) as leaving:
        sink.write(SEGMENTS[0], NOW)
    assert leaving.value.code == 0
    sink.close()
    os.close(writing)


class Disk:
    """A disk that can be full: then it takes the first bytes of a line, and no more."""

    def __init__(self, monkeypatch):
        self.full = False
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor, data):
        if not self.full:
            return self._write(descriptor, data)
        if len(data) > 100:
            return self._write(descriptor, data[:100])
        raise OSError(28, "No space left on device")


def test_a_disk_that_fills_up_and_empties_again_loses_nothing(tmp_path, monkeypatch):
    path, disk, reports = tmp_path / "e.jsonl", Disk(monkeypatch), []
    sink = JsonLines(path, report=reports.append)
    sink.write(SEGMENTS[0], NOW)
    whole = path.read_bytes()
    disk.full = True
    for _ in range(3):
        sink.write(SEGMENTS[1], NOW)
        assert path.read_bytes() == whole, "no part of a line"
    assert len(reports) == 1
    assert "No space left" in reports[0]
    assert sink.fault
    disk.full = False
    sink.write(SEGMENTS[1], NOW)
    assert sink.fault is None
    assert "nothing is missing" in reports[1]
    sink.close()
    kinds = [json.loads(line)["type"] for line in path.read_bytes().splitlines()]
    assert kinds == ["verdict"] * 5 + ["summary"]


def test_what_is_too_much_to_wait_for_room_is_counted_in_the_file(tmp_path, monkeypatch):
    path, disk = tmp_path / "e.jsonl", Disk(monkeypatch)
    line = len(json.dumps(to_dict(SEGMENTS[1], NOW)))
    monkeypatch.setattr(jsonl, "WAITING_BYTES", 3 * line)
    sink = JsonLines(path, report=print)
    disk.full = True
    for _ in range(10):
        sink.write(SEGMENTS[1], NOW)
    disk.full = False
    sink.close()
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    remark = rows[0]["text"]
    missing = int(remark.split()[0])
    assert remark == f"{missing} events are missing here: the disk was full"
    assert [row["type"] for row in rows[1:]] == ["verdict"] * (10 - missing) + ["summary"]
    assert 0 < missing < 10
    assert "are missing" in str(sink.fault)


def test_a_disk_that_stays_full_is_an_error_that_counts_what_is_missing(tmp_path, monkeypatch):
    path, disk = tmp_path / "e.jsonl", Disk(monkeypatch)
    sink = JsonLines(path, report=print)
    sink.write(SEGMENTS[0], NOW)
    whole = path.read_bytes()
    disk.full = True
    sink.write(SEGMENTS[1], NOW)
    with pytest.raises(SinkError, match=r"lacks its last 2 events: .*No space left"):
        sink.close()
    sink.close()
    assert path.read_bytes() == whole


def test_every_output_that_fails_at_the_end_is_named(tmp_path, monkeypatch):
    names = ["a.jsonl", "b.csv", "c.srt"]
    sinks = open_sinks("jsonl", [tmp_path / name for name in names])
    disk = Disk(monkeypatch)

    def full(source, target):
        raise SinkError(str(target), "cannot be written: No space left on device")

    monkeypatch.setattr(opened, "export", full)
    disk.full = True
    for sink in sinks.all[:1]:
        sink.write(SEGMENTS[0], NOW)
    with pytest.raises(SinkError) as raised:
        sinks.close()
    assert all(name in str(raised.value) for name in names)
    assert "abhinaya convert" in str(raised.value)


def test_a_signal_while_outputs_are_made_names_the_rest_and_keeps_the_journal(
    tmp_path, monkeypatch
):
    sinks = open_sinks("lines", [tmp_path / "b.csv", tmp_path / "c.srt"])
    sinks.all[0].write(SEGMENTS[0], NOW)

    def interrupted(source, target):
        raise Signalled(signal.SIGTERM)

    monkeypatch.setattr(opened, "export", interrupted)
    with pytest.raises(SinkError, match=r"b.csv, .*c.srt: .*stopped by SIGTERM; abhinaya convert"):
        sinks.close()
    assert b"verdict" in (tmp_path / "b.csv.journal.jsonl").read_bytes()
