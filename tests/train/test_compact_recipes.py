from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load
from abhinaya.train.cli import main
from abhinaya.train.compact_joint import JointRecipe
from abhinaya.train.compact_recipes import changed
from abhinaya.train.compact_speech import SpeechRecipe
from abhinaya.train.errors import TrainingError


def test_settings_reach_what_is_nested_and_nothing_else() -> None:
    before = JointRecipe()
    after = changed(
        before,
        ["speech.schedule.rate=1", "speech.planes=[1,2,3,4]", 'speech.plan.shares={"nemo":1.0}'],
    )
    assert after.speech.schedule.rate == 1.0
    assert after.speech.planes == (1, 2, 3, 4)
    assert after.speech.plan.shares == {"nemo": 1.0}
    assert after.text == before.text
    assert after.speech.schedule.steps == before.speech.schedule.steps
    assert changed(SpeechRecipe(), []) == SpeechRecipe()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("smothing=0.1", "did you mean smoothing"),
        ("schedule.stps=2", "did you mean steps"),
        ("seed.x=2", "there are none"),
        ("seed", "NAME=VALUE"),
        ("seed=two", "no JSON"),
        ("seed=1.5", "of the kind of 0"),
        ("plan.running=1", "of the kind of True"),
        ("planes=[1,2]", "of the kind of"),
        ("plan=3", "of the kind of"),
        ("sounds=0", "sounds = 0, manner.seeds = 4: at least 1 each"),
        ("manner.seeds=0", "at least 1 each"),
        ("shares=[0.0,0.0,1.0]", "the first two not both 0"),
        ("shares=[0.5,-0.5,1.0]", "none may be below 0"),
    ],
)
def test_settings_that_are_not_of_the_recipe_are_refused(setting: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        changed(SpeechRecipe(), [setting])


def test_a_wrong_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compact-speech", "--set", "smothing=0.1"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "smoothing" in said


def test_what_was_made_with_bursts_says_how_and_votes_without_them(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--cache", str(tmp_path / "cache")]
    train = ["compact-speech", *folders, "--out", str(tmp_path), "--seed", "5", "--steps", "2"]
    assert main([*train, "--set", "bursts=0.5"]) == 0
    assert "ravdess_15" in capsys.readouterr().out  # the tuning speaker's figure
    path = tmp_path / "compact-speech.onnx"
    told = ("schedule.steps=2", "manner.schedule.steps=2", "seed=5", "bursts=0.5")
    made_by = "abhinaya train compact-speech" + "".join(f" --set {s}" for s in told)
    assert json.loads(path.with_suffix(".json").read_text())["made_by"] == made_by
    voter = load("compact-speech", {"weights": str(path)})
    assert set(voter.card.labels) == set(LABELS) - {"contempt"}

    assert main(["evaluate", "compact-speech", *folders, "--weights", str(path)]) == 0
    card = json.loads(path.with_suffix(".json").read_text())
    said = capsys.readouterr().out
    assert said.rstrip().endswith(path.with_suffix(".json").read_text().rstrip())
    assert card["made_by"] == made_by
    ways = card["figures"]["ravdess dev, macro_f1 by normalisation"]
    assert {"none (fixed statistics)", "own clip alone"} < set(ways)
    for way in ways.values():
        assert way["n"] == 14
        assert 0.0 <= way["interval"][0] <= way["interval"][1] <= 1.0
    confused = card["figures"]["ravdess dev, confusion, 20 s heard"]
    assert {label: sum(row.values()) for label, row in confused.items()} == dict.fromkeys(
        voter.card.labels, 2
    )
    voices = card["figures"]["neutral_voices by telephone, labelled otherwise"]
    assert voices["n"] == 1
    assert voices["share"] == np.sum([g for c, g in voices["guesses"].items() if c != "neutral"])
