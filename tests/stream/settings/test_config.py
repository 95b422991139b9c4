"""Profiles: every fault at once, by name."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from abhinaya.models.fields import members
from abhinaya.models.vote.combiner import Combiner, Member
from abhinaya.models.vote.combiner_file import write_combiner
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import Config, VadConfig, WorkerConfig, decode, encode
from abhinaya.stream.settings.profile import load, profiles
from abhinaya.stream.settings.vote import load_combiner, rule_of

GOOD = '[voters.S1]\nmodel = "tiny-speech"\n'


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, "utf-8")
    return str(path)


def faults(tmp_path: Path, text: str, overrides: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path, text), overrides)
    assert error.value.exit_code == 2
    return error.value.reason.split("; ")


def sections(kind: type[Any] = Config) -> list[type[Any]]:
    found = [kind]
    for hint in get_type_hints(kind).values():
        for member in members(hint):
            if dataclasses.is_dataclass(member) and member not in found:
                found += sections(member)
    return found


def test_every_profile_of_the_package_loads() -> None:
    assert "embedded" in profiles()
    for name in profiles():
        assert load(name).profile == name


def test_what_a_file_does_not_say_has_its_default(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD))
    assert config.profile == "mine"
    assert config.asr is None
    assert config.vad == VadConfig()
    assert config.voters == {"S1": WorkerConfig(model="tiny-speech")}


def test_every_value_of_a_file_arrives(tmp_path: Path) -> None:
    text = """
profile = "night"
[asr]
model = "faster-whisper"
max_batch = 1
[voters.T2]
model = "tiny-text"
replicas = 3
options = { threads = 2 }
[vad]
min_silence_s = 1
[vote]
method = "weighted"
priority = ["T2"]
weights = { T2 = 0.5 }
min_confidence = 0.4
temperatures = { T2 = 2 }
"""
    config = load(write(tmp_path, text))
    assert config.profile == "night"
    assert config.asr == WorkerConfig(model="faster-whisper", max_batch=1)
    assert config.voters["T2"].replicas == 3
    assert config.voters["T2"].options == {"threads": 2}
    assert config.vad.min_silence_s == 1.0
    assert config.vote.priority == ("T2",)
    assert config.vote.weights == {"T2": 0.5}
    assert (config.vote.min_confidence, config.vote.temperatures) == (0.4, {"T2": 2.0})


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    text = """
colour = "red"
[voters.S1]
replicas = "many"
[vad]
min_silense_s = 1
start_threshold = 2
[vote]
method = "dice"
[flow]
file_window = 1.5
"""
    found = faults(tmp_path, text, {"deadlines.live_s": 0})
    expected = [
        "colour is not a setting",
        "voters.S1.model is missing",
        "voters.S1.replicas = 'many' does not fit",
        "vad.min_silense_s is not a setting, did you mean 'min_silence_s'?",
        "vad.start_threshold = 2 is above 1",
        "vote.method = 'dice' is not known",
        "flow.file_window = 1.5 does not fit",
        "deadlines.live_s = 0 is below 0.05",
    ]
    for start in expected:
        assert any(fault.startswith(start) for fault in found), start
    assert len(found) == len(expected)


def test_an_unknown_setting_without_a_near_one_lists_what_there_is(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, GOOD + "[flow]\nxyzzy = 1\n")
    assert (
        fault
        == "flow.xyzzy is not a setting (known: audio_mib, file_window, files_window, kept_s, "
        "live_backlog)"
    )


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("vad.start_threshold=0.3", "vad.end_threshold is above vad.start_threshold"),
        ("vad.max_segment_s=3", "vad.cut_search_s is not shorter than vad.max_segment_s"),
        ("vote.quorum=2", "vote.quorum = 2 is more than the number of voters"),
        ("vote.cascade=['t1']", "vote.cascade: t1 is not a voter (known: S1)"),
        (
            "vote.cascade=['S1']",
            "vote.cascade names every voter: leave one out, which is asked first",
        ),
        ("vote.weights.s1=1", "vote.weights.s1 is not a voter, did you mean 'S1'?"),
        ("vote.temperatures.s1=1", "vote.temperatures.s1 is not a voter, did you mean 'S1'?"),
        ("supervise.beat_s=3", "supervise.silent_s is less than twice supervise.beat_s"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, setting: str, fault: str
) -> None:
    assert faults(tmp_path, f"{setting}\n{GOOD}") == [fault]
    assert faults(tmp_path, "") == ["voters is empty: a run needs at least one"]


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("vote.weights.S1", ["-1.0", "nan", "inf"]),
        ("vote.temperatures.S1", ["0.0", "-1.0", "nan", "inf"]),
        ("vote.min_confidence", ["-0.1", "1.1", "nan"]),
        ("deadlines.file_s", ["nan", "inf", "-inf"]),
    ],
)
def test_a_number_out_of_range_is_refused_here_and_not_in_the_hub(
    tmp_path: Path, setting: str, values: list[str]
) -> None:
    table, _, name = setting.rpartition(".")
    for value in values:
        (fault,) = faults(tmp_path, f"{GOOD}[{table}]\n{name} = {value}\n")
        assert fault.startswith(setting)


@pytest.mark.parametrize("name", ["../S1", "a/b", "", "S 1", "-S1", "asr"])
def test_the_name_of_a_voter_is_a_plain_word_and_not_that_of_the_transcriber(
    tmp_path: Path, name: str
) -> None:
    """It becomes the name of a process, of its log and of its socket's identity."""
    (fault,) = faults(tmp_path, f'[voters."{name}"]\nmodel = "tiny-speech"\n')
    assert fault.startswith(f"voters.{name}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("voters = 3", "voters = 3 does not fit"),
        ("voters.S1 = 3", "voters.S1 must be a table, not 3"),
        (GOOD + 'asr = "yes"', "voters.S1.asr is not a setting"),
        ('asr = "yes"\n' + GOOD, "asr must be a table, not 'yes'"),
        ("vad = 1\n" + GOOD, "vad must be a table, not 1"),
    ],
)
def test_what_should_be_a_table_and_is_not_is_refused(
    tmp_path: Path, text: str, fault: str
) -> None:
    assert faults(tmp_path, text)[0].startswith(fault)


