"""The bench of the live view: its planted streams, its figures, and the picture it makes."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from abhinaya.bench import still, view
from abhinaya.bench.conversation import PART_EVERY_S, SPEECH_S, TURN_S, conversation
from abhinaya.stream.errors import SinkError
from abhinaya.stream.messages import Activity, Verdict
from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.sinks.live.picture import picture

START = 1_000_000.0


def test_planted_streams_speak_in_the_order_of_time() -> None:
    events = list(conversation(16, 60, START))
    assert [timed.at_s for timed in events] == sorted(timed.at_s for timed in events)
    kinds = Counter(
        (timed.event.stream, type(timed.event).__name__ + str(getattr(timed.event, "part", "") > 0))
        if isinstance(timed.event, Verdict)
        else type(timed.event).__name__
        for timed in events
    )
    turns = [kinds[f"desk {k:02}", "VerdictFalse"] for k in range(1, 17)]
    assert min(turns) >= 60 / TURN_S - 3
    for k, count in enumerate(turns, 1):
        parts = int(SPEECH_S / PART_EVERY_S) - 1
        assert kinds[f"desk {k:02}", "VerdictTrue"] == parts * count, "one a second"
    assert kinds["Activity"] == 2 * sum(turns)


def test_nobody_begins_to_speak_before_the_last_segment_is_over() -> None:
    speaking: dict[str, bool] = {}
    for timed in conversation(4, 60, START):
        if isinstance(timed.event, Activity):
            assert speaking.get(timed.event.stream, False) != timed.event.speaking
            speaking[timed.event.stream] = timed.event.speaking


def test_sixteen_streams_cost_a_small_part_of_a_core() -> None:
    """A tenth is what may be; a fiftieth is usual. The machine may be busy: best of three."""
    costs = [view.measure(16, 120, 40, 10) for _ in range(3)]
    assert min(cost.core_share for cost in costs) < 0.1
    assert all(2 < cost.pictures_per_s <= 8.1 for cost in costs)
    assert all(cost.events_per_s > 10 for cost in costs)


def test_the_figures_are_written_with_the_machine(tmp_path, capsys) -> None:
    path = tmp_path / "view.json"
    arguments = ["--streams", "2", "--seconds", "5", "--json", str(path)]
    assert view.main(arguments) == 0
    (cost,) = json.loads(path.read_text())["figures"]["costs"]
    assert cost["streams"] == 2
    assert cost["core_share"] > 0
    assert "of one core" in capsys.readouterr().out


def test_a_picture_as_svg_loads_nothing_and_says_everything() -> None:
    board = Board()
    for timed in conversation(2, 40, START):
        board.see(timed.event, START + timed.at_s)
    drawn = picture(board, still.WIDTH - 1, still.HEIGHT - 1, START + 40)
    text = still.svg(drawn)
    assert text == still.svg(drawn), "the same again"
    assert not re.search(r"url\(\s*[\"']?http|@font-face|<script|<image", text)
    words = re.sub(r"<[^>]+>", " ", text).replace("&#160;", " ")
    for part in ("desk 01", "desk 02", "angry", "S1", "nodes up"):
        assert part in words


def test_a_picture_that_cannot_be_written_says_so(tmp_path, monkeypatch) -> None:
    class Ended:
        def __init__(self, plan, directory, sinks, observer):
            self._camera = sinks[0]

        def run(self) -> int:
            for timed in conversation(1, 20, START):
                self._camera.write(timed.event, START + timed.at_s)
            self._camera.tick(START + 20)
            return 0

    monkeypatch.setattr(still, "Run", Ended)
    still.still(tmp_path / "view.svg", 10.0)
    assert (tmp_path / "view.svg").read_text("utf-8").startswith("<svg")
    with pytest.raises(SinkError, match="cannot be written"):
        still.still(tmp_path / "no" / "view.svg", 10.0)
