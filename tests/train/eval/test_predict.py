"""Predictions of any split: what a kill leaves is continued, and a hidden test gets its files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made_msp import make_msp

from abhinaya.models.base import Abstention, Ballot, Card, Utterance
from abhinaya.models.labels import LABELS, Attributes
from abhinaya.train.data.cli import main as data
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval import predict as predicting
from abhinaya.train.eval.models import Named
from abhinaya.train.eval.predict import predict
from abhinaya.train.eval.predict_cli import main
from abhinaya.train.eval.predictions import read_predictions

ONE = Named("S1", "loud")


class Loud:
    """A voter that hears how loud and long a clip is; it can be killed before any batch."""

    card = Card("loud", "1", frozenset({"audio"}), LABELS, "none", attributes=True)

    def __init__(self, dies_at: int = 99) -> None:
        self.batches, self.dies_at = 0, dies_at

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        self.batches += 1
        if self.batches == self.dies_at:
            raise KeyboardInterrupt
        found: list[Ballot | Abstention] = []
        for utterance in batch:
            share = float(np.abs(utterance.samples[:9]).mean() % 1)
            label = LABELS[len(utterance.samples) % len(LABELS)]
            shares = tuple((0.0 if name != label else 1 - share) + share / 8 for name in LABELS)
            rating = Attributes(1 + share, 7 - share, 4.0)
            found.append(
                Ballot(label, shares, attributes=rating) if share < 0.9 else Abstention("no")
            )
        return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_msp(tmp_path_factory.mktemp("msp"), {"Development": 2}, hidden=12)
    out = folder / "msp.jsonl"
    assert data(["prepare", "msp-podcast", str(folder), "--out", str(out)]) == 0
    return out


@pytest.fixture
def hidden(corpus: Path) -> Manifest:
    return read_manifest(corpus).only("test3")


@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_is_killed_twice_writes_the_file_of_an_undisturbed_one(
    seed: int, hidden: Manifest, tmp_path: Path
) -> None:
    predict(ONE, Loud(), hidden, tmp_path / "whole.csv", 2)
    path, rng = tmp_path / "S1.csv", np.random.default_rng(seed)
    journal = tmp_path / "S1.csv.journal"
    voters = [Loud(int(rng.integers(3, 5))), Loud(2)]
    for voter in voters:
        with pytest.raises(KeyboardInterrupt):
            predict(ONE, voter, hidden, path, 2)
        assert not path.exists()
        # the kill came amid a write
        journal.write_bytes(journal.read_bytes()[: -int(rng.integers(1, 60))])
    last = Loud()
    predict(ONE, last, hidden, path, 2)
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert last.batches < 6
    assert not journal.exists()


def test_what_another_model_began_is_not_continued(hidden: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "S1.csv"
    with pytest.raises(KeyboardInterrupt):
        predict(ONE, Loud(2), hidden, path, 2)
    for one, clips in (
        (Named("S1", "loud", {"dtype": "float32"}), hidden),
        (ONE, Manifest(hidden.root, hidden.clips[1:])),
    ):
        with pytest.raises(DataError, match=r"was started with other settings.*remove it"):
            predict(one, Loud(), clips, path, 2)


def test_clips_that_cannot_be_read_are_counted_and_tried_again(
    hidden: Manifest, tmp_path: Path
) -> None:
    broken = hidden.root / hidden.clips[3].path
    sound, path = broken.read_bytes(), tmp_path / "S1.csv"
    broken.unlink()
    with pytest.raises(DataError, match=r"1 of 12 audio files.*test3_0004.*--max-missing"):
        predict(ONE, Loud(), hidden, path, 2)
    gone = predict(ONE, voter := Loud(), hidden, path, 2, max_missing=0.1)
    assert (gone.total(), voter.batches) == (1, 1)  # only the batch with the lost clip
    assert len(read_predictions(path, "S1")["S1"].ballots) == 11
    broken.write_bytes(sound)
    predict(ONE, Loud(), hidden, path, 2)
    assert len(read_predictions(path, "S1")["S1"].ballots) == 12


def test_a_full_disk_loses_nothing(
    hidden: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, voter = tmp_path / "S1.csv", Loud()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(predicting, "write_predictions", full)
        with pytest.raises(OSError, match="No space"):
            predict(ONE, voter, hidden, path, 2)
    predict(ONE, again := Loud(), hidden, path, 2)
    assert (voter.batches, again.batches) == (6, 0)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_the_hidden_test_gets_the_files_of_the_challenge(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labels, rated = tmp_path / "w", tmp_path / "labels.csv", tmp_path / "attributes.csv"
    said = [["sad", 0.5], ["happy", 9.0], ["happy", 4.0]]
    names = [f"MSP-PODCAST_test3_{k:04}" for k in range(1, 13)]
    for k, (label, valence) in enumerate(said):
        rows = [f"{name}.wav,{label},3,{valence},5" for name in names[k:]]
        text = "\n".join(["FileName,EmoClass,EmoAct,EmoVal,EmoDom", *rows])
        (tmp_path / f"v{k}.csv").write_text(f"{text}\n")
    files = [str(tmp_path / f"v{k}.csv") for k in range(3)]
    forms = ["--labels", str(labels), "--attributes", str(rated), "--priority", "v0"]
    command = [str(corpus), *files, "--split", "test3", "--write", str(out), *forms]
    assert main(command) == 0
    found = rows_of(labels)
    assert list(found[0]) == ["FileName", "EmoClass"]
    assert [row["FileName"] for row in found] == [f"{name}.wav" for name in names]
    assert [row["EmoClass"] for row in found] == [
        "S",
        "S",
        *["H"] * 10,
    ]  # alone, a tie, two of three
    values = [row["EmoVal"] for row in rows_of(rated)]
    assert values == ["1.000000", "4.750000", *["4.500000"] * 10]  # the mean, within 1 to 7
    assert list(rows_of(rated)[0]) == ["FileName", "EmoAct", "EmoVal", "EmoDom"]
    joint = read_predictions(out / "vote.csv", "vote")["vote"]
    assert joint.models == {("vote", "majority")}
    cascade = [*command, "--cascade", "v1,v2", "--cascade-confidence"]
    assert main([*cascade, "0"]) == 0  # v0 is alone, so nobody disagrees
    assert {row["EmoClass"] for row in rows_of(labels)} == {"S"}
    assert main([*cascade, "2"]) == 1
    assert "cascade_confidence must be in [0, 1], not 2" in capsys.readouterr().err
    assert main([*command[:1], *command[2:]]) == 0  # the first voter is gone, and its clip
    said_now = capsys.readouterr()
    assert "without an answer: 1, the first MSP-PODCAST_test3_0001" in said_now.out
    assert len(rows_of(labels)) == 11
    assert "v2: no answer to 2 of 12 clips" in said_now.err
    assert main([str(corpus), "--split", "test3"]) == 1
    assert "nothing to predict with" in capsys.readouterr().err
    for more in (["--vote", files[0]], ["--write", str(tmp_path), "--model", "vote=tiny-text"]):
        assert main([*command, *more]) == 1
        assert "has predictions to combine; give the output another" in capsys.readouterr().err


def test_embedded_models_label_the_hidden_test(corpus: Path, tmp_path: Path) -> None:
    models = [
        "--model",
        "S1.b=tiny-speech",
        "--model",
        "T2=tiny-text",
    ]
    words = [str(corpus), "--split", "test3", *models, "--write", str(tmp_path)]
    assert main([*words, "--labels", str(tmp_path / "sub.csv")]) == 0
    assert len(rows_of(tmp_path / "sub.csv")) == 12
    first = rows_of(tmp_path / "S1.b.csv")[0]
    assert list(first) == ["FileName", "EmoClass", *LABELS, "model", "version", "split"]
    assert (first["model"], first["split"]) == ("tiny-speech", "test3")
