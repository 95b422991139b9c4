"""The offline refiner against a server that answers as each test says."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scripted_server import Say, completion, scripted
from trainer_fakes import write_wav

from abhinaya.bench.refine import main
from abhinaya.models.base import Ballot
from abhinaya.models.served.replies import Reply, judge_refined
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, write_manifest

TRUTH = ("sad", "happy", "angry", "fear") * 3


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("fear", "fear"),
        (" Fear.\n", "fear"),
        ("<think>sad? no</think>fear", "fear"),
        ("NA", ""),
        ("n/a", ""),
        ("", ""),
        ("fear, because it is loud", ""),
        ("not fear", ""),
        ("fear or sad", ""),
        ("bored", ""),
        ("anger", ""),
        ('{"emotion": "fear"}', ""),
        ("I cannot help with that", ""),
    ],
)
def test_only_one_label_alone_changes_a_prediction(reply: str, label: str) -> None:
    found = judge_refined(Reply(reply), ("fear", "sad", "happy"))
    assert (found.label if isinstance(found, Ballot) else "") == label


def case(folder: Path, labelled: bool = True) -> list[str]:
    """Twelve clips with words that name the truth, of which the recogniser says `sad`."""
    clips = []
    for i, label in enumerate(TRUTH):
        seconds = np.arange(16_000) / 16_000
        write_wav(folder / f"c{i}.wav", 0.3 * np.sin(2 * np.pi * 200 * seconds))
        clips.append(
            Clip(f"c{i}", "made", f"s{i % 3}", {label: 1.0} if labelled else {},
                 path=f"c{i}.wav", split="dev", transcript=f"this is {label}")
        )  # fmt: skip
    write_manifest(folder / "m.jsonl", Manifest(folder, tuple(clips)))
    with (folder / "p.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom"])
        rows.writerows([clip.id, "S", 2, 3, 4] for clip in clips[:-1])
    return [str(folder / "m.jsonl"), str(folder / "p.csv"), "--model", "m", "--batch", "4"]


def heard(_: int, request: dict) -> Say:
    """The server: it names the label of the words, but not fear."""
    (word,) = re.findall(r"this is (\w+)", request["messages"][1]["content"])
    return Say(completion("NA" if word == "fear" else word))


def test_a_killed_run_continues_and_tells_what_the_refiner_gained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, out = case(tmp_path), tmp_path / "r.csv"
    report = ["--out", str(out), "--json", str(tmp_path / "r.json"), "--resamples", "50"]
    dead = Say("", status=503)
    with scripted(lambda n, r: heard(n, r) if n < 8 else dead) as server:
        gone = ["--option", "wait_s=0.1", "--option", "concurrency=1"]
        assert main([*arguments, *report, "--base-url", server.url, *gone]) == 1
        assert "run the command again" in capsys.readouterr().err
    assert not out.exists()
    with scripted(heard) as server:
        assert main([*arguments, *report, "--base-url", server.url]) == 0
        assert len(server.requests) == 3, "the first eight are not asked again"
        (request,) = [r for r in server.requests if '"s2"' in str(r)]
    system, user = (message["content"] for message in request["messages"])
    assert request["temperature"] == 0.3
    assert "80 %" in system
    assert "angry, contempt, disgust, fear, happy, neutral, sad, surprise" in system
    assert "Recognised emotion: sad" in user
    assert 'Speaker: "s2"' in user
    assert re.search(r"\d seconds; highest amplitude 0\.\d+; loudness -\d+ dB", user)
    assert "words a second" in user
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["EmoClass"] for row in rows] == ["sad", "happy", "angry", "sad"] * 2 + [
        "sad", "happy", "angry",
    ]  # fmt: skip
    assert rows[0]["EmoVal"] == "3.000000"
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["clips"], found["changed"], found["kept"]) == (11, 6, {"NA": 2})
    assert found["before"]["value"] < found["after"]["value"]
    difference = found["gain"]["difference"]
    assert difference["value"] == pytest.approx(found["after"]["value"] - found["before"]["value"])
    assert difference["low"] > 0
    assert "macro-F1 without refinement" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.glob("r.csv*")) == ["r.csv"]


def test_clips_without_labels_are_refined_and_other_settings_do_not_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, out = case(tmp_path, labelled=False), tmp_path / "r.csv"
    with scripted(heard) as server:
        where = ["--out", str(out), "--base-url", server.url]
        assert main([*arguments, *where]) == 0
        told = capsys.readouterr().out
        assert "6 of 11 labels changed" in told
        assert "macro-F1" not in told
        (tmp_path / "r.csv.journal").write_text('{"schema": "abhinaya.refined/1"}\n')
        assert main([*arguments, *where]) == 1
        assert "was started with other settings" in capsys.readouterr().err
