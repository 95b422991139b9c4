"""The learners `encoder` and `fusion`: every head, frozen and trained members, and their voter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_encoders import save_encoder
from trainer_fakes import logged, tones

from abhinaya.models.base import Abstention, Ballot, Utterance
from abhinaya.models.checkpoint import read
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load
from abhinaya.train.cli import main
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, read_manifest, write_manifest
from abhinaya.train.learners.base import Example, Learner
from abhinaya.train.loop import session
from abhinaya.train.loop.checkpoint_card import described

RECIPE = """
about = "all at once"

[model]
learner = "fusion"

[model.options]
fuse = "cross"
width = 8
hidden = [8, 8]
residual = true

[[model.options.members]]
name = "{wavlm}"
train = "tuned"
neck = "linear_ln"
pool = "asp"
normalise = "global"

[[model.options.members]]
name = "{roberta}"
modality = "text"
layers = "learned"
neck = "conv"

[[model.options.members]]
name = "{whisper}"
train = "lora"
targets = ["fc1", "fc2"]
max_s = 2
neck = "linear"

[data]
classes = [{labels}, "other"]

[train]
epochs = 1
rate = 1e-3
rates = {{ heads = 1e-2, "encoders.0" = 1e-4 }}
batch = 8
accumulate = 2
mixup = 0.5
losses = [
  {{ kind = "kld", class_weights = "none" }},
  {{ kind = "ccc" }},
  {{ kind = "kld", head = "secondary", weight = 0.1 }},
  {{ kind = "ce", head = "gender", weight = 0.1 }},
  {{ kind = "margin", weight = 0.1 }},
  {{ kind = "l2", part = "fuse.pool.pool.each.0.attention", weight = 1e-3 }},
]

[train.target]
kind = "distribution"

