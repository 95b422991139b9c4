"""Every recipe, tiny: two steps, a checkpoint, and the registry's voter says what training said."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from trainer_fakes import logged, shrunk

from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.checkpoint import read
from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.models.registry import load
from abhinaya.stream.settings.profile import load as load_profile
from abhinaya.train.cli import main
from abhinaya.train.learners.base import Example, Learner
from abhinaya.train.loop import session
from abhinaya.train.loop.checkpoint_card import described
from abhinaya.train.loop.devices import fitting
from abhinaya.train.loop.run_folder import RunFolder
from abhinaya.train.recipes.recipe import recipes


@pytest.fixture
def learners(monkeypatch: pytest.MonkeyPatch) -> list[Learner]:
    """The models that are trained, to ask them afterwards."""
    built: list[Learner] = []
    build: Any = session.build_learner

    def keep(*args: Any) -> Learner:
        built.append(build(*args))
        return built[-1]

    monkeypatch.setattr(session, "build_learner", keep)
    return built


def run(recipe: str, manifest: Path, out: Path, settings: list[str], *more: str) -> int:
    changed = [word for s in settings for word in ("--set", s)]
    return main([recipe, "--data", str(manifest), "--out", str(out), *changed, *more])


def scores(learner: Learner, samples: np.ndarray, transcript: str) -> torch.Tensor:
    """What the trained module itself says of one clip."""
    example = Example("x", samples, transcript, np.zeros(8))
    learner.module.eval()
    with torch.no_grad():
        return learner.scores(learner.module, learner.inputs([example]))[0]


BOTH = 'train.losses=[{kind="focal"}, {kind="ccc", weight=0.5}]'


@pytest.mark.parametrize(
    ("recipe", "more"), [*((name, ()) for name in recipes()), ("s1", (BOTH,)), ("t2", (BOTH,))]
)
def test_a_recipe_trains_and_the_registry_loads_what_it_made(
    recipe: str,
    more: Sequence[str],
    models: Path,
    manifest: Path,
    tmp_path: Path,
    learners: list[Learner],
) -> None:
    out = tmp_path / "run"
    assert run(recipe, manifest, out, [*shrunk(recipe, models), "train.rate=1e-3", *more]) == 0
    steps = logged(out)
    assert [line["taken"] for line in steps] == [1, 2]
    assert all(np.isfinite(float(str(line["loss"]))) for line in steps)

    said = read(out / "best").extra
    rates = bool(more) or recipe.startswith("attributes")
    labels = [] if recipe.startswith("attributes") else list(LABELS)
    assert said["labels"] == [*labels, *(ATTRIBUTES if rates else ())]
    assert said["recipe"]["train"]["rate"] == 1e-3
    assert len(said["data"]) == 64
    assert said["made_by"].startswith(f"abhinaya train {recipe} --data")
    figures = {"macro_f1", "uar"} if labels else set()
    figures |= {f"ccc_{name}" for name in ATTRIBUTES} if rates else set()
    assert set(said["figures"]) == {"loss"} | figures

    best = described(out / "best")
    voter = load(best.model, {**best.options, "device": "cpu", "dtype": "float32"})
    assert (list(voter.card.labels), voter.card.attributes) == (labels, rates)
    samples = np.random.default_rng(0).normal(0, 0.1, 9_000).astype(np.float32)
    answer = voter.vote([Utterance(samples, transcript="it is happy now")])[0]
    assert isinstance(answer, Ballot)
    expected = scores(learners[0], samples, "it is happy now")
    shares = expected[: len(labels)].softmax(-1).tolist()
    assert (answer.probabilities or ()) == pytest.approx(shares, abs=2e-6)
    values = (1 + 6 * expected[len(labels) :].sigmoid()).tolist()
    assert (answer.attributes or ()) == pytest.approx(values, abs=2e-5)


def test_what_is_beside_the_weights_makes_a_profile_of_the_monitor(
    models: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run("st1", manifest, out, shrunk("st1", models)) == 0
    profile = tmp_path / "mine.toml"
    profile.write_text((out / "best" / "voter.toml").read_text().replace("NAME", "ST1"))
    voter = load_profile(str(profile)).voters["ST1"]
    assert voter.model == "salmonn-7b"
    card = load(voter.model, {**voter.options, "device": "cpu"}).card
    assert card.needs == {"audio", "transcript"}


@pytest.mark.parametrize("recipe", ["s2", "st1", "t2"])
def test_only_what_was_trained_is_saved(
    recipe: str, models: Path, manifest: Path, tmp_path: Path, learners: list[Learner]
) -> None:
    out = tmp_path / "run"
    assert run(recipe, manifest, out, shrunk(recipe, models)) == 0
    learning = sum(p.numel() for p in learners[0].module.parameters() if p.requires_grad)
    kept = sum(t.numel() for t in read(out / "best").tensors.values())
    assert kept == learning
    assert all("lora_" in k for k in read(out / "best").tensors if "base_model" in k)
    state = RunFolder(out).states()[-1]
    assert sum(t.numel() for t in read(state / "learning.safetensors").tensors.values()) == learning


def test_a_recipe_of_labels_starts_from_a_checkpoint_that_also_rates(
    models: Path, manifest: Path, tmp_path: Path, learners: list[Learner]
) -> None:
    made = run("s1", manifest, tmp_path / "both", [*shrunk("s1", models), BOTH])
    assert made == 0
    start = [f"model.start={tmp_path / 'both' / 'best'}", "train.rate=0.0"]
    assert run("s1", manifest, tmp_path / "labels", [*shrunk("s1", models), *start]) == 0
    one, other = (read(tmp_path / name / "best").tensors for name in ("both", "labels"))
    assert torch.equal(one["out.weight"][:8], other["out.weight"])


def test_a_model_learns_what_words_mean(models: Path, manifest: Path, tmp_path: Path) -> None:
    """Each label has words of its own: a loop that learns tells them apart, of any speaker."""
    out = tmp_path / "run"
    settings = [
        *shrunk("emojudge-text", models),
        "train.rate=1e-2",
        "train.epochs=40",
        "train.batch=4",
        "train.schedule=cosine",
        "model.options.input_dropout=0.0",
    ]
    assert run("emojudge-text", manifest, out, settings) == 0
    assert max(float(str(v["macro_f1"])) for v in logged(out, "validation")) > 0.5


def test_training_ends_a_stage_that_gets_no_better(
    models: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    settings = [*shrunk("s1", models), "train.rate=0.0", "train.epochs=9", "train.patience=2"]
    assert run("s1", manifest, out, settings) == 0
    assert [v["better"] for v in logged(out, "validation")] == [True, False, False]
    assert "no better result in 2 validations" in capsys.readouterr().out


def test_stages_follow_each_other(models: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [s for s in shrunk("wavlm-votes", models) if not s.startswith("stages")]
    again = "stages=[{epochs=2}, {epochs=1, rate=1e-4, sampler='balanced', batch=4}]"
    assert run("wavlm-votes", manifest, out, [*settings, again]) == 0
    assert [(line["epoch"], line["rate"]) for line in logged(out)] == [
        *((epoch, 1e-5) for epoch in (0, 0, 1, 1)),
        *[(2, 1e-4)] * 4,
    ]


@pytest.mark.usefixtures("no_dropout")
def test_a_batch_in_parts_is_the_batch(models: Path, manifest: Path, tmp_path: Path) -> None:
    """One step of all 32 clips has the same loss and gradient in 1, 2 or 4 parts."""
    settings = [*shrunk("emojudge-text", models), "model.options.members.0.train=frozen"]
    found = []
    for parts in (1, 2, 4):
        out = tmp_path / f"run{parts}"
        sizes = [f"train.batch={32 // parts}", f"train.accumulate={parts}"]
        assert run("emojudge-text", manifest, out, [*settings, *sizes]) == 0
        AcceleratorState._reset_state(True)
        (step,) = logged(out)
        found.append((step["loss"], step["norm"]))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


@pytest.fixture
def no_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws anew for each part."""
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)


