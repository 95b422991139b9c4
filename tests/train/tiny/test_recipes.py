from __future__ import annotations

import pytest

from abhinaya.train.cli import main
from abhinaya.train.command import changed
from abhinaya.train.errors import TrainingError
from abhinaya.train.tiny.speech import SpeechRecipe
from abhinaya.train.tiny.text import TextRecipe


def test_settings_reach_what_is_nested_and_nothing_else() -> None:
    before = SpeechRecipe()
    after = changed(
        before, ["schedule.rate=1", "before.seconds=[1.0, 2.0]", 'shares={"nemo":1.0}', "hidden=3"]
    )
    assert after.schedule.rate == 1.0
    assert after.before.seconds == (1.0, 2.0)
    assert after.shares == {"nemo": 1.0}
    assert after.hidden == 3
    assert after.pairing == before.pairing
    assert after.schedule.steps == before.schedule.steps
    assert changed(TextRecipe(), []) == TextRecipe()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("smothing=0.1", "did you mean .smoothing."),
        ("schedule.stps=2", "did you mean .steps."),
        ("seed.x=2", "known: none"),
        ("seed", "NAME=VALUE"),
        ("seed=two", "not a JSON value"),
        ("seed=1.5", "of the type of 0"),
        ("words=1", "of the type of False"),
        ("before.neutral=[1.0]", "of the type of"),
        ("before=3", "of the type of"),
    ],
)
def test_settings_that_are_not_of_the_recipe_are_refused(setting: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        changed(SpeechRecipe(), [setting])


@pytest.mark.parametrize("model", ["tiny-speech", "tiny-text", "tiny-joint"])
def test_a_wrong_setting_is_one_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([model, "--set", "sede=1"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "did you mean 'seed'?" in said
