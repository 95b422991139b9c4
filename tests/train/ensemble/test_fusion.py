"""Fusing attributes: planted systems, the file, table 6, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from abhinaya.models.base import Ballot
from abhinaya.models.labels import ATTRIBUTES
from abhinaya.models.vote.combiner_file import read_combiner
from abhinaya.models.vote.ensemble import Rule, decide
from abhinaya.models.vote.fitted import Fusion
from abhinaya.train.cli import main as train
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.ensemble.fusion import fit_fusion
from abhinaya.train.errors import DataError
from abhinaya.train.eval.attributes import Rater, rated
from abhinaya.train.eval.cli import main as evaluate

NOISE = {"A": 0.05, "B": 0.3, "C": 0.1}
SHRUNK = {"A": 0.4, "B": 1.0, "C": 0.5}
"""Each system: how much noise it adds, and how much it shrinks to the middle."""


def planted(n: int = 200, seed: int = 0) -> tuple[tuple[Clip, ...], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 1, (n, 3))
    clips = tuple(
        Clip(f"c{i}", "made", f"s{i % 7}", {"sad": 1.0} if i % 2 else {"happy": 1.0},
             split="dev", attributes=dict(zip(ATTRIBUTES, map(float, row), strict=True)))
        for i, row in enumerate(truth)
    )  # fmt: skip
    given = {
        name: np.clip(0.5 + SHRUNK[name] * (truth - 0.5) + rng.normal(0, noise, (n, 3)), 0, 1)
        for name, noise in NOISE.items()
    }
    return clips, given


def raters(given: dict[str, np.ndarray]) -> list[Rater]:
    return [Rater(name, values) for name, values in given.items()]


def test_the_fitted_fusion_is_nearer_to_held_out_speakers_than_the_mean() -> None:
    clips, given = planted()
    given["B"][:20] = np.nan
    fusion, plans, metrics = fit_fusion(raters(given), rated(clips, resamples=200))
    assert metrics["ccc_ridge"] > 0.9
    assert metrics["ccc_gain_over_mean"][1] > 0
    assert set(map(len, fusion.models)) == {1, 2, 3}, "every subset"
    assert "spread" in plans["A+B+C"]
    # shrunk answers are spread again, and stay on the scale
    low, high = (fusion({"A": (x, x, x)}) for x in (2.8, 7.0))
    assert max(low) < 2.0
    assert high == (7.0, 7.0, 7.0)


def test_a_decision_has_fused_attributes_and_by_the_mean_what_nothing_was_fitted_for() -> None:
    weights = np.hstack([np.eye(3) * 0.25, np.eye(3) * 0.75])
    fusion = Fusion({("A", "B"): (weights, np.array([0.0, 0.5, -9.0]))})
    a, b = Ballot(attributes=(2.0, 4.0, 4.0)), Ballot("sad", attributes=(6.0, 4.0, 4.0))
    assert decide({"B": b, "A": a}, Rule(fusion=fusion)).attributes == (5.0, 4.5, 1.0)
    assert decide({"B": b, "C": a}, Rule(fusion=fusion)).attributes == (4.0, 4.0, 4.0)
    assert decide({"B": b, "A": a}, Rule()).attributes == (4.0, 4.0, 4.0)


def written(folder: Path, with_labels: bool = False) -> list[str]:
    clips, given = planted()
    write_manifest(folder / "truth.jsonl", Manifest(folder, clips))
    for name, values in given.items():
        with (folder / f"{name}.csv").open("w", newline="") as out:
            rows = csv.writer(out)
            label = ["EmoClass"] if with_labels else []
            rows.writerow(["FileName", *label, "EmoAct", "EmoVal", "EmoDom"])
            for clip, row in zip(clips, values, strict=True):
                rows.writerow([clip.id, *("S" for _ in label), *(1 + 6 * row)])
    return [str(folder / "truth.jsonl"), *(str(folder / f"{name}.csv") for name in given)]


@pytest.mark.parametrize("with_labels", [False, True])
def test_the_command_writes_a_fusion_and_table_6_has_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], with_labels: bool
) -> None:
    files, out = written(tmp_path, with_labels), str(tmp_path / "c.json")
    more = ["--method", "majority"] if with_labels else []
    assert train(["ensemble", *files, "--attributes", "--out", out, *more]) == 0
    assert "ccc_gain_over_mean" in capsys.readouterr().out
    combiner = read_combiner(Path(out))
    assert combiner.method == ("majority" if with_labels else "mean")
    report = tmp_path / "r.json"
    assert evaluate([*files, "--combiner", out, "--resamples", "50", "--json", str(report)]) == 0
    rows = {row["name"]: row for row in json.loads(report.read_text())["attributes"]["systems"]}
    assert list(rows) == [*NOISE, "mean of all", "fitted fusion"]
    fused = rows["fitted fusion"]
    assert fused["mean"]["low"] > max(
        rows[name]["mean"]["high"] for name in (*NOISE, "mean of all")
    )
    assert fused["gain"]["over"] == "A"


def test_what_cannot_be_fused_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips, given = planted(49)
    with pytest.raises(DataError, match="49 clips are rated by all of A, B, C; 50 are needed"):
        fit_fusion(raters(given), rated(clips))
    files, out = written(tmp_path), ["--out", str(tmp_path / "c.json")]
    for arguments, words in (
        ([*files[:2], "--attributes"], "1 systems give attributes; a fusion needs two"),
        (files, "the predictions have attributes only: give --attributes"),
    ):
        assert train(["ensemble", *arguments, *out]) == 1
        assert words in capsys.readouterr().err
