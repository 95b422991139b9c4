"""Each system of the challenge trains on tiny encoders, and has what tells it from the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_encoders import TEXT, save_encoder
from trainer_fakes import SMALL, logged, tones

from abhinaya.models.labels import LABELS
from abhinaya.models.published.specs import NetworkSpec
from abhinaya.train.cli import main
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, read_manifest, write_manifest
from abhinaya.train.learners.base import Learner
from abhinaya.train.loop import session
from abhinaya.train.loop.batches import epoch_steps
from abhinaya.train.loop.examples import Sound, Teaching, mix_pair
from abhinaya.train.loop.losses import vector_scaling_terms
from abhinaya.train.loop.objective import Objective
from abhinaya.train.recipes.recipe import Recipe
from abhinaya.train.recipes.system import SYSTEMS, System, load_system

KINDS = ("modernbert", "deberta", "roberta", "hubert", "bert", "t5", "wavlm", "wav2vec2", "whisper")
"""More special ones first: a HuBERT has `bert` in its name."""
OWN = ("medusa", "sailer", "sail-dim", "unicamp", "srpol", "mater", "bsc-upc", "nu", "seu")
"""Systems with recipes of their own that stand for nothing else in the package."""
COUNTS = (6728, 2495, 1432, 1120, 16712, 29239, 6303, 2948)
"""Clips of each label in the training split of MSP-Podcast 1.12."""


def kind_of(name: str) -> str:
    """The family of a model by its name on the Hub."""
    return next(kind for kind in KINDS if kind in name.lower())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tones whose clips also have secondary votes and a gender; some have no consensus."""
    path = tones(tmp_path_factory.mktemp("tones"))
    found = read_manifest(path)

    def richer(i: int, clip: Clip) -> Clip:
        votes = {"other": 2.0, "sad": 1.0} if i % 7 == 3 and clip.split == "train" else clip.votes
        return replace(
            clip, votes=votes, secondary={"Amused": 1.0, "Annoyed": 1.0}, gender="fm"[i % 2]
        )

    clips = tuple(richer(i, clip) for i, clip in enumerate(found.clips))
    write_manifest(path, Manifest(found.root, clips))
    return path


def tiny(recipe: Recipe, models: Path) -> list[str]:
    """Settings that make the encoders tiny, and the network narrow."""
    spec = recipe.options
    assert isinstance(spec, NetworkSpec)
    names = [save_encoder(kind_of(member.name), models) for member in spec.members]
    members = [f"model.options.members.{i}.name={name}" for i, name in enumerate(names)]
    return [*members, "model.options.width=16"]


def first_members() -> list[tuple[str, str]]:
    """System and member: the first that uses each recipe file."""
    found = {}
    for name in OWN:
        system = load_system(name)
        for member in system.models:
            if member.recipe.endswith(".toml"):
                found.setdefault((name, member.recipe), (name, member.name))
    return list(found.values())