def test_overrides_win_and_reach_into_tables_that_the_file_has_not(tmp_path: Path) -> None:
    config = load(
        write(tmp_path, GOOD + "[flow]\nfile_window = 2\n"),
        {"flow.file_window": 5, "vad.pad_s": 0.2, "voters.S1.replicas": 2},
    )
    assert config.flow.file_window == 5
    assert config.vad.pad_s == 0.2
    assert config.voters["S1"] == WorkerConfig(model="tiny-speech", replicas=2)


def test_a_profile_that_is_not_there_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embedded") as error:
        load("nowhere.toml")
    assert error.value.subject == "profile 'nowhere.toml'"
    path = tmp_path / "bad.toml"
    for data in (b"= broken", b"\xff\xfe\x00"):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match="cannot be read"):
            load(str(path))


def test_a_config_comes_out_of_the_file_for_the_children_as_it_went_in() -> None:
    for name in profiles():
        config = load(name)
        assert decode(encode(config)) == config
    changed = Config(profile="x", voters={"S1": WorkerConfig(model="m", options={"a": [1, "b"]})})
    assert decode(encode(changed)) == changed


@pytest.mark.parametrize("kind", sections(), ids=lambda kind: kind.__name__)
def test_every_setting_says_what_it_is_and_its_default_is_within_its_range(kind: type[Any]) -> None:
    for spec in dataclasses.fields(kind):
        assert spec.metadata["doc"].strip(), spec.name
        if isinstance(spec.default, int | float):
            least, most = spec.metadata.get("least"), spec.metadata.get("most")
            assert (-math.inf if least is None else least) <= spec.default, spec.name
            assert spec.default <= (math.inf if most is None else most), spec.name


# --- a fitted combiner ----------------------------------------------------------------------------


