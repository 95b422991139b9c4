from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from abhinaya.train.cli import main
from abhinaya.train.compact_manner import MannerBatches, MannerRecipe, measured_manners
from abhinaya.train.compact_speech import SPEECH_LABELS
from abhinaya.train.crossval import HEARD_S, PARTS, Scored, folds_of, report
from abhinaya.train.data.clips import read_clips
from abhinaya.train.data.sessions import render
from abhinaya.train.speech_batches import BatchPlan


def test_every_speaker_is_left_out_once_and_each_corpus_once_as_a_whole(tiny: Path) -> None:
    clips = read_clips(tiny, ["ravdess", "nemo"])
    many = [replace(c, speaker=f"{c.speaker}-{k}") for c in clips for k in range(2)]
    folds = folds_of(many)
    numbered = [fold.speakers for fold in folds if fold.name.isdecimal()]
    assert [len(speakers) for speakers in numbered] == [6, 6]
    assert not numbered[0] & numbered[1]
    assert numbered[0] | numbered[1] == {clip.speaker for clip in many}
    for name in ("ravdess", "nemo"):
        (fold,) = (fold for fold in folds if fold.name == name)
        assert fold.speakers == {clip.speaker for clip in many if clip.corpus == name}


def test_a_fold_is_kept_and_scored_by_who_was_left_out(
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("abhinaya.train.crossval.SPEAKERS_A_FOLD", 1)
    folders = ["--data", str(tiny), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    short = ["--steps", "2", "--set", "manner.seeds=2"]
    assert main(["crossval", *folders, *short, "--folds", "1,nemo"]) == 0
    said = capsys.readouterr().out
    assert "fold 1: without nemo_EB0, ravdess_01" in said
    assert "trained without nemo, 20 s heard: macro-F1" in said
    assert "over 42 clips" in said  # three speakers of nEMO
    assert "over 14 clips" in said  # one of each corpus
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("fold-*.npz")}
    assert len(kept) == 2
    assert main(["crossval", *folders, *short, "--folds", "1,nemo"]) == 0
    again = capsys.readouterr().out
    assert "without nemo_EB0" not in again  # nothing was trained again
    assert [line for line in said.splitlines() if "macro-F1" in line] == again.splitlines()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("fold-*.npz")} == kept


def test_a_fold_that_is_none_is_refused(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crossval", "--data", str(tiny), "--folds", "9"]) == 1
    assert "no fold 9" in capsys.readouterr().err


def test_a_fold_without_anybody_left_is_refused(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--cache", str(tmp_path), "--out", str(tmp_path)]
    assert main(["crossval", *folders, "--folds", "1"]) == 1  # three speakers are all there are
    assert "nobody to learn from" in capsys.readouterr().err


def test_the_report_counts_what_was_said() -> None:
    truth = np.array([0, 4, 4, 0])
    logits = np.zeros((len(HEARD_S), len(PARTS), 4, len(SPEECH_LABELS)), np.float32)
    logits[:, :, np.arange(4), [0, 4, 0, 0]] = 1.0
    scored = Scored(("a", "a", "b", "b"), ("nemo",) * 4, truth, logits)
    lines = report({"1": scored})
    # angry: 2 of 2 found, 3 said: F1 .8; neutral: 1 of 2 found, 1 said: .667
    assert all("macro-F1 0.733" in line for line in lines)
    assert all("neutral labelled otherwise 0.500" in line for line in lines)
    assert len(lines) == len(HEARD_S) * len(PARTS) + 1


def test_manners_are_drawn_by_seed_and_mixed_with_their_labels(tiny: Path, tmp_path: Path) -> None:
    sessions = render(read_clips(tiny, ["ravdess"]), tiny, tmp_path, 0, 3, workers=1)
    manners = measured_manners(sessions, BatchPlan(), 2, np.random.default_rng(0))
    assert manners.shape[:2] == (len(sessions.clips), 2)
    classes = np.array([SPEECH_LABELS.index(clip.label) for clip in sessions.clips])
    chance = np.full(len(classes), 1.0 / len(classes))
    recipe = MannerRecipe(size=64, smoothing=0.0, mixing=0.0)
    draws = [MannerBatches(manners, classes, chance, 7, recipe, s).draw() for s in (0, 0, 1)]
    assert (draws[0][0] == draws[1][0]).all()
    assert not (draws[0][0] == draws[2][0]).all()
    assert set(draws[0][1].max(dim=1).values.tolist()) == {1.0}
    _, mixed = MannerBatches(manners, classes, chance, 7, replace(recipe, mixing=1.0), 0).draw()
    assert ((mixed > 0.05).sum(dim=1) == 2).any()
    np.testing.assert_allclose(mixed.sum(dim=1), 1.0, atol=1e-5)
