"""False alarms: how they are counted, and what recall it costs to have fewer."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.vote.ensemble import Decision
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.eval.cli import main
from abhinaya.train.eval.curve import curve


def verdict(stream: str, segment: int, label: str, **changes: Any) -> dict[str, Any]:
    shares = dict.fromkeys(LABELS, 0.4 / 7) | {changes.pop("said", label): 0.6}
    voted = max(shares, key=shares.__getitem__) if label == UNKNOWN else label
    vote = {"voter": "S1", "label": voted, "probabilities": shares, "model": "m", "version": "1"}
    event = {
        "schema": "abhinaya.event/1",
        "type": "verdict",
        "stream": stream,
        "segment": segment,
        "start_s": 1.0,
        "end_s": 3.0,
        "label": label,
        "revision": 0,
        "final": True,
        "votes": [vote],
    }
    return event | changes


def write_events(path: Path, events: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(e) + "\n" for e in events), "utf-8")
    return str(path)


EVENTS = [
    {"type": "stream_started", "stream": "a"},
    verdict("a", 0, "neutral"),
    verdict("a", 1, "angry"),
    verdict("a", 1, "neutral", revision=1),  # only the last revision counts
    verdict("a", 2, "sad", final=False),  # on speech that went on
    verdict("a", 2, "neutral"),
    verdict("a", 3, UNKNOWN, said="happy"),
    {"type": "gap", "stream": "a", "segment": 4},
    verdict("b", 0, "happy"),
    verdict("b", 1, "angry"),
]


# --- the curve ------------------------------------------------------------------------------------


def decided(label: str, confidence: float | None) -> Decision:
    return Decision(label, label, confidence, 1.0, 1.0)


def test_a_curve_by_hand() -> None:
    truth = np.array([LABELS.index(x) for x in ("angry", "angry", "sad", "neutral")], np.int64)
    said = [decided("angry", 0.8), decided("angry", 0.4), decided("sad", 0.6)]
    said.append(decided("neutral", 0.9))
    neutral = [decided("neutral", 0.9), decided("sad", 0.5), decided("happy", 0.7)]
    points = curve(said, truth, neutral, [0.0, 0.45, 0.65, 0.95])
    assert [p["recall"] for p in points] == pytest.approx([1.0, 0.75, 0.25, 0.0])
    assert [p["alarms"] for p in points] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0.0])
    assert [p["answered"] for p in points] == pytest.approx([1.0, 6 / 7, 4 / 7, 0.0])


def write_case(folder: Path) -> list[str]:
    """Four angry clips found with falling confidence, four neutral ones, one called angry."""
    rows = [("angry", "angry", 0.9 - 0.1 * i) for i in range(4)]
    rows += [("neutral", "neutral", 0.8)] * 3 + [("neutral", "angry", 0.75)]
    clips = tuple(
        Clip(f"c{i}", "made", f"s{i % 2}", {truth: 1.0}, split="dev")
        for i, (truth, _, _) in enumerate(rows)
    )
    write_manifest(folder / "truth.jsonl", Manifest(folder, clips))
    with (folder / "S1.csv").open("w", newline="") as out:
        lines = csv.writer(out)
        lines.writerow(["id", "label", *LABELS])
        for i, (_, said, share) in enumerate(rows):
            rest = (1 - share) / 7
            lines.writerow([f"c{i}", said, *(share if x == said else rest for x in LABELS)])
    return [str(folder / "truth.jsonl"), str(folder / "S1.csv")]


def test_the_command_says_what_holds_the_alarms_and_draws_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, page, out = write_case(tmp_path), tmp_path / "c.html", tmp_path / "c.json"
    assert main(["curve", *files, "--html", str(page), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["held"]["min_confidence"] == pytest.approx(0.75)
    assert found["held"]["min_confidence"] > 0.75
    assert found["held"]["recall"] == pytest.approx(0.5)  # 0.9 and 0.8 of the four
    assert found["points"][0] == {
        "min_confidence": 0.0, "recall": 1.0, "alarms": 0.25, "answered": 1.0,
    }  # fmt: skip
    assert "with a recall of 0.500 (1.000 without a threshold)" in capsys.readouterr().out
    text = page.read_text()
    svg = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    circles = [e for e in svg.iter() if e.tag.endswith("circle")]
    assert len(circles) == len(found["points"])
    assert "<script" not in text


def test_false_alarms_can_be_counted_on_other_recordings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_case(tmp_path)
    # each segment counts, of however few streams
    quiet = [verdict("pod", i, "neutral") for i in range(9)] + [verdict("pod", 9, "angry")]
    neutral = write_events(tmp_path / "pod.jsonl", quiet)
    out = tmp_path / "c.json"
    assert main(["curve", *files, "--neutral", neutral, "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert (found["neutral_items"], found["points"][0]["alarms"]) == (10, 0.1)
    assert found["held"]["min_confidence"] == 0.0
    assert main(["curve", *files, "--neutral", files[1], "--json", str(out)]) == 0
    assert json.loads(out.read_text())["neutral_items"] == 8
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--neutral", "gone.jsonl"], "no such file"),
        (["--neutral", "Q=S1.csv"], "no votes of S1; there are those of Q"),
        (["--alarms", "2"], "--alarms 2.0: must be between 0 and 1"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    files = write_case(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["curve", *files, *more]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
