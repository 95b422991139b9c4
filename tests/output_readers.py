"""Readers of every output format, as strict as those that people use: most are those.

Each gives (stream, start in seconds, end, label) in the order of the file.
"""

from __future__ import annotations

import csv
import re

import pyarrow.parquet as pq
import srt
import webvtt
from output_fakes import CALL, NOW
from praatio import textgrid
from pyannote.database.util import load_rttm

from abhinaya.stream.sinks.base import publish
from abhinaya.stream.sinks.open import open_sinks


def written(path, events=CALL):
    """Write events as a run would."""
    sinks = open_sinks("jsonl", [path])
    for event in events:
        publish(sinks.all[:1], event, NOW)  # the last is standard output
    sinks.close()
    return path


def seconds(clock):
    hours, minutes, rest = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def read_vtt(path):
    cues = []
    for cue in webvtt.read(path):
        who = cue.voice.replace("&lt;", "<").replace("&amp;", "&")
        said = re.fullmatch(r"\[(not heard|\w+)[]:].*", cue.text.strip(), re.DOTALL)
        label = "gap" if said[1] == "not heard" else said[1]
        cues.append((who, seconds(cue.start), seconds(cue.end), label))
    return cues


def titled(text):
    """Return stream and label of a title as SRT and Audacity have it."""
    stream, label = re.match(r"(.*?): \[(not heard|\w+)", text).groups()
    return stream, "gap" if label == "not heard" else label


def read_srt(path):
    cues = list(srt.parse(path.read_text("utf-8"), ignore_errors=False))
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    found = []
    for cue in cues:
        stream, label = titled(cue.content)
        found.append((stream, cue.start.total_seconds(), cue.end.total_seconds(), label))
    return found


def read_rttm(path):
    found = []
    for line in path.read_text("utf-8").splitlines():
        kind, file, channel, start, length, ortho, stype, name, confidence, slat = line.split(" ")
        assert kind in ("SPEAKER", "NOSCORE")
        assert (channel, ortho, stype, slat) == ("1", "<NA>", "<NA>", "<NA>")
        assert confidence == "<NA>" or 0 <= float(confidence) <= 1
        end = round(float(start) + float(length), 3)
        found.append((file.replace("%20", " "), float(start), end, name))
    if found:
        assert read_by_pyannote(path) == sorted(found)
    return found


def read_by_pyannote(path):
    return sorted(
        (file.replace("%20", " "), round(segment.start, 3), round(segment.end, 3), name)
        for kind in ("SPEAKER", "NOSCORE")
        for file, turns in load_rttm(path, kind).items()
        for segment, _, name in turns.itertracks(yield_label=True)
    )


def read_audacity(path):
    found = []
    for line in path.read_text("utf-8").splitlines():
        start, end, text = line.split("\t")
        stream, label = titled(text)
        found.append((stream, float(start), float(end), label))
    return found


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    last = {(row["stream"], row["segment"]): row for row in rows}
    assert not [row for row in rows if None in row or None in row.values()], "a torn row"
    return sorted(
        (
            (r["stream"], float(r["start_s"]), float(r["end_s"]), r["label"] or r["type"])
            for r in last.values()
        ),
        key=lambda row: row[1],
    )


def read_parquet(path):
    rows = pq.read_table(path).to_pylist()
    assert len({(row["stream"], row["segment"]) for row in rows}) == len(rows)
    return sorted(
        ((r["stream"], r["start_s"], r["end_s"], r["label"] or r["type"]) for r in rows),
        key=lambda row: row[1],
    )


def read_textgrid(path):
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="error")
    found = []
    for name in grid.tierNames:
        stream, _, tier = name.rpartition(": ")
        if tier == "label" and stream:
            entries = grid.getTier(name).entries
            found += [(stream, e.start, e.end, e.label.strip("()")) for e in entries]
    return sorted(found, key=lambda row: row[1])


READERS = {
    ".vtt": read_vtt,
    ".srt": read_srt,
    ".rttm": read_rttm,
    ".txt": read_audacity,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".TextGrid": read_textgrid,
}
