"""Models run by `abhinaya eval`: what they say alone is what is written and scored."""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_server import Say, completion, scripted
from tiny_checkpoints import save_wavlm
from trainer_fakes import shrunk, write_wav

from abhinaya.models.base import Abstention, Ballot, Card, Utterance, ballot
from abhinaya.models.checkpoint import read
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load
from abhinaya.train.cli import main as train
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.cli import main
from abhinaya.train.eval.models import Named
from abhinaya.train.eval.predict import ask, predict
from abhinaya.train.eval.predictions import read_predictions


class Lengths:
    """A voter whose probabilities tell how long an utterance is: angry for all of 10 s."""

    card = Card("lengths", "1", frozenset({"audio"}), LABELS, "none")

    def __init__(self) -> None:
        self.seen: list[int] = []

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        self.seen += [len(u.samples) for u in batch]
        shares = [min(1.0, len(u.samples) / 160_000) for u in batch]
        return [ballot([s, *[0.0] * 6, 1.0 - s]) for s in shares]


def test_a_checkpoint_is_evaluated_by_its_folder_alone(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [word for s in shrunk("s1", tmp_path) for word in ("--set", s)]
    out, written = tmp_path / "run", tmp_path / "predictions"
    assert train(["s1", "--data", str(manifest), "--out", str(out), *settings]) == 0
    options = ["--checkpoint", f"S1={out / 'best'}", "--write", str(written), "--split", "dev"]
    assert main([str(manifest), *options]) == 0
    said = capsys.readouterr()
    assert "S1.csv: 16 of 16 clips answered" in said.err
    assert "Table 1. Systems" in said.out
    found = read_predictions(written / "S1.csv", "S1")["S1"].ballots
    voter = load("wavlm", {"checkpoint": str(out / "best")})
    of = read_manifest(manifest).only("dev")
    for clip in of.clips[:3]:
        (alone,) = voter.vote([Utterance(read_clip(of.root, clip))])
        assert isinstance(alone, Ballot)
        assert found[clip.id].label == alone.label
        assert found[clip.id].probabilities == pytest.approx(alone.probabilities, abs=1e-5)
    with (written / "S1.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {(row["model"], row["version"], row["split"]) for row in rows} == {
        ("wavlm", "best", "dev")
    }


def test_models_by_name_and_by_profile(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = importlib.resources.files("abhinaya.stream.settings.profiles") / "embedded.toml"
    options = ["--profile", str(profile), "--model", "again=tiny-speech", "--split", "dev"]
    assert main([str(manifest), *options, "--write", str(tmp_path), "--resamples", "20"]) == 0
    said = capsys.readouterr()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "S1.csv",
        "ST1.csv",
        "T2.csv",
        "again.csv",
    ]
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "S1.csv").read_bytes()
    assert "Table 4. Combinations" in said.out


def test_several_served_models_with_one_prompt(manifest: Path, tmp_path: Path) -> None:
    """Fig. 2 of the paper: each is a model of its own, and its name may hold dots."""
    words = {"meta/Llama-3.3": "sad", "gpt-4.1": "Happy."}
    with scripted(lambda _, request: Say(completion(words[request["model"]]))) as server:
        flags = ["--split", "dev", "--write", str(tmp_path)]
        for name in words:
            options = {"base_url": server.url, "model": name, "prompt": "published"}
            flags += ["--model", f"{name}=zero-shot"]
            flags += [w for k, v in options.items() for w in ("--option", f"{name}.{k}={v}")]
        assert main([str(manifest), *flags]) == 0
    said = {
        name: read_predictions(tmp_path / f"{name.replace('/', '-')}.csv", name) for name in words
    }
    labels = {name: {b.label for b in said[name][name].ballots.values()} for name in words}
    assert labels == {"meta/Llama-3.3": {"sad"}, "gpt-4.1": {"happy"}}