[run]
workers = 0
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones whose clips also have secondary votes and a gender; some have no consensus."""
    path = tones(tmp_path_factory.mktemp("tones"))
    found = read_manifest(path)

    def richer(i: int, clip: Clip) -> Clip:
        votes = {"other": 2.0, "sad": 1.0} if i % 4 == 3 and clip.split == "train" else clip.votes
        second = {"Amused": 1.0, "Annoyed": float(i % 2)} if i % 3 else {}
        return replace(clip, votes=votes, secondary=second, gender="fm"[i % 2] if i % 5 else "")

    clips = tuple(richer(i, clip) for i, clip in enumerate(found.clips))
    write_manifest(path, Manifest(found.root, clips))
    return path


@pytest.fixture(scope="module")
def recipe(models: Path) -> Path:
    kinds = ("wavlm", "roberta", "whisper")
    made = {kind: save_encoder(kind, models) for kind in kinds}
    labels = ", ".join(f'"{label}"' for label in LABELS)
    (models / "all.toml").write_text(RECIPE.format(**made, labels=labels))
    return models / "all.toml"


def run(recipe: Path, manifest: Path, out: Path, *settings: str) -> Learner:
    """Train it, and return the learner."""
    built: list[Learner] = []
    build: Any = session.build_learner
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "build_learner", lambda *a: built.append(build(*a)) or built[-1])
        changed = [word for s in settings for word in ("--set", s)]
        assert main([str(recipe), "--data", str(manifest), "--out", str(out), *changed]) == 0
    AcceleratorState._reset_state(True)
    return built[0]


def test_a_network_of_every_head_becomes_a_voter_that_says_the_same(
    recipe: Path, manifest: Path, tmp_path: Path
) -> None:
    learner = run(recipe, manifest, tmp_path / "run")
    steps = logged(tmp_path / "run")
    assert len(steps) == 2
    assert all(np.isfinite(float(str(line["loss"]))) for line in steps)
    assert {k: len(v) for k, v in learner.outputs.heads.items()} == {
        "primary": 9, "attributes": 3, "secondary": 2, "gender": 2, "neutral": 1,
    }  # fmt: skip
    (judged,) = logged(tmp_path / "run", "validation")
    assert {"macro_f1", "ccc_arousal"} < set(judged)
    kept = read(tmp_path / "run" / "best").tensors
    assert not any(k.startswith("encoders.1") for k in kept)  # frozen
    assert all("lora" in k for k in kept if k.startswith("encoders.2"))
    assert any(k.startswith("encoders.0.model.feature_extractor") for k in kept)

    best = described(tmp_path / "run" / "best")
    assert best.model == "fusion"
    voter = load(best.model, {**best.options, "device": "cpu", "dtype": "float32"})
    assert (voter.card.labels, voter.card.attributes) == (LABELS, True)
    assert voter.card.needs == {"audio", "transcript"}
    samples = np.random.default_rng(0).normal(0, 0.1, 19_000).astype(np.float32)
    heard = Utterance(samples, transcript="it is happy now")
    short = Utterance(samples[:9_000], transcript="no")
    answer, other, silent = voter.vote([heard, short, Utterance(samples)])
    assert isinstance(silent, Abstention)
    assert "transcript is empty" in silent.reason
    learner.module.eval()
    for given, found in ((heard, answer), (short, other)):
        example = Example("x", given.samples, given.transcript, np.zeros(17))
        with torch.no_grad():
            scores = learner.scores(learner.module, learner.inputs([example]))[0]
        assert isinstance(found, Ballot)
        assert found.probabilities == pytest.approx(scores[:8].softmax(0).tolist(), abs=2e-5)
        assert found.attributes == pytest.approx(
            (1 + 6 * scores[9:12].sigmoid()).tolist(), abs=1e-4
        )


def test_a_run_goes_on_from_a_checkpoint_and_each_part_has_its_rate(
    recipe: Path, manifest: Path, tmp_path: Path
) -> None:
    """The second run keeps all but the heads, which it learns alone, in another order."""
    run(recipe, manifest, tmp_path / "one")
    still = ["train.rate=0.0", 'train.rates={"heads.primary"=1e-2}', "train.mixup=0.0"]
    turned = [f"data.classes={[*LABELS[::-1], 'other']}", "train.losses=[{kind='ce'}]"]
    start = f"model.start={tmp_path / 'one' / 'best'}"
    run(recipe, manifest, tmp_path / "two", *still, *turned, start)
    before, after = (read(tmp_path / name / "best").tensors for name in ("one", "two"))
    assert {k for k in before if k not in after} == {
        f"heads.{head}.out.{of}"
        for head in ("attributes", "secondary", "gender", "neutral")
        for of in ("weight", "bias")
    }
    changed = {k for k, t in after.items() if not t.equal(before[k])}
    assert changed == {"heads.primary.out.weight", "heads.primary.out.bias"}
    back = after["heads.primary.out.weight"][[*range(7, -1, -1), 8]]
    torch.testing.assert_close(back, before["heads.primary.out.weight"], atol=0.03, rtol=0)


def test_stored_features_give_the_same_network_and_run_no_frozen_encoder_twice(
    recipe: Path, manifest: Path, tmp_path: Path
) -> None:
    frozen = [f"model.options.members.{i}.train=frozen" for i in range(3)]
    calm = [
        "train.epochs=2",
        "train.rates={}",
        "train.mixup=0.0",
        "model.options.inner_dropout=0.0",
        *frozen,
    ]
    run(recipe, manifest, tmp_path / "plain", *calm)
    run(recipe, manifest, tmp_path / "stored", *calm, f"run.cache={tmp_path / 'cache'}")
    first, second = logged(tmp_path / "stored", "cache")
    clips = len(read_manifest(manifest).clips)
    assert 2 * clips < first["misses"] <= 3 * clips  # sentences repeat
    assert second["misses"] == 0
    plain, stored = (read(tmp_path / name / "best").tensors for name in ("plain", "stored"))
    for key, tensor in plain.items():
        torch.testing.assert_close(tensor, stored[key], atol=1e-5, rtol=1e-4)


def test_an_unknown_part_is_named(
    recipe: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = ["--set", "train.rates={head_=1e-3}"]
    command = [str(recipe), "--data", str(manifest), "--out", str(tmp_path / "run"), *setting]
    assert main(command) == 1
    assert "no trained weight is called head_...; known parts: encoders, mixes, necks" in (
        capsys.readouterr().err
    )