@pytest.mark.parametrize(("name", "member"), first_members())
def test_a_member_trains_two_steps(
    name: str, member: str, models: Path, manifest: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    built: list[Learner] = []
    build: Any = session.build_learner
    monkeypatch.setattr(session, "build_learner", lambda *a: built.append(build(*a)) or built[-1])
    system = load_system(name)
    of = next(m for m in system.models if m.name == member)
    settings = [*of.set, *tiny(system.recipes[member], models), *SMALL, "train.cap=9", "stages=[]"]
    changed = [word for s in settings for word in ("--set", s)]
    out = tmp_path / "run"
    path = SYSTEMS / name / of.recipe
    assert main([str(path), "--data", str(manifest), "--out", str(out), *changed]) == 0
    assert len(logged(out)) >= 1
    assert all(math.isfinite(float(str(line["loss"]))) for line in logged(out))
    assert {k: len(v) for k, v in built[0].outputs.heads.items()} == HEADS[name, of.recipe]
    AcceleratorState._reset_state(True)


HEADS = {
    ("medusa", "deepser.toml"): {"primary": 8, "attributes": 3},
    ("sailer", "speech-text.toml"): {"primary": 9, "attributes": 3, "secondary": 2},
    ("sail-dim", "attributes.toml"): {"attributes": 3, "gender": 2},
    ("unicamp", "weighted.toml"): {"primary": 8},
    ("unicamp", "margin.toml"): {"primary": 8, "neutral": 1},
    ("srpol", "labels.toml"): {"primary": 8, "attributes": 3},
    ("srpol", "attributes.toml"): {"primary": 8, "attributes": 3},
    ("mater", "labels.toml"): {"primary": 8},
    ("mater", "attributes.toml"): {"attributes": 3},
    ("bsc-upc", "attention.toml"): {"primary": 8},
    ("nu", "speech-text.toml"): {"primary": 8},
    ("seu", "speech.toml"): {"attributes": 3},
}


# --- what tells each from the others --------------------------------------------------------------


def spec_of(system: System, member: str) -> NetworkSpec:
    found = system.recipes[member].options
    assert isinstance(found, NetworkSpec)
    return found


def medusa(system: System) -> None:
    """14 members; 1.5 CE with the root of the class weights + .4 MSE on 1 to 7; balanced epochs."""
    assert len(system.members) == 14
    assert len({tuple(m.name for m in spec_of(system, k).members) for k in system.recipes}) == 14
    assert (system.ensemble.method, system.ensemble.options) == ("mlp", {"soup": 6})
    full, balanced = system.recipes["wavlm-roberta"].all_stages
    outputs = session.Outputs({"primary": LABELS, "attributes": ("a", "v", "d")})
    loss = Objective(full.losses, COUNTS, outputs)
    sad = LABELS.index("sad")
    target = torch.zeros(1, 11)
    target[0, sad], target[0, 8:] = 1.0, 0.5 + 1 / 6  # attributes of 5, the answer is 4
    root = math.sqrt(sum(COUNTS) / (8 * COUNTS[sad]))
    assert float(loss(torch.zeros(1, 11), target)) == pytest.approx(
        1.5 * root * math.log(8) + 0.4 * 1.0, rel=1e-5
    )
    labels = np.repeat([*range(8), -1], [30, 5, 9, 4, 40, 80, 20, 6, 50])
    stage = replace(balanced, batch=1, accumulate=1)
    rows = [
        row for step in epoch_steps(labels, np.ones(len(labels)), stage, (0,)) for (row,) in step
    ]
    assert [int(np.sum(labels[rows] == c)) for c in range(-1, 8)] == [4, *[4] * 8]
    assert (balanced.rate, balanced.patience) == (1e-6, 8)


def sailer(system: System) -> None:
    """The target of two joined clips is the mean of their reweighted votes; nine labels."""
    recipe = system.recipes["wavlm-text"]
    assert recipe.data.classes == (*LABELS, "other")
    clips = [
        Clip("a", "x", votes={"neutral": 4.0, "other": 1.0}),
        Clip("b", "x", votes={"fear": 1.0, "neutral": 1.0}),
    ]
    teaching = Teaching(clips, recipe.data.classes, 0)
    target = replace(recipe.train.target, drop_votes=0.0)
    shares = [teaching.shares(i, target, 0) for i in (0, 1)]
    # neutral is .65 of all votes, other .1, fear .25: 4/.65 against 1/.1, 1/.25 against 1/.65
    assert shares[0][5] == pytest.approx((4 / 0.65) / (4 / 0.65 + 1 / 0.1))
    assert shares[1][3] == pytest.approx((1 / 0.25) / (1 / 0.25 + 1 / 0.65))
    mixed = mix_pair(*(Sound(np.zeros(9, np.float32), row) for row in shares), 2.0)
    assert mixed.targets == pytest.approx((shares[0] + shares[1]) / 2)
    assert len(mixed.samples) == 18 + 32_000
    assert [spec_of(system, k).members[0].train for k in system.recipes] == [
        "tuned",
        "frozen",
        "lora",
    ]


def sail_dim(system: System) -> None:
    """1 - CCC + .1 of the cross-entropy of the gender; 6,728 clips of a class at most."""
    assert not system.members
    both, plain = (system.recipes[k].train for k in ("wavlm-gender", "whisper"))
    outputs = session.Outputs({"attributes": ("a", "v", "d"), "gender": ("f", "m")})
    truth = torch.linspace(0.1, 0.9, 8)[:, None].expand(8, 3)
    scores = torch.cat([truth.logit(), torch.zeros(8, 2)], 1)  # right; undecided between f and m
    target = torch.cat([truth, torch.eye(2)[torch.arange(8) % 2]], 1)
    assert float(Objective(both.losses, (), outputs)(scores, target)) == pytest.approx(
        0.1 * math.log(2), abs=1e-6
    )
    assert float(Objective(plain.losses, (), outputs)(scores, target)) == pytest.approx(0, abs=1e-6)
    assert (both.sampler, both.cap) == ("undersample", 6728)


def unicamp(system: System) -> None:
    """12 members, half of them with batches that are half neutral; random forests decide."""
    assert len(system.members) == 12
    assert system.ensemble.method == "forest"
    kinds = [tuple(t.kind for t in system.recipes[m.name].train.losses) for m in system.members]
    assert kinds == [("ce",)] * 6 + [("ce", "margin")] * 6
    spec = spec_of(system, "hubert-xl-roberta-weighted")
    assert (spec.fuse, 2 * 2 * spec.width, spec.input_norm) == ("cross", 2048, True)
    stage = replace(system.recipes["whisper-roberta-margin"].train, batch=64, accumulate=1)
    labels = np.repeat([5, 0, 1], [100, 900, 280])
    rows = epoch_steps(labels, np.ones(len(labels)), stage, (0,), neutral=5)
    neutral = np.mean([labels[list(batch)] == 5 for step in rows for batch in step])
    assert neutral == pytest.approx(0.5, abs=0.05)


def srpol(system: System) -> None:
    """An LSTM over three experts; at last the labels alone, or the error of answers near 4."""
    labels, rates = (system.recipes[k] for k in ("labels", "dimensions"))
    assert spec_of(system, "labels").fuse == "lstm"
    assert [m.pool for m in spec_of(system, "labels").members] == ["asp"] * 3
    assert [[t.kind for t in s.losses] for s in labels.all_stages] == [["ce", "mse"], ["ce"]]
    assert rates.judged_by == "attributes"
    outputs = session.Outputs({"primary": LABELS, "attributes": ("a", "v", "d")})
    loss = Objective(rates.all_stages[1].losses, COUNTS, outputs)
    target = torch.zeros(1, 11)
    target[0, 8:] = 0.5 + 1 / 6  # the truth is 5
    middle, low = torch.zeros(1, 11), torch.zeros(1, 11)
    low[0, 8:] = torch.tensor(1 / 3).logit()  # the answer is 3
    assert float(loss(middle, target)) == pytest.approx(1.0, rel=1e-5)
    assert float(loss(low, target)) == pytest.approx(4.0 * math.exp(-0.5), rel=1e-5)


def mater(system: System) -> None:
    """A member that is sure of a clip decides it alone against two that are not."""
    assert system.ensemble.method == "uncertainty"
    from abhinaya.models.base import ballot
    from abhinaya.models.vote.ensemble import Rule, decide

    sure = ballot([0.9, *[0.1 / 7] * 7])
    unsure = ballot([0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.1, 0.1])
    votes = {"a": sure, "b": unsure, "c": unsure}
    assert decide(votes, Rule("uncertainty")).label == "angry"
    assert decide(votes, Rule("majority")).label == "neutral"


def bsc_upc(system: System) -> None:
    """Focal loss plus 1 - macro-F1 of the probabilities; crops of 5.5 s; a vote of three."""
    recipe = system.recipes["whisper-roberta"]
    assert (spec_of(system, "whisper-roberta").fuse, recipe.data.max_s) == ("time", 5.5)
    loss = Objective(recipe.train.losses, (1,) * 8, session.Outputs({"primary": LABELS}))
    # even probabilities: F1 of each of the two classes is 2 (1/8) / (2/8 + 1)
    found = float(loss(torch.zeros(2, 8), torch.eye(8)[:2]))
    assert found == pytest.approx((7 / 8) ** 2 * math.log(8) + 1 - 0.2, rel=1e-5)
    assert (system.ensemble.method, len(system.members)) == ("majority", 3)


def nu(system: System) -> None:
    """A language model on a server votes beside two networks."""
    assert [m.model for m in system.members] == ["", "", "zero-shot"]
    assert [spec_of(system, k).needs for k in system.recipes] == [{"audio", "transcript"}] * 2


def seu(system: System) -> None:
    """Attributes from speech alone, by three encoders whose answers are averaged."""
    assert not system.members
    assert [spec_of(system, k).needs for k in system.recipes] == [{"audio"}] * 3
    names = [kind_of(spec_of(system, k).members[0].name) for k in system.recipes]
    assert names == ["wav2vec2", "whisper", "hubert"]


def baseline(system: System) -> None:
    """The first 12 s; weighted cross-entropy over the sum of the weights."""
    recipe = system.recipes["labels"]
    assert (recipe.data.max_s, recipe.data.crop) == (12.0, "first")
    loss = Objective(recipe.train.losses, COUNTS, session.Outputs({"primary": LABELS}))
    logits = torch.zeros(2, 8)
    logits[0, 0] = 5.0  # sure of angry, which is right; undecided about fear
    w, said = [sum(COUNTS) / (8 * n) for n in (COUNTS[0], COUNTS[3])], torch.eye(8)[[0, 3]]
    sure = -float(logits[0].log_softmax(0)[0])
    expected = (w[0] * sure + w[1] * math.log(8)) / sum(w)
    assert float(loss(logits, said)) == pytest.approx(expected, rel=1e-5)


def abhinaya(system: System) -> None:
    """Vector scaling has the factors and biases of the training split."""
    (term,) = system.recipes["T2"].train.losses
    scale, bias = vector_scaling_terms(COUNTS, term.gamma or 0.0, term.tau)
    assert scale.tolist() == pytest.approx(
        [0.6435, 0.4779, 0.4046, 0.3758, 0.8455, 1.0, 0.6311, 0.5024], abs=1e-4
    )
    assert bias.tolist() == pytest.approx(
        [-2.298, -3.290, -3.845, -4.091, -1.388, -0.829, -2.363, -3.123], abs=1e-3
    )


FACTS: dict[str, Callable[[System], None]] = {
    "abhinaya": abhinaya, "baseline": baseline, "bsc-upc": bsc_upc, "mater": mater,
    "medusa": medusa, "nu": nu, "sail-dim": sail_dim, "sailer": sailer, "seu": seu,
    "srpol": srpol, "unicamp": unicamp,
}  # fmt: skip


@pytest.mark.parametrize("name", FACTS)
def test_a_system_has_what_tells_it_from_the_others(name: str) -> None:
    FACTS[name](load_system(name))


def test_every_encoder_of_the_systems_is_of_a_family_that_tests_load() -> None:
    for name in OWN:
        for recipe in load_system(name).recipes.values():
            spec = recipe.options
            assert isinstance(spec, NetworkSpec)
            for member in spec.members:
                assert (kind_of(member.name) in TEXT) == (member.modality == "text")
