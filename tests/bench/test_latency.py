"""What counts as keeping up, and that the greatest number of streams that does is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from abhinaya.bench.clips import compose, duration_s, rotate, spans
from abhinaya.bench.demo import CALL
from abhinaya.bench.latency import Labels, LiveRun, find_max, tables
from abhinaya.bench.report import percentiles
from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.wire.messages import Missing


def kept(streams: int = 1, p95: float = 800.0, late: int = 0, shed: int = 0) -> LiveRun:
    total = {"p50": p95 / 2, "p95": p95, "p99": p95}
    return LiveRun(streams, 20, {"total": total}, late, shed)


def test_late_votes_gaps_and_absent_voters_are_told_apart():
    labels = Labels()
    absent = Missing(voter="S1", reason="S1-0 was killed")
    late = Missing(voter="T2", reason="late: every node was busy")
    events = [
        fakes.verdict(0),
        fakes.verdict(1, missing=(absent,)),
        fakes.verdict(2, missing=(absent, late)),
        fakes.gap(3),
        fakes.verdict(1, revision=1),
    ]
    for event in events:
        labels.event(event, 1_000_002.0)
    assert (labels.segments, labels.late, labels.shed) == (3, 1, 1)
    assert labels.stages["total"] == [2000.0, 2000.0, 2000.0]
    assert labels.stages["queue"] == [1.0, 1.0, 1.0]


def test_early_labels_are_timed_and_compared_with_the_final_ones():
    labels = Labels()
    started = fakes.verdict(0).start_unix_s

    def part(sequence, number, label, after_s):
        event = fakes.verdict(sequence, part=number, label=label)
        labels.provisional(event, started + after_s)

    part(0, 1, "sad", 1.7)
    part(0, 2, "happy", 2.7)
    labels.event(fakes.verdict(0), started + 4)  # happy: the first did not stay, the last did
    part(1, 1, "happy", 1.9)
    labels.event(fakes.verdict(1), started + 3)
    labels.event(fakes.verdict(2), started + 5)  # too short for any
    part(3, 1, "sad", 1.8)
    wordless = fakes.verdict(3, part=2, votes=(), label="unknown")
    labels.provisional(wordless, started + 2.8)
    labels.event(fakes.verdict(3), started + 5)
    labels.event(fakes.verdict(3, label="sad", revision=1), started + 6)
    early = labels.early()
    assert (early["share"], early["first_stays"], early["last_stays"]) == (3 / 4, 1 / 3, 2 / 3)
    assert early["first_ms"]["p50"] == pytest.approx(1800.0)
    assert labels.segments == 4


def test_without_early_labels_nothing_is_claimed_of_them():
    labels = Labels()
    labels.event(fakes.verdict(0), 1_000_002.0)
    assert labels.early() is None


WORDS = {
    "utterances": 3,
    "spoken": 0.75,
    "missing": 1,
    "error_rate": 1 / 3,
    "whole_error_rate": 0.0,
}


@pytest.mark.parametrize(
    "run",
    [
        kept(p95=1501.0),
        kept(late=1),
        kept(shed=1),
        LiveRun(1, 0, {}, 0, 0),
        replace(kept(), words=WORDS),
    ],
    ids=["slow", "late", "shed", "nothing heard", "words lost"],
)
def test_what_does_not_keep_up(run):
    assert kept().keeps_up(1500.0)
    assert not run.keeps_up(1500.0)


def test_tables_show_each_run_and_nothing_that_was_not_measured():
    early = {
        "share": 0.5,
        "first_ms": {"p50": 900.0, "p95": 1200.0},
        "first_stays": 0.75,
        "last_stays": 0.9,
    }
    seconds = {"p50": 0.5, "p95": 0.75}
    words = WORDS | {"final_s": seconds, "first_s": seconds}
    made = tables([kept(4), replace(kept(2), early=early, words=words)], 1500.0)
    shown = {str(t.title): [[*c.cells] for c in t.columns] for t in made}
    (overview,) = (cells for title, cells in shown.items() if title.startswith("Live"))
    assert overview[0] == ["2", "4"], "fewest streams first"
    assert overview[3] == ["800", "800"]
    assert overview[-1] == ["no", "yes"], "an utterance of the first is missing"
    (labels,) = (cells for title, cells in shown.items() if title.startswith("Labels"))
    assert labels == [["2"], ["50%"], ["900"], ["1200"], ["75%"], ["90%"]]
    (said,) = (cells for title, cells in shown.items() if title.startswith("Words"))
    assert said == [["2"], ["3"], ["75%"], *[["0.50 / 0.75"]] * 2, ["33.3%"], ["0.0%"]]


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 5, 8, 11, 16])
def test_the_greatest_number_that_keeps_up_is_found(capacity):
    def one(streams: int) -> LiveRun:
        return kept(streams, p95=100.0 if streams <= capacity else 9000.0)

    runs = find_max(one, 1500.0, most=16)
    assert max((r.streams for r in runs if r.keeps_up(1500.0)), default=0) == capacity
    tried = [run.streams for run in runs]
    assert len(tried) == len(set(tried)) <= 10


def test_percentiles_of_a_hundred():
    assert percentiles([float(n) for n in range(101)]) == {"p50": 50, "p95": 95, "p99": 99}


def test_a_rotated_recording_has_the_asked_length_and_begins_elsewhere(tmp_path):
    rotate(CALL, 0.0, 70.0, tmp_path / "a.wav")
    rotate(CALL, 20.0, 70.0, tmp_path / "b.wav")
    assert duration_s(tmp_path / "a.wav") == 70.0
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "b.wav").read_bytes()


def test_composing_repeats_files_and_spans_find_their_speech(tmp_path):
    once, twice = tmp_path / "once.wav", tmp_path / "twice.wav"
    length = duration_s(CALL)
    compose([CALL], length + 0.7, 0, once)
    compose([CALL], 2 * (length + 0.7), 0, twice)
    vad = VadConfig()
    first, both = spans(once, vad), spans(twice, vad)
    assert len(first) >= 5
    assert len(both) == 2 * len(first)
    assert all(start < end for start, end in both)


def test_files_without_audio_are_refused_rather_than_repeated_for_ever(tmp_path):
    path = tmp_path / "empty.wav"
    rotate(CALL, 0.0, 0.0, path)
    with pytest.raises(SourceError):
        compose([Path(path)], 10.0, 0, tmp_path / "out.wav")
