"""Arousal, valence and dominance in every output that has a place for them, and nowhere else."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fakes import rated, vote
from live_scenes import NOW as LATER
from live_scenes import board_of, picture, started
from msgspec.structs import replace
from output_fakes import AGENT, CALL, NOW, verdict
from output_readers import written
from praatio import textgrid
from rich.console import Console

from abhinaya.models.labels import Attributes
from abhinaya.stream.errors import SourceError
from abhinaya.stream.report.gather import gather
from abhinaya.stream.report.template import page
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.sinks.reader import rows
from abhinaya.stream.wire.messages import Event, Verdict

MEAN, OWN = Attributes(4.25, 3.0, 5.5), "A 2.0 V 3.0 D 4.0"


def with_attributes(event: Event) -> Event:
    """Add a vote of attributes alone, and a mean."""
    if not isinstance(event, Verdict):
        return event
    alone = rated(vote(event.sequence, "A", "", event.stream), 2, 3, 4, probabilities=None)
    return replace(event, attributes=MEAN, votes=(*event.votes, alone))


RATED = tuple(map(with_attributes, CALL))


@pytest.mark.parametrize("suffix", [".vtt", ".srt", ".rttm", ".txt"])
def test_formats_without_a_place_are_the_same_to_the_byte(tmp_path: Path, suffix: str) -> None:
    plain, more = written(tmp_path / f"a{suffix}"), written(tmp_path / f"b{suffix}", RATED)
    assert plain.read_bytes() == more.read_bytes()


def test_tables_have_columns_that_are_empty_without_attributes(tmp_path: Path) -> None:
    for name, events in (("a", CALL), ("b", RATED)):
        with written(tmp_path / f"{name}.csv", events).open(encoding="utf-8") as file:
            row = next(row for row in csv.DictReader(file) if row["label"] == "sad")
        table = pq.read_table(written(tmp_path / f"{name}.parquet", events)).to_pylist()
        nested = next(row for row in table if row["label"] == "sad")
        columns = ("arousal", "valence", "dominance")
        if events is CALL:
            assert [row[c] for c in columns] == ["", "", ""]
            assert [nested[c] for c in columns] == [None] * 3
            assert nested["votes"][0]["attributes"] is None
            continue
        assert tuple(float(row[c]) for c in columns) == MEAN
        assert tuple(nested[c] for c in columns) == MEAN
        assert row["votes"] == "S1=sad:0.65 T2=neutral:0.65 A=A2.0V3.0D4.0"
        own = {"arousal": 2.0, "valence": 3.0, "dominance": 4.0}
        assert nested["votes"][2] | {"model": ""} == {
            "voter": "A", "label": "", "model": "", "probabilities": None, "attributes": own,
        }  # fmt: skip


def test_textgrid_has_a_tier_for_the_mean_and_one_for_the_voter(tmp_path: Path) -> None:
    grid = textgrid.openTextgrid(str(written(tmp_path / "x.TextGrid", RATED)), False)
    for tier, text in (("attributes", str(MEAN)), ("A", OWN)):
        assert {e.label for e in grid.getTier(f"{AGENT}: {tier}").entries} == {text}


@pytest.mark.parametrize(
    ("terminal", "parts"),
    [(True, (f"A\u00a0{OWN}", "A 4.2 V 3.0 D 5.5")), (False, ("A=A2.0V3.0D4.0", "valence=3.0"))],
)
def test_lines_say_them(terminal: bool, parts: tuple[str, ...]) -> None:
    file = io.StringIO()
    lines = Lines(Console(file=file, width=120, force_terminal=terminal, color_system=None))
    lines.write(with_attributes(verdict(1, 0, 1)), NOW)
    assert [part for part in parts if part not in file.getvalue()] == []


def test_the_live_view_shows_them_where_there_is_room() -> None:
    event = with_attributes(verdict(0, 1, 3))
    board = board_of(started(AGENT), event)
    wide = picture(board, 120, 30, LATER).text
    assert str(MEAN) in wide.splitlines()[1]
    assert "2 of 2" in wide, "who gives no label does not count"
    assert OWN in wide
    assert str(MEAN) not in picture(board, 60, 30, LATER).text


def test_the_report_has_the_mean_of_each_party(tmp_path: Path) -> None:
    low = replace(verdict(9, 4000, 4010.5, "sad"), attributes=Attributes(1.0, 3.0, 5.5))
    source = written(tmp_path / "x.jsonl", (*RATED[:-2], low, *RATED[-2:]))
    account = gather(source)
    mean = account.streams[AGENT].attributes
    spoken_s = 1.5 + 10.0 + 2.0
    assert mean is not None
    assert mean.arousal == pytest.approx((4.25 * spoken_s + 10.5) / (spoken_s + 10.5))
    html = page(account)
    assert f"<p>arousal {mean.arousal:.1f}, valence 3.0, dominance 5.5 on a scale" in html
    assert f"A {OWN}" in html
    assert "on a scale" not in page(gather(written(tmp_path / "y.jsonl")))


@pytest.mark.parametrize("value", [8, -1, float("nan"), "high", None])
def test_a_file_with_attributes_that_are_none_is_refused(tmp_path: Path, value: object) -> None:
    path = written(tmp_path / "x.jsonl", RATED)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    event = next(event for event in events if event["type"] == "verdict")
    event["attributes"]["valence"] = value
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    with pytest.raises(SourceError):
        list(rows(path))
