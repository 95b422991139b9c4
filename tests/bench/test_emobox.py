"""EmoBox's protocol: published folds, its metrics by hand, what a model has learnt from."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
from trainer_fakes import write_wav

from abhinaya.bench.quality.emobox import scored
from abhinaya.bench.quality.emobox_splits import FACTS, Fold, Protocol, protocol
from abhinaya.stream.commands.main import GROUP, main
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.errors import DataError

CODES = {"01": "neutral", "02": "calm", "05": "angry"}


def ravdess(folder: Path, actors: tuple[int, ...] = (1, 11, 17)) -> Path:
    """Two clips of each class and actor; anger is louder and higher."""
    rng = np.random.default_rng(0)
    for actor in actors:
        for code in CODES:
            for take in ("01", "02"):
                t = np.arange(11_200) / 16_000
                tone = (0.5 if code == "05" else 0.1) * np.sin(2 * np.pi * 90 * int(code) * t)
                name = f"03-01-{code}-01-01-{take}-{actor:02}"
                sound = tone + 0.01 * rng.standard_normal(len(t))
                write_wav(folder / f"Actor_{actor:02}" / f"{name}.wav", sound, 16_000)
    return folder


def test_the_folds_of_ravdess_are_its_actors_each_once() -> None:
    actors = sorted(actor for fold in FACTS["ravdess"]["speakers"] for actor in fold)
    assert actors == [f"{n:02}" for n in range(1, 25)]


def test_folds_by_speaker_and_a_class_outside_the_eight(tmp_path: Path) -> None:
    found = protocol("ravdess", ravdess(tmp_path), None)
    speakers = [{found.manifest.clips[i].speaker for i in fold.test} for fold in found.folds]
    assert speakers == [{"ravdess_01", "ravdess_11"}, {"ravdess_17"}]
    assert all(not set(fold.train) & set(fold.test) for fold in found.folds)
    assert sorted(found.truth.values()) == sorted([*CODES.values()] * 6)
    assert (found.listed, len(found.truth)) == (1_440, 18)


def test_figures_by_hand() -> None:
    truth = dict(enumerate(["angry", "angry", "angry", "calm", "angry", "sad"]))
    folds = (Fold((4, 5), (0, 1, 2, 3)), Fold((0, 1), (4, 5)))
    on = Protocol(Manifest(Path(), ()), truth, folds, "", 6)
    # calm cannot be said; the second clip has no answer; sad is called angry
    said = {0: "angry", 2: "angry", 3: "neutral", 4: "angry", 5: "angry"}
    row = scored("S1", "", on, said)
    assert (row.folds, row.clips) == (2, 6)
    assert row.ua == pytest.approx(100 * ((2 / 3 + 0) / 2 + (1 + 0) / 2) / 2)
    assert row.wa == pytest.approx(100 * (2 / 4 + 1 / 2) / 2)
    assert row.f1 == pytest.approx(100 * (0.8 / 2 + (2 / 3) / 2) / 2)
    assert scored("S1", "", on, said, {4, 5}).wa == pytest.approx(50.0)


def splits(folder: Path, test: list[str], train: list[str], name: str = "ravdess") -> Path:
    """EmoBox's folder `data` with one fold of `name`."""
    fold = folder / name / "fold_1"
    fold.mkdir(parents=True)
    labels = {"Calm": "Calm", "Fearful": "Fear"}
    (folder / name / "label_map.json").write_text(json.dumps(labels))
    for part, stems in (("test", test), ("train", train)):
        lines = (
            json.dumps({"key": stem, "wav": f"downloads/x/Actor_01/{stem}.wav", "emo": emo})
            for stem, emo in (pair.split("=") for pair in stems)
        )
        (fold / f"{name}_{part}_fold_1.jsonl").write_text("".join(f"{x}\n" for x in lines))
    return folder


def test_splits_of_its_own_files_and_clips_that_are_not_here(tmp_path: Path) -> None:
    test = ["03-01-02-01-01-01-01=Calm", "03-01-05-01-01-01-01=Fearful", "03-01-05-01-01-01-02=Sad"]
    given = splits(tmp_path / "data", test, ["03-01-01-01-01-01-01=Neutral"])
    found = protocol("ravdess", ravdess(tmp_path / "audio"), given)
    (fold,) = found.folds
    assert [found.truth[i] for i in fold.test] == ["calm", "fear"]
    assert [found.manifest.clips[i].id for i in fold.train] == ["03-01-01-01-01-01-01"]
    assert found.listed == 3


@pytest.mark.parametrize(
    ("corpus", "test", "train", "message"),
    [
        ("nemo", [], [], "nemo: not a corpus of EmoBox"),
        ("cremad", None, None, "its folds are lists of clips; give the folder `data`"),
        ("ravdess", [], [], "none of its test clips is in"),
        ("ravdess", ["03-01-01-01-01-01-01=A"], ["03-01-01-01-01-01-01=A"], "in train and test"),
        ("ravdess", ["broken"], [], r"fold_1\.jsonl:1: not a clip of EmoBox"),
        ("savee", ["a=A"], [], "has no savee/fold_1"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(
    corpus: str, test: list[str] | None, train: list[str], message: str, tmp_path: Path
) -> None:
    audio = ravdess(tmp_path / "audio", (1,))
    if corpus == "savee":
        write_wav(audio / "DC" / "a01.wav", np.zeros(800), 16_000)
    if corpus == "cremad":
        write_wav(audio / "1001_IEO_ANG_LO.wav", np.zeros(800), 16_000)
    given = None
    if test is not None and corpus != "nemo":
        given = splits(tmp_path / "data", [t for t in test if "=" in t], train)
        if test == ["broken"]:
            path = given / "ravdess" / "fold_1" / "ravdess_test_fold_1.jsonl"
            path.write_text('{"wav": "x.wav"}\n')
    if corpus == "savee":
        given = tmp_path
    with pytest.raises(DataError, match=message):
        protocol(corpus, audio, given)


def test_the_command_leaves_out_what_a_voter_has_learnt_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("eval emobox", "abhinaya.bench.quality.emobox:main", GROUP)
    found = [importlib.metadata.EntryPoint(*command)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
    audio, report = ravdess(tmp_path / "audio"), tmp_path / "figures.json"
    corpus = ["eval", "emobox", "--corpus", "ravdess", "--data", str(audio)]
    out = ["--write", str(tmp_path / "written"), "--json", str(report)]
    assert main([*corpus, *out, "--model", "S1=tiny-speech", "--probe", "embedded"]) == 0
    said = capsys.readouterr().out
    assert "ravdess: 2 folds by speakers, as in its repository; 18 of 1440 clips" in said
    assert "left out: 12 clips of speakers that a model was trained on" in said
    rows = {row["system"]: row for row in json.loads(report.read_text())["rows"]}
    assert (rows["S1"]["clips"], rows["S1"]["trained_on"]) == (6, "other speakers of it")
    assert rows["probe of the embedded encoder"]["clips"] == 18
    assert rows["probe of the embedded encoder, same clips"]["clips"] == 6
    assert rows["Whisper large v3, published"]["ua"] == 75.3
    assert main([*corpus, *out]) == 1
    assert "nothing to score" in capsys.readouterr().err
    assert main([*corpus, *out, "--model", "S1=tiny-speech", "--learnt", "ravdess_*"]) == 1
    assert "trained on the speakers of every test clip" in capsys.readouterr().err
