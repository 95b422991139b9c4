"""Systems as data: what a folder says, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from abhinaya.train.cli import main
from abhinaya.train.errors import RecipeError
from abhinaya.train.recipes.system import change_of, load_system, systems


@pytest.mark.parametrize("name", systems())
def test_every_system_says_what_was_published_and_what_is_assumed(name: str) -> None:
    system = load_system(name)
    assert system.name == name
    assert system.source
    assert system.known
    assert system.assumed
    assert any(not of.row and of.split == "test3" for of in system.published)
    assert set(system.recipes) == {member.name for member in system.models if member.recipe}


def test_the_list_has_each_system_with_its_figure_and_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    assert "test3 macro-F1 0.4402, test3 mean CCC 0.5871; arXiv 2505.18217" in said
    for name in systems():
        assert f"\n{name} " in said


def test_abhinaya_is_the_five_voters_of_the_paper() -> None:
    system = load_system("abhinaya")
    assert [member.name for member in system.members] == ["S1", "S2", "T1", "T2", "ST1"]
    assert system.ensemble.priority[0] == "S2"
    losses = {name: recipe.train.losses for name, recipe in system.recipes.items()}
    assert [(t.kind, t.gamma) for name in ("S1", "T2") for t in losses[name] if t] == [
        ("focal", 2.0),
        ("vs", 0.3),
    ]
    assert [t.kind for t in losses["S1/WCE"]] == ["ce"]


def test_changes_reach_one_member_or_all_that_are_trained() -> None:
    changes = [
        change_of("members.*.train.epochs=1"),
        {"members": {"S1": {"model": {"options": {"encoder": "/x y"}}}}},
        change_of("members.T1.options.base_url=http://localhost:1/v1"),
        change_of("data.balanced=2"),
        {"attributes": {"method": "mean", "members": {"*": {"train": {"epochs": 3}}}}},
    ]
    system = load_system("abhinaya", changes)
    epochs = {name: recipe.train.epochs for name, recipe in system.recipes.items()}
    assert (epochs["S1"], epochs["ST1"], epochs["S1/WCE"], epochs["A-WavLM"]) == (1, 1, 20, 3)
    assert system.recipes["S1"].model.options["encoder"] == "/x y"
    served = next(member for member in system.members if member.name == "T1")
    assert set(served.options) == {"model", "base_url", "prompt"}
    assert system.data.balanced == 2


FAULTY = """
about = "x"
source = "y"
speling = 1
published = [{ what = "test3 macroF1", value = 0.4 }, { what = "dev accuracy", value = 3.0 }]
[[members]]
name = "a"
recipe = "s1"
model = "wavlm"
[[members]]
name = "a"
recipe = "nowhere.toml"
[ensemble]
method = "majoritty"
priority = ["b"]
"""


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(FAULTY)
    with pytest.raises(RecipeError) as first:
        load_system(str(tmp_path))
    for text in (
        "speling is not a setting",
        "published[1].value = 3.0 is above 1",
        "'majoritty' is not known, did you mean 'majority'",
    ):
        assert text in str(first.value)
    better = FAULTY.replace("speling = 1\n", "").replace("3.0", "0.3").replace("tty", "ty")
    (tmp_path / "system.toml").write_text(better)
    with pytest.raises(RecipeError) as second:
        load_system(str(tmp_path), [change_of("members.b.train.epochs=1")])
    for text in (
        "members.b is not a model",
        "2 models are called 'a'",
        "a: give either recipe or model",
        "'test3 macroF1': give SPLIT FIGURE, validation",
        "did you mean 'macro-F1'",
        "ensemble.priority: 'b' is not a member",
        "nowhere.toml",
    ):
        assert text in str(second.value)
    with pytest.raises(RecipeError, match="neither a system of the package nor a folder"):
        load_system("abinaya")