def test_a_checkpoint_in_another_order_is_turned_by_name(
    models: Path, manifest: Path, tmp_path: Path, learners: list[Learner]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    settings = [*shrunk("s1", models), "train.rate=1e-3"]
    turned = "data.classes=[" + ", ".join(f'"{x}"' for x in LABELS[::-1]) + "]"
    assert run("s1", manifest, first, [*settings, turned]) == 0
    AcceleratorState._reset_state(True)
    still = [*settings, "train.rate=0.0", f"model.start={first / 'best'}"]
    assert run("s1", manifest, second, still) == 0
    samples = np.random.default_rng(0).normal(0, 0.1, 9_000).astype(np.float32)
    before = scores(learners[0], samples, "")
    after = scores(learners[1], samples, "")
    torch.testing.assert_close(after, before.flip(0))


def test_a_checkpoint_of_other_labels_is_refused(
    models: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    few = 'data.classes=["angry", "happy", "sad"]'
    sizes = ["train.batch=4", "train.accumulate=1"]
    assert run("s1", manifest, first, [*shrunk("s1", models), *sizes, few]) == 0
    AcceleratorState._reset_state(True)
    settings = [*shrunk("s1", models), f"model.start={first / 'best'}"]
    assert run("s1", manifest, tmp_path / "second", settings) == 1
    assert "its outputs are angry, happy, sad, the recipe's are angry, contempt" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("recipe", ["s1", "t2", "st1"])
def test_in_bf16_what_learns_stays_float32(
    recipe: str, models: Path, manifest: Path, tmp_path: Path, learners: list[Learner]
) -> None:
    """Frozen language models are bfloat16, and a small step still moves every factor of LoRA."""
    out = tmp_path / "run"
    settings = [*shrunk(recipe, models), "precision=bf16"]
    assert run(recipe, manifest, out, settings) == 0
    module = learners[0].module
    frozen = {p.dtype for k, p in module.named_parameters() if ".layers." in k and "lora" not in k}
    assert frozen == {torch.float32 if recipe == "s1" else torch.bfloat16}
    kept = read(out / "best").tensors
    assert {t.dtype for t in kept.values()} == {torch.float32}
    ups = [t for k, t in kept.items() if "lora_B" in k]
    if recipe == "t2":  # begins at zero
        assert ups
        assert all(t.count_nonzero() > 0.9 * t.numel() for t in ups)


def test_less_memory_gives_the_same_weights(models: Path, manifest: Path, tmp_path: Path) -> None:
    """Activations computed again are the same activations, dropout included."""
    made = []
    for spare in ("true", "false"):
        out = tmp_path / spare
        settings = [*shrunk("t2", models), "train.rate=1e-3"]
        assert run("t2", manifest, out, [*settings, f"model.options.checkpointing={spare}"]) == 0
        AcceleratorState._reset_state(True)
        made.append(read(out / "best").tensors)
    for key, tensor in made[0].items():
        torch.testing.assert_close(tensor, made[1][key])


@pytest.mark.parametrize("at", [2, 3])
def test_ctrl_c_saves_and_says_how_to_go_on(
    at: int,
    models: Path,
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = [*shrunk("s1", models), "train.epochs=3", "train.rate=1e-3"]
    assert run("s1", manifest, whole, settings) == 0
    AcceleratorState._reset_state(True)

    with monkeypatch.context() as patch:
        real = torch.optim.AdamW.step
        count = []

        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            count.append(1)
            if len(count) == at:  # noticed in the next step: the first or the last of its epoch
                os.kill(os.getpid(), signal.SIGINT)
            return real(self, *args, **kwargs)

        patch.setattr(torch.optim.AdamW, "step", step)
        assert run("s1", manifest, cut, settings) == 130
    said = capsys.readouterr().err
    assert f"stopped after step {at + 1}; its state is saved" in said
    assert "--resume" in said
    assert len(logged(cut)) == at + 1
    AcceleratorState._reset_state(True)
    assert run("s1", manifest, cut, settings, "--resume") == 0
    assert logged(cut) == logged(whole)
    assert logged(cut, "validation") == logged(whole, "validation")
    kept, expected = (
        read(RunFolder(out).states()[-1] / "learning.safetensors").tensors for out in (cut, whole)
    )
    assert all(torch.equal(kept[k], expected[k]) for k in expected)


@pytest.mark.parametrize(
    ("batch", "held", "most", "memory", "fits"),
    [(4, 10, 20, 100, 32), (4, 90, 95, 100, 1), (8, 10, 10, 100, 640)],
)
def test_the_advised_batch_fills_nine_tenths_of_the_memory(
    batch: int, held: int, most: int, memory: int, fits: int
) -> None:
    assert fitting(batch, held, most, memory) == fits