def test_the_beginning_of_a_long_clip_is_judged(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", 0.1 * np.ones(400_000))
    write_wav(tmp_path / "short.wav", 0.1 * np.ones(16_000))
    clips = tuple(Clip(n, "x", votes={"sad": 1}, path=f"{n}.wav") for n in ("long", "short"))
    voter = Lengths()
    manifest = Manifest(tmp_path, clips)
    (first, second), *_ = (few for few in ask(voter, manifest) if few)
    assert (first.label, second.label) == ("angry", "surprise")
    list(ask(voter, manifest, max_s=12.0))
    assert voter.seen == [160_000, 16_000, 192_000, 16_000]


def test_a_checkpoint_has_one_figure(manifest: Path, tmp_path: Path) -> None:
    """Clips are longer than the recipe's `max_s`: training and evaluation judge the same part."""
    losses = 'train.losses=[{kind="ce", class_weights="none"}]'
    settings = [*shrunk("s1", tmp_path), "data.max_s=0.5", losses]
    changed = [word for s in settings for word in ("--set", s)]
    out = tmp_path / "run"
    assert train(["s1", "--data", str(manifest), "--out", str(out), *changed]) == 0
    options = ["--checkpoint", f"S1={out / 'best'}", "--split", "dev", "--resamples", "10"]
    assert main([str(manifest), *options, "--write", str(tmp_path)]) == 0
    found = read_predictions(tmp_path / "S1.csv", "S1")["S1"].ballots
    truth = {clip.id: LABELS.index(clip.label or "") for clip in read_manifest(manifest).clips}
    loss = np.mean(
        [-np.log(b.probabilities[truth[i]]) for i, b in found.items() if b.probabilities]
    )
    assert loss == pytest.approx(read(out / "best").extra["figures"]["loss"], abs=1e-5)


def test_clips_without_what_a_voter_needs_are_counted(manifest: Path, tmp_path: Path) -> None:
    found = read_manifest(manifest).only("dev")
    clips = (replace(found.clips[0], path=""), *found.clips[1:])
    one, path = Named("x", "lengths"), tmp_path / "x.csv"
    gone = predict(one, Lengths(), replace(found, clips=clips), path, 8)
    assert gone == {"the clip has no audio": 1}
    assert len(read_predictions(path, "x")["x"].ballots) == 15
    silent = replace(found, clips=tuple(replace(c, path="") for c in found.clips))
    with pytest.raises(DataError, match="no clip has what lengths needs: audio"):
        list(ask(Lengths(), silent))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing to evaluate: give files, or --checkpoint, --model or --profile"),
        (["--model", "S1"], "--model S1: give it as NAME=VALUE"),
        (["--model", "S1=tiny-speach"], "model S1: no model is called 'tiny-speach'; did"),
        (["--model", "S1=tiny-speech", "--model", "S1=wavlm"], "two models are called S1"),
        (["--option", "S1.x=1"], "--option S1.x=1: give NAME.KEY=VALUE, NAME one of none"),
        (["--model", "S.1=tiny-speech", "--option", "S.1.chekpoint=x"], "no option 'chekpoint'"),
        (["--profile", "embedded"], "show-config --profile embedded > embedded.toml"),
        (["--checkpoint", "S1=/nowhere"], "/nowhere: it does not exist"),
        (["--model", "S1=tiny-speech", "--batch", "0"], "--batch 0: must be at least 1"),
    ],
)
def test_bad_flags_are_one_line(
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    assert main([str(manifest), *options, "--write", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_checkpoint_that_does_not_say_how_it_is_loaded_is_refused(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_wavlm(tmp_path / "s1")
    assert main([str(manifest), "--checkpoint", f"S1={folder}", "--write", str(tmp_path)]) == 1
    assert "does not name the model" in capsys.readouterr().err
    options = ["--model", "S1=wavlm", "--option", f"S1.checkpoint={folder}", "--split", "dev"]
    assert main([str(manifest), *options, "--write", str(tmp_path), "--resamples", "20"]) == 0


def test_systems_named_by_model_and_loss_make_table_2(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = read_manifest(manifest).only("dev").clips
    files = []
    for k, name in enumerate(("S1/WCE", "S1/WFL", "T2/WFL", "T2/VS")):
        path = tmp_path / f"{k}.csv"
        rows = [f"{c.id},{c.label if i % 4 >= k else 'sad'}" for i, c in enumerate(clips)]
        path.write_text("id,label\n" + "\n".join(rows) + "\n")
        files.append(f"{name}={path}")
    assert main([str(manifest), *files, "--split", "dev", "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    table = said.partition("Table 2. Losses\n")[2].partition("\n\n")[0].splitlines()
    assert table[0].split() == ["macro-F1", "WCE", "WFL", "VS"]
    assert table[1].startswith("S1")
    assert "1.000" in table[1].split()[1]
    assert table[1].rstrip().endswith("-")
    assert "Table 4" not in said  # the same model with two losses is no ensemble
