"""The file, then variables, then flags; every fault names which; and what is shown loads again."""

from __future__ import annotations

import datetime
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models import toml
from abhinaya.stream.commands import main as commands
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.environment import is_setting, trace_line_up, variables
from abhinaya.stream.settings.flags import literal
from abhinaya.stream.settings.profile import load, profiles, trace

PROFILE = """
[asr]
model = "faster-whisper"
[voters.S1]
model = "tiny-speech"
[vad]
pad_s = 0.1
min_speech_s = 0.3
min_silence_s = 0.5
"""


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE, "utf-8")
    return str(path)


def test_the_file_yields_to_a_variable_and_a_variable_to_a_flag(profile: str) -> None:
    environment = {"ABHINAYA_VAD__MIN_SPEECH_S": "0.4", "ABHINAYA_VAD__MIN_SILENCE_S": "0.6"}
    traced = trace_line_up(profile, ["vad.min_silence_s=0.7"], environment)
    vad = traced.config.vad
    assert (vad.pad_s, vad.min_speech_s, vad.min_silence_s) == (0.1, 0.4, 0.7)
    assert traced.origins["vad.pad_s"] == f"profile {profile}"
    assert traced.origins["vad.min_speech_s"] == "ABHINAYA_VAD__MIN_SPEECH_S"
    assert traced.origins["vad.min_silence_s"] == "--set vad.min_silence_s=0.7"
    assert "vad.cut_search_s" not in traced.origins


def test_a_table_by_flag_replaces_what_a_variable_put_into_it(profile: str) -> None:
    environment = {"ABHINAYA_VOTERS__S1__OPTIONS__THREADS": "2"}
    pairs = ["voters.S1.options={device='cpu'}", "voters.S1.options.seed=3"]
    traced = trace_line_up(profile, pairs, environment)
    assert traced.config.voters["S1"].options == {"device": "cpu", "seed": 3}
    assert "voters.S1.options.threads" not in traced.origins


def test_the_profile_is_the_flag_or_the_variable_or_the_default(profile: str) -> None:
    assert trace_line_up(None, [], {}).config.profile == "embedded"
    assert trace_line_up(None, [], {"ABHINAYA_PROFILE": "open"}).config.profile == "open"
    named = {"ABHINAYA_PROFILE": "nonsense"}
    assert trace_line_up(profile, [], named).config.profile == "mine"
    with pytest.raises(ConfigError) as error:
        trace_line_up(None, [], named)
    assert error.value.subject == "profile 'nonsense' (from ABHINAYA_PROFILE)"


