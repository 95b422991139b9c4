"""JSON lines: whole lines on the disk, whatever happens to it."""

from __future__ import annotations

import json
import os

import pytest
from live_scenes import status
from output_fakes import CALL, NOW, verdict

from abhinaya.stream.errors import ConfigError, SinkError
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


def test_a_full_disk_is_an_error_with_a_remedy():
    sink = JsonLines(descriptor=os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(SinkError, match=r"No space left.*make room"):
        sink.write(SEGMENTS[0], NOW)
    sink.close()


def test_a_disk_that_fills_up_keeps_whole_lines_only(tmp_path, monkeypatch):
    path = tmp_path / "e.jsonl"
    sink = JsonLines(path)
    sink.write(SEGMENTS[0], NOW)
    whole = path.read_bytes()
    write = os.write

    def half_then_full(descriptor, data):
        if len(data) > 100:
            return write(descriptor, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(SinkError, match="No space left"):
        sink.write(SEGMENTS[1], NOW)
    assert path.read_bytes() == whole


def test_a_reader_who_leaves_ends_the_program_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    sink = JsonLines(descriptor=writing)
    with pytest.raises(SystemExit) as leaving:
        sink.write(SEGMENTS[0], NOW)
    assert leaving.value.code == 0
    sink.close()
    os.close(writing)
