"""What a cascade saves and loses, on votes that the test plants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abhinaya.bench.cascade import main
from abhinaya.bench.quality import stored
from abhinaya.bench.quality.offline import Answer
from abhinaya.models.base import Ballot, Card
from abhinaya.models.labels import LABELS

SURE = ("happy", 0.9)
SPLITS = ("--tune", "tune", "--report", "dev")


def planted(folder: Path) -> tuple[list[str], list[str]]:
    """Ten clips a split: S1 and T2 disagree on one, and are unsure of another; T1 is right."""
    truth = ["happy"] * 7 + ["sad"] * 3
    votes = {
        "S1": [SURE] * 7 + [("happy", 0.5), ("sad", 0.9), SURE],
        "T2": [SURE] * 7 + [("happy", 0.5), ("sad", 0.9), ("sad", 0.8)],
        "T1": [SURE] * 7 + [("sad", 1.0)] * 3,
    }
    seconds = {"S1": 0.04, "T2": 0.01, "T1": 0.95}
    fields = {"session": 0, "tag": "", "start": 0, "end": 16_000, "text": ""}
    answers = [
        Answer(
            material="m",
            speaker=split,
            truth=label,
            ballots={
                name: Ballot(said, tuple(p if said == one else (1 - p) / 7 for one in LABELS))
                for name, cast in votes.items()
                for said, p in [cast[i]]
            },
            cpu_s=seconds,
            **fields,
        )
        for split in ("tune", "dev")
        for i, label in enumerate(truth)
    ]
    cards = {name: Card(name, "1", frozenset(), LABELS, "") for name in votes}
    costs = stored.write(folder, {"m": answers}, cards)
    return [str(folder / "clips.jsonl"), *(str(folder / f"{name}.csv") for name in votes)], (
        costs.split()
    )


def test_the_confidence_is_chosen_on_one_split_and_reported_on_another(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    flags = ["--rule", "mean", "--resamples", "50", "--json", str(out)]
    files, costs = planted(tmp_path)
    assert costs == ["--cost", "S1=40.0", "--cost", "T2=10.0", "--cost", "T1=950.0"]
    assert main([*files, "--cascade", "T1", *SPLITS, *flags, *costs]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["confidence"] == 0.6
    never, chosen, always = figures["report"]
    assert [row["asked"] for row in (never, chosen, always)] == pytest.approx([0.0, 0.2, 1.0])
    assert [row["ms"] for row in (never, chosen, always)] == pytest.approx([50, 240, 1000])
    assert chosen["saved"] == pytest.approx(0.76)
    assert [row["accuracy"] for row in (never, chosen, always)] == pytest.approx([0.8, 1.0, 1.0])
    assert chosen["loss"]["difference"]["value"] == 0.0
    by_confidence = {row["confidence"]: row["asked"] for row in figures["tune"][1:-1]}
    assert by_confidence[0.0] == pytest.approx(0.1), "only the disagreement"
    assert sorted(by_confidence.values()) == [by_confidence[c] for c in sorted(by_confidence)]


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ([], "--cascade is missing"),
        (["--cascade", "S2"], "no predictions of S2; found: S1, T2, T1"),
        (["--cascade", "S1,T2,T1"], "names every voter"),
        (["--cascade", "T1", "--report", "tune"], "report what nothing chose on"),
        (["--cascade", "T1", "--cost", "T9=3"], "no votes of T9"),
        (["--cascade", "T1", "--cost", "T1=fast"], "give milliseconds, such as T1=40"),
        (
            ["--cascade", "T1", "--tune", "test9"],
            "test9: not a split or a speaker; known: dev, tune",
        ),
    ],
)
def test_what_does_not_fit_is_a_line(
    flags: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*planted(tmp_path)[0], *SPLITS, *flags]) == 1
    said = capsys.readouterr().err
    assert fault in said
    assert said.count("\n") == 1
