from __future__ import annotations

import re
from pathlib import Path

import pytest

from abhinaya.train.cli import main
from abhinaya.train.errors import RecipeError
from abhinaya.train.recipes.learner_options import LlamaOptions, SalmonnOptions, WavlmOptions, needs
from abhinaya.train.recipes.recipe import load_recipe, recipe_text, recipes
from abhinaya.train.tiny.cards import BACKGROUNDS

PAPER = {"s1": ("focal", 8, 4), "s2": ("focal", 4, 8), "t2": ("vs", 8, 4), "st1": ("vs", 4, 8)}


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_of_the_package_is_whole(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.about
    assert recipe.all_stages
    assert recipe.settled()["model"]["options"]


@pytest.mark.parametrize(("name", "said"), PAPER.items())
def test_the_papers_recipes_have_the_papers_numbers(name: str, said: tuple[str, int, int]) -> None:
    recipe = load_recipe(name)
    stage = recipe.train
    assert (stage.losses[0].kind, stage.batch, stage.accumulate) == said
    assert (stage.rate, stage.epochs, recipe.data.max_s) == (1e-5, 20, 10.0)
    assert recipe.data.balanced == 326
    assert stage.losses[0].gamma == (2.0 if said[0] == "focal" else 0.3)
    assert stage.losses[0].tau == 1.0
    options = recipe.options
    if isinstance(options, LlamaOptions):
        assert (options.rank, options.alpha) == (8, 32.0)
    if isinstance(options, SalmonnOptions):
        assert options.alpha == 32.0
        assert options.transcript is (name == "st1")


def test_a_recipe_says_what_its_model_needs() -> None:
    needed = {name: needs(load_recipe(name).options) for name in PAPER}
    assert needed == {
        "s1": {"audio"},
        "s2": {"audio"},
        "t2": {"transcript"},
        "st1": {"audio", "transcript"},
    }


def test_settings_change_what_they_name_and_nothing_else() -> None:
    plain = load_recipe("s1")
    changed = load_recipe(
        "s1", ["train.rate=1e-3", "model.options.pool=attn_mean", "run.workers=0"]
    )
    assert changed.train.rate == 1e-3
    assert isinstance(changed.options, WavlmOptions)
    assert changed.options.pool == "attn_mean"
    assert changed.train.losses == plain.train.losses
    before, after = plain.settled(), changed.settled()
    before["train"]["rate"], before["model"]["options"]["pool"] = 1e-3, "attn_mean"
    assert before == after  # `run` decides nothing about the model


def test_every_fault_is_reported_at_once_with_what_was_meant() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(
            "s1",
            [
                "train.epoch=3",
                "train.rate=fast",
                "model.options.pol=asp",
                "data.crop=middle",
                "train.batch=0",
                "nonsense",
            ],
        )
    said = str(caught.value)
    for part in (
        r"train\.epoch is not a setting, did you mean 'epochs'\? \(from --set train\.epoch=3\)",
        r"train\.rate = 'fast' does not fit",
        r"model\.options\.pol is not a setting, did you mean 'pool'",
        r"data\.crop = 'middle' is not known",
        r"train\.batch = 0 is below 1",
        r"--set nonsense: give it as SECTION\.KEY=VALUE",
    ):
        assert re.search(part, said), part


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.losses=[]"], "train.losses is empty"),
        (['train.losses=[{kind="ccc"}]', "train.batch=4"], "batch = 4 is too few for ccc: 8"),
        (['train.losses=[{kind="vs", head="gender"}]'], "vs is for primary, not for gender"),
        (['train.losses=[{kind="ce", head="gender"}]'], "wavlm has no head gender"),
        (["train.mixup=0.3"], "mixup: the learner wavlm has none"),
        (["train.target.drop_votes=0.2"], "need kind = 'distribution'"),
        (['data.classes=["angry", "glee"]'], "'glee' is not a label"),
        (['data.classes=["angry", "angry"]'], "two or more labels, each once"),
        (
            [
                'train.losses=[{kind="ce", class_weights="published"}]',
                'data.classes=["sad","fear"]',
            ],
            "published weights are for all eight",
        ),
        (["model.learner=wavml"], "model.learner = 'wavml' is not known, did you mean 'wavlm'"),
        (["train.rate.high=1"], "train.rate.high cannot be set: rate is 1e-05"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        load_recipe("s1", settings)


def test_a_fault_in_a_stage_says_in_which(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(recipe_text("s1") + "\n[[stages]]\n[[stages]]\nepochs = 0\n")
    with pytest.raises(RecipeError, match=r"stages\[1\]\.epochs = 0 is below 1"):
        load_recipe(str(path))


def test_an_unknown_recipe_is_answered_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["s11", "--data", "x", "--out", "y"]) == 2
    assert "did you mean 's1'?" in capsys.readouterr().err
    assert main(["zzzz", "--data", "x", "--out", "y"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in recipes())


def test_list_and_show_print_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in (*recipes(), *BACKGROUNDS))
    assert main(["st1", "--show"]) == 0
    assert capsys.readouterr().out == recipe_text("st1")


@pytest.mark.parametrize("name", recipes())
def test_what_is_shown_with_changes_is_that_recipe(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([name, "--show", "--set", "seed=7", "--set", "run.save_every=3"]) == 0
    shown = tmp_path / "shown.toml"
    shown.write_text(capsys.readouterr().out, "utf-8")
    assert "seed = 7  # --set seed=7\n" in shown.read_text("utf-8")
    assert load_recipe(str(shown)) == load_recipe(name, ["seed=7", "run.save_every=3"])
    assert main([name, "--show", "--set", "sed=7"]) == 2
    assert "sed is not a setting, did you mean 'seed'?" in capsys.readouterr().err


def test_settings_are_listed_with_their_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    said = capsys.readouterr().out
    assert "train.rate = 1e-05\n    highest learning rate" in said
    assert "train.losses[].kind = (must be given)\n    which loss (ce, kld, focal, vs," in said
    assert "model.options.rank = 8\n    llama: rank of LoRA" in said
    assert "data.classes = [" in said