def combiner_file(folder: Path, **changes: Any) -> Path:
    members = {"S1": Member("tiny-speech", "2", 1.5, 2.0), "T2": Member("tiny-text", "1")}
    fields: dict[str, Any] = {"method": "weighted", "members": members, "min_confidence": 0.3}
    path = folder / "fitted.json"
    write_combiner(path, Combiner(**(fields | changes)))
    return path


FITTED = GOOD + '[vote]\nmethod = "weighted"\ncombiner = "fitted.json"\n'


def test_a_combiner_of_a_profile_lies_beside_it_and_that_of_a_flag_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    beside, own = combiner_file(tmp_path), combiner_file(here)
    monkeypatch.chdir(here)
    assert load(write(tmp_path, FITTED)).vote.combiner == str(beside)
    settings = {"vote.method": "weighted", "vote.combiner": "fitted.json"}
    assert load(write(tmp_path, GOOD), settings).vote.combiner == str(own)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FITTED, (2.0, 1.5, 0.3)),
        (FITTED + "min_confidence=0\nweights={S1=7}\ntemperatures={S1=3}\n", (7.0, 3.0, 0.0)),
        (GOOD, (None, None, 0.0)),
    ],
    ids=["as fitted", "the profile goes before", "without a combiner"],
)
def test_what_was_fitted_is_what_the_profile_leaves_open(
    tmp_path: Path, text: str, expected: tuple[float | None, ...]
) -> None:
    combiner_file(tmp_path)
    vote = load(write(tmp_path, text)).vote
    rule = rule_of(vote, load_combiner(vote))
    found = (rule.weights.get("S1"), rule.temperatures.get("S1"), rule.min_confidence)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD + '[vote]\nmethod = "logistic"\n', "'logistic' needs vote.combiner"),
        (FITTED.replace("fitted.json", "gone.json"), "gone.json: no such file"),
        (FITTED.replace("weighted", "mean"), "was fitted for weighted, not mean"),
        (
            FITTED.replace("tiny-speech", "wavlm"),
            "it was fitted on S1 as tiny-speech, which is now wavlm",
        ),
    ],
)
def test_a_combiner_that_does_not_fit_is_refused_before_anything_starts(
    tmp_path: Path, text: str, fault: str
) -> None:
    combiner_file(tmp_path)
    (said,) = faults(tmp_path, text)
    assert fault in said


def test_a_voter_that_the_combiner_does_not_know_may_join(tmp_path: Path) -> None:
    """It may give only attributes; if it gives labels, the hub refuses it (test_attributes.py)."""
    combiner_file(tmp_path)
    assert "X" in load(write(tmp_path, FITTED + '[voters.X]\nmodel = "wavlm"\n')).voters


def test_a_combiner_that_is_gone_since_is_named_by_the_hub(tmp_path: Path) -> None:
    path = combiner_file(tmp_path)
    vote = load(write(tmp_path, FITTED)).vote
    path.unlink()
    with pytest.raises(ConfigError, match=r"vote.combiner .*fitted.json: no such file"):
        load_combiner(vote)


# --- the refiner ----------------------------------------------------------------------------------


REFINED = GOOD + '[asr]\nmodel = "faster-whisper"\n[refiner]\nmodel = "zero-shot"\n'


def test_nobody_is_asked_about_close_calls_unless_a_refiner_is_named(tmp_path: Path) -> None:
    plain, refined = load(write(tmp_path, GOOD)), load(write(tmp_path, REFINED))
    assert plain.refiner is None
    assert rule_of(plain.vote).refine_margin == 0.0
    assert refined.refiner == WorkerConfig(model="zero-shot")
    assert rule_of(refined.vote, refined=True).refine_margin == 0.2
    assert all(load(name).refiner is None for name in profiles())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD + '[refiner]\nmodel = "zero-shot"\n', "refiner needs transcripts"),
        (REFINED + 'host = "S1"\n', "refiner.host"),
        (REFINED + "[vote]\nrefine_top = 1\n", "vote.refine_top = 1 is below 2"),
        (GOOD + '[voters.refiner]\nmodel = "tiny-text"\n', "voters.refiner cannot name a voter"),
    ],
)
def test_a_refiner_that_cannot_work_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (said,) = faults(tmp_path, text)
    assert fault in said