def test_a_variable_finds_the_key_whatever_its_capitals(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text('[voters.Tone]\nmodel = "m"\noptions = { windowSize = 1 }\n', "utf-8")
    environment = {
        "ABHINAYA_VOTERS__TONE__OPTIONS__WINDOWSIZE": "2",
        "ABHINAYA_VOTERS__TONE__OPTIONS__DEVICE": "cuda",
        "ABHINAYA_VOTERS__S9__MODEL": "new",
        "ABHINAYA_VOTE__WEIGHTS__S9": "2",
    }
    config = trace_line_up(str(path), [], environment).config
    assert config.voters["Tone"].options == {"windowSize": 2, "device": "cuda"}
    assert config.voters["S9"].model == "new"
    assert config.vote.weights == {"S9": 2.0}


def test_every_fault_names_the_file_the_variable_or_the_flag(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(PROFILE + "pdd_s = 1\n", "utf-8")
    environment = {"ABHINAYA_VDA__X": "1", "ABHINAYA_VAD__START_THRESHOLD": "7"}
    with pytest.raises(ConfigError) as error:
        trace_line_up(str(path), ["asr.max_btch=2", "voters.S7.replicas=1"], environment)
    assert str(path) in error.value.subject
    missing = "voters.S7.model is missing (name in the registry (`abhinaya models list`))"
    assert set(error.value.reason.split("; ")) == {
        "vad.pdd_s is not a setting, did you mean 'pad_s'?",
        "vda is not a setting, did you mean 'vad'? (from ABHINAYA_VDA__X)",
        "vad.start_threshold = 7 is above 1 (from ABHINAYA_VAD__START_THRESHOLD)",
        "asr.max_btch is not a setting, did you mean 'max_batch'? (from --set asr.max_btch=2)",
        f"{missing} (from --set voters.S7.replicas=1)",
    }


def test_a_conflict_names_whom_it_is_from(profile: str) -> None:
    environment = {"ABHINAYA_VAD__START_THRESHOLD": "0.2"}
    with pytest.raises(ConfigError) as error:
        trace_line_up(profile, ["vad.end_threshold=0.3"], environment)
    assert error.value.reason.endswith(
        "(from --set vad.end_threshold=0.3 and ABHINAYA_VAD__START_THRESHOLD)"
    )


def test_other_variables_are_no_settings_and_a_value_is_toml_or_else_a_string() -> None:
    for name in ("ABHINAYA_PROFILE", "ABHINAYA_API_KEY", "PATH__X", "ABHINAYA_"):
        assert not is_setting(name)
        assert not list(variables({name: "1"}))
    for text, value in (("0.2", 0.2), ("true", True), ('["a", "b"]', ["a", "b"])):
        assert literal(text) == value
    for text in ("cuda", "1\ny = 2", ""):
        assert literal(text) == text


@pytest.mark.parametrize("name", profiles())
def test_what_is_shown_of_a_profile_loads_again(name: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(toml.as_toml("t", trace(name).config, {}), "utf-8")
    assert load(str(path)) == load(name)


def test_what_is_shown_of_changes_loads_again_and_says_where_they_are_from(
    profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("ABHINAYA_VAD__PAD_S", "0.2")
    odd = (
        'voters.S1.options={path="C:\\\\new \\"x\\" \\u007f #", list=[1, {a=1.5}], "key with" = 1}'
    )
    arguments = ["show-config", "--profile", profile, "--set", "asr.max_batch=2", "--set", odd]
    assert commands.main(arguments) == 0
    text = capsys.readouterr().out
    assert "pad_s = 0.2  # ABHINAYA_VAD__PAD_S\n" in text
    assert "max_batch = 2  # --set asr.max_batch=2\n" in text
    assert f"min_silence_s = 0.5  # profile {profile}\n" in text
    assert "\ncut_search_s = 3.0\n" in text
    assert commands.main(["show-config", "--set", "vad.pad_s=9"]) == 2
    assert "(from --set vad.pad_s=9)" in capsys.readouterr().err
    path = tmp_path / "shown.toml"
    path.write_text(text, "utf-8")
    expected = trace_line_up(profile, arguments[4::2], {"ABHINAYA_VAD__PAD_S": "0.2"}).config
    assert expected.voters["S1"].options["path"] == 'C:\\new "x" \x7f #'
    assert load(str(path)) == expected


def test_an_origin_of_several_lines_stays_in_its_comment(profile: str, tmp_path: Path) -> None:
    traced = trace_line_up(profile, ['voters.S1.options.text="""\nvad = 1\n"""'], {})
    path = tmp_path / "shown.toml"
    path.write_text(toml.as_toml("t", traced.config, traced.origins), "utf-8")
    assert load(str(path)) == traced.config


values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.datetimes()
    | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(st.text(), values)
def test_what_is_written_as_toml_is_read_as_it_was(key: str, value: Any) -> None:
    assert tomllib.loads(f"{toml._key([key])} = {toml.inline(value)}") == {key: value}


def test_what_toml_cannot_say() -> None:
    assert math.isnan(tomllib.loads(f"x = {toml.inline(math.nan)}")["x"])
    assert toml.inline(datetime.time(1, 2)) == "01:02:00"
    with pytest.raises(TypeError, match="NoneType"):
        toml.inline(None)
