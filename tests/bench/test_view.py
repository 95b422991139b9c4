"""The bench of the live view: calls side by side, its figures, and the picture it makes."""

from __future__ import annotations

import json
import re

import fakes
import pytest

from abhinaya.bench import view
from abhinaya.bench.view import Recorded
from abhinaya.stream.errors import ProcessError, SinkError
from abhinaya.stream.wire.messages import Activity, StreamInfo, StreamStarted

START = 1_000_000.0


def call() -> list[Recorded]:
    """Two parties in turn, each with a part of its segment a second before the whole."""
    events = []
    for side in view.CHANNELS:
        info = StreamInfo(
            stream=f"call/{side}", front="front-0", source="call", live=True, start_unix_s=START
        )
        events.append(Recorded(START, StreamStarted(info=info)))
    for second in range(2, 40, 4):
        name = f"call/{view.CHANNELS[second // 4 % 2]}"
        at = second * fakes.SECOND
        activity = Activity(stream=name, position=at, speaking=True)
        events.append(Recorded(START + second, activity))
        for part, after in ((1, 1.5), (0, 3.0)):
            verdict = fakes.verdict(
                second // 8,
                stream=name,
                start=at,
                end=at + 2 * fakes.SECOND,
                start_unix_s=START + second,
                captured_unix_s=START + second + 2,
                part=part,
            )
            events.append(Recorded(START + second + after, verdict))
    return events


def test_calls_stand_side_by_side_each_a_little_later() -> None:
    events = call()
    shown = view.several(events, 6)
    assert [one.at_unix_s for one in shown] == sorted(one.at_unix_s for one in shown)
    started = [one for one in shown if isinstance(one.event, StreamStarted)]
    assert [one.event.info.stream for one in started] == [
        f"call-{n:02}/{view.CHANNELS[n % 2]}" for n in range(6)
    ]
    assert [one.event.info.start_unix_s for one in started] == pytest.approx(
        [START + view.APART_S * (n // 2) for n in range(6)]
    )
    assert len(shown) == 3 * len(events)


def test_sixteen_streams_cost_a_small_part_of_a_core() -> None:
    """A tenth is what may be; a fiftieth is usual. The machine may be busy: best of three."""
    costs = [view.measure(call(), 16) for _ in range(3)]
    assert min(cost["core_share"] for cost in costs) < 0.1
    assert all(1 < cost["pictures_per_s"] <= 8.1 for cost in costs)


def test_the_figures_are_written_with_the_machine(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(view, "listen", call)
    path = tmp_path / "view.json"
    assert view.main(["--streams", "2", "--json", str(path)]) == 0
    (cost,) = json.loads(path.read_text())["figures"]["costs"]
    assert cost["streams"] == 2
    assert cost["core_share"] > 0
    assert "of one core" in capsys.readouterr().out


def test_a_picture_as_svg_loads_nothing_and_says_everything() -> None:
    text = view.svg(view.still(call(), 30.0))
    assert text == view.svg(view.still(call(), 30.0)), "the same again"
    assert not re.search(r"url\(\s*[\"']?http|@font-face|<script|<image", text)
    words = re.sub(r"<[^>]+>", " ", text).replace("&#160;", " ")
    for part in ("call/agent", "call/customer", "happy", "S1"):
        assert part in words


def test_a_picture_that_cannot_be_made_or_written_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(view, "listen", call)
    assert view.main(["--svg", str(tmp_path / "view.svg"), "--at", "10"]) == 0
    assert (tmp_path / "view.svg").read_text("utf-8").startswith("<svg")
    with pytest.raises(SinkError, match="cannot be written"):
        view.main(["--svg", str(tmp_path / "no" / "view.svg"), "--at", "10"])
    with pytest.raises(ProcessError, match="ended before 900 s"):
        view.still(call(), 900.0)
