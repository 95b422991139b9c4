"""What can be known before a process starts is said before one starts, in one line."""

from __future__ import annotations

import os
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

from abhinaya.stream import log
from abhinaya.stream.commands import main as commands
from abhinaya.stream.commands import stream as cli
from abhinaya.stream.commands.checks import (
    check_outputs,
    fault_of,
    faults_of_models,
    unpinned_models,
)
from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.run import monitor
from abhinaya.stream.run.plan import Input, Plan
from abhinaya.stream.settings.profile import load
from abhinaya.stream.sources.base import InputConfig


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recordings; and nothing may be started."""
    for name, channels in (("a.wav", 1), ("b.wav", 1), ("stereo.wav", 2)):
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setparams((channels, 2, 16_000, 0, "NONE", ""))
            file.writeframes(b"\0\0" * 16_000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "talk.txt").write_bytes((tmp_path / "a.wav").read_bytes())
    (tmp_path / "rules.csv").write_text("", "utf-8")
    os.link(tmp_path / "a.wav", tmp_path / "linked.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(log.VARIABLE, "")
    monkeypatch.setattr(log.ROOT, "handlers", [])

    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", started)
    return tmp_path


EARLY = [
    # options and inputs in any order; near misses
    ("a.wav --chanels split b.wav", 2, "unknown option '--chanels'; did you mean '--channels'?"),
    ("a.wav --plain --chanels=split b.wav", 2, "did you mean '--channels'?"),
    ("--profile embeded a.wav", 2, "did you mean 'embedded'?"),
    ("a.wav --format jsnl", 2, "unknown 'jsnl'; did you mean 'jsonl'?"),
    ("a.wav --output x.parqet", 2, "no format is called .parqet; did you mean '.parquet'?"),
    ("a.wav --sample-format pcmu", 2, "unknown 'pcmu'"),
    ("a.wav --set vad.pda_s=1", 2, "vad.pda_s is not a setting, did you mean 'pad_s'?"),
    ("a.wav --set vad.pad_s", 2, "--set vad.pad_s: has no value; write section.key=value"),
    ("a.wav --set voter.S1.model=x", 2, "voter is not a setting, did you mean 'voters'?"),
    # options that exclude each other, or have no effect
    ("a.wav --live --plain", 2, "--plain: not allowed with argument --live"),
    ("a.wav --live --format jsonl", 2, "--live: shows no JSON"),
    ("a.wav --rate 8000", 2, "--rate: has no effect; add --sample-format"),
    ("a.wav --sample-format mulaw", 2, "--sample-format: has no effect; pipe the raw samples in"),
    ("a.wav --channel-count 2", 2, "--channel-count: has no effect"),
    ("a.wav --device 3", 2, "--device: has no effect; add --mic"),
    ("a.wav --endless yes", 2, "--endless: has no effect; name an http address"),
    ("a.wav --append", 2, "--append: has no effect; add --output"),
    ("a.wav --append --output x.csv", 2, ".csv cannot be appended to"),
    ("a.wav --keys k", 2, "--keys: has no effect; add --hub"),
    ("a.wav --key-name k", 2, "--key-name: has no effect; add --hub"),
    ("a.wav --newest 1", 2, "--newest: has no effect; add --feed"),
    ("a.wav --follow", 2, "--follow: has no effect; add --feed"),
    ("a.wav --keep", 2, "--keep: has no effect; add --feed"),
    ("a.wav --log-format json", 2, "--log-format json: has no log; add --log-level"),
    ("a.wav --channel-names a,b", 2, "but they are mixed into one stream; add --channels split"),
    ("a.wav --channels split --channel-names a,a", 2, "each channel needs a name of its own"),
    ("a.wav --channels split --channel-names a,b", 2, "names 2 channels, but a.wav has 1"),
    ("a.wav --name x b.wav", 2, "names 1 of 2 inputs"),
    ("a.wav --min-confidence 3", 2, "is above 1"),
    ("a.wav --rules none.toml", 2, "rules 'none.toml': cannot be read"),
    # inputs
    ("", 2, "the input: is missing"),
    ("- -", 2, "-: can be read only once; name standard input once"),
    ("mic --mic", 2, "mic: can be read only once"),
    ("-", 3, "standard input: is closed"),
    ("aa.wav", 3, "aa.wav: no such file; did you mean 'a.wav'?"),
    ("other.mp3", 3, "other.mp3: no such file; check the path"),
    ("*.mp3", 3, "*.mp3: matches no file"),
    ("folder", 3, "folder: is a folder; name a file in it"),
    ("empty.wav", 3, "empty.wav: is empty (0 bytes)"),
    ("-- -a.wav", 3, "-a.wav: no such file; did you mean 'a.wav'?"),
    ("ftp://host/x", 3, "uses a protocol that is not accepted (ftp)"),
    # outputs
    ("talk.txt --output talk.txt", 2, "--output talk.txt: is an input too; write to another file"),
    ("talk.txt --output ./folder/../talk.txt", 2, "is an input too"),
    ("a.wav --output linked.csv", 2, "--output linked.csv: is an input too"),
    ("a.wav --output x.csv --log-file x.csv", 2, "--output x.csv: is the --log-file too"),
    ("talk.txt --log-file talk.txt", 2, "--log-file talk.txt: is an input too"),
    ("a.wav --output x.csv --output ./x.csv", 4, "x.csv: is named twice"),
    ("a.wav --output none/x.csv", 4, "missing folder none"),
    ("a.wav --output folder", 4, "folder"),
    ("a.wav --log-file /none/x", 4, "--log-file /none/x: cannot be opened"),
    # models
    ("a.wav --set voters.S1.options.weight=x", 2, "has no option 'weight'; did you mean 'weights'"),
    ("a.wav --set asr.options.modl=x", 2, "unknown option of faster-whisper; did you mean 'model'"),
    ("a.wav --set asr.model=wisper", 2, "unknown transcriber; did you mean 'faster-whisper'?"),
    ("a.wav --set asr.options.beam_size=many", 2, "beam_size = 'many': is not of the type int"),
    ("a.wav --set asr.options.model=medum", 2, "nor a size; did you mean 'medium'?"),
    ("a.wav --set asr.options.beam_size=0", 2, "beam_size = 0: out of range; use 1 to 64"),
    ("a.wav --set asr.options.device=cdua", 2, "unknown value; did you mean 'cuda'?"),
    ("a.wav --set asr.options.compute_type=int9", 2, "did you mean 'int"),
    ("a.wav --set asr.options.language=de", 2, "tiny.en does not know it; use a multilingual"),
    ("a.wav --set asr.options.guards.x=1", 2, "asr.options.guards.x is not a setting"),
    ("a.wav --set vote.method=majorty", 2, "is not known, did you mean 'majority'?"),
    ("a.wav --set vote.priority=['S9']", 2, "vote.priority: S9 is not a voter"),
    ("a.wav --set asr.options.task=tanslate", 2, "is not of the type Literal['transcribe', 'tr"),
    ("a.wav --set asr.options.model=/none", 6, "model = '/none': it does not exist"),
    ("a.wav --set voters.S1.options.weights=/none", 6, "weights = '/none': it does not exist"),
    # hubs
    ("a.wav --hub nonsense", 7, "nonsense: is not an endpoint"),
    ("a.wav --hub tcp://10.0.0.1:5000", 7, "is open to the network, but has no keys"),
    ("a.wav --hub tcp://10.0.0.1:5000 --keys none", 7, "none: is not a directory of keys"),
]


@pytest.mark.parametrize(("line", "code", "said"), EARLY, ids=[line for line, _, _ in EARLY])
def test_it_is_said_before_anything_starts(
    line: str, code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    before = {path: path.stat().st_size for path in Path().rglob("*")}
    try:
        found = cli.main(line.split())
    except SystemExit as left:
        found = int(str(left.code))
    error = capsys.readouterr().err
    assert (found, error.count("\n")) == (code, 1), error
    assert said in error
    assert {path: path.stat().st_size for path in before} == before, "nothing was written over"


@pytest.mark.parametrize(
    "line",
    [
        "joe:s3cret@host/x.mp3", "ftp://joe:s3cret@host/x", "http://joe:s3cret@:bad/x",
        "--feed joe:s3cret@host/feed", "--feed ftp://joe:s3cret@host/feed?key=s3cret",
        "--feed http:/joe:s3cret@host/feed", "http://joe:s3cret@host/x --channel-names a",
        "--feed http://joe:s3cret@host/x --feed http://joe:s3cret@host/x",
        "rtsp://joe:s3cret@", "https:joe:s3cret@host/x", "http://joe:s3cret@host/x\udcff",
    ],
)  # fmt: skip
def test_no_message_has_a_password(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split(" ")) in (2, 3)
    error = capsys.readouterr().err
    assert "s3cret" not in error
    assert error.count("\n") == 1


def test_every_model_that_cannot_be_loaded_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["a.wav", "--profile", "paper"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["S1", "S2", "T2", "ST1"]
    assert all("still has the placeholder <" in line for line in lines)


@pytest.mark.parametrize("words", [["a.wav", ""], ["a.wav", "--profile", ""], ["--hub=", "a.wav"]])
def test_an_argument_that_is_empty_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert "is empty; see `abhinaya-stream --help`" in capsys.readouterr().err


def test_a_bad_input_among_good_ones_is_reported_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans: list[Plan] = []

    class Run:
        def __init__(self, plan: Plan, *_: object) -> None:
            plans.append(plan)

        def run(self) -> int:
            return 0

    monkeypatch.setattr(cli, "Run", Run)
    line = "none.wav a.wav --plain folder ftp://host/x b.wav empty.wav"
    assert cli.main(line.split()) == 0
    (plan,) = plans
    assert [item.name for item in plan.inputs] == ["a", "b"]
    assert [fault.subject for fault in plan.faults] == [
        "none.wav", "folder", "ftp://host/x", "empty.wav",
    ]  # fmt: skip
    assert cli.main(["none.wav", "folder"]) == 3
    assert capsys.readouterr().err.count("\n") == 2


def test_the_run_reports_the_faults_and_its_exit_code_is_theirs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = fault_of(Input("x", InputConfig("none.wav")))
    assert fault is not None
    said: list[str] = []

    class Observer:
        def loading(self, _: object) -> None: ...

        def trouble(self, message: str) -> None:
            said.append(message)

    plan = Plan(load("embedded"), (Input("a", InputConfig("a.wav")),), faults=(fault,))
    run = monitor.Run(plan, folder, (), Observer())
    run._report(plan.faults)
    assert said == [str(fault)]
    assert run._exit_code() == fault.exit_code
    run.cells.close()


def test_the_same_file_twice_is_read_twice_and_a_pipe_is_not_touched(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert fault_of(Input("x", InputConfig(str(pipe)))) is None  # opening it would wait for ever
    assert fault_of(Input("x", InputConfig("rtsp://host/x"))) is None


def test_an_output_is_not_a_file_of_the_rules_or_the_profile(tmp_path: Path) -> None:
    def fails(line: str) -> str:
        args = cli._parser().parse_args(line.split())
        with pytest.raises(AbhinayaError) as error:
            check_outputs(args, ())
        return str(error.value)

    assert "is the file of --rules too" in fails("a.wav --output rules.csv --rules rules.csv")
    assert "is the profile too" in fails("a.wav --output rules.csv --profile ./rules.csv")


def test_the_licence_is_asked_for_before_thirteen_billion_weights_are_read(
    tmp_path: Path,
) -> None:
    file = tmp_path / "x.pth"
    file.touch()
    own = {f"voters.{v}.options.{k}": str(file) for v in ("S2", "ST1")
           for k in ("beats", "adapter", "checkpoint")}  # fmt: skip
    own |= {f"voters.{v}.options.checkpoint": str(file) for v in ("S1", "T2")}
    config = load("paper", own)
    [fault] = faults_of_models(config, accept_noncommercial=False)
    assert str(fault).startswith("S2 (salmonn-13b): has a licence that forbids")
    assert not [*faults_of_models(config, accept_noncommercial=True)]
    small = load("open", {"voters.S1.model": "tiny-speech", "voters.S1.options": {}})
    [fault] = faults_of_models(small, accept_noncommercial=False)
    assert str(fault).startswith("S1 (tiny-speech): has a licence")
    elsewhere = load("paper", {f"voters.{v}.replicas": 0 for v in ("S1", "S2", "T2", "ST1")})
    assert not [*faults_of_models(elsewhere, accept_noncommercial=False)]


def test_a_model_whose_owner_can_change_it_is_named() -> None:
    [text] = unpinned_models(load("open"))
    assert text.startswith(
        "S1: checkpoint = '3loi/SER-Odyssey-Baseline-WavLM-Categorical' names no"
    )
    commit = "0123456789abcdef" * 2 + "01234567"
    own = {"voters.S1.options.checkpoint": f"org/name@{commit}", "asr.options.model": "org/ct2"}
    [text] = unpinned_models(load("open", own))
    assert text.startswith("asr: model = 'org/ct2' names no revision")
    assert list(unpinned_models(load("embedded"))) == []
    [text] = unpinned_models(load("paper"))
    assert "vicuna-13b" in text, "and not of T1, which a server loads"


def test_a_package_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "torch" else find(name, *a)
    )
    faults = [*faults_of_models(load("open"), accept_noncommercial=False)]
    assert [fault.subject for fault in faults] == ["S1 (wavlm)", "T2 (text-classification)"]
    assert all("needs the package torch" in fault.reason for fault in faults)
    assert all("abhinaya[torch]" in fault.remedy for fault in faults)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("settigns", 2, "did you mean 'settings'?"),
        ("--verson", 2, "did you mean '--version'?"),
        ("a.wav", 2, "command 'a.wav': is an input; use abhinaya-stream 'a.wav'"),
        ("node S9 ipc:///tmp/none", 2, "service 'S9': is not a service of profile 'embedded'"),
        ("hub nonsense", 7, "is not an endpoint"),
        ("transcribe --plain a.wav", 2, "unknown option '--plain'"),
        ("convert a.wav", 2, "the following arguments are required: OUT"),
        ("report --outptu x none.jsonl", 2, "did you mean '--output'?"),
        ("train --show s11", 2, "did you mean 's1'?"),
        ("data prepare iemocp x --out y", 2, "unknown 'iemocp'; did you mean 'iemocap'?"),
        ("eval --jsn x", 2, "did you mean '--json'?"),
        ("models show tiny-speach", 2, "did you mean 'tiny-speech'?"),
        ("bench latencyy", 2, "did you mean 'latency'?"),
    ],
)
def test_other_commands_say_it_in_a_line(
    line: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = commands.main(line.split())
    except SystemExit as left:
        found = int(str(left.code))
    error = capsys.readouterr().err
    assert (found, error.count("\n")) == (code, 1), error
    assert said in error


@pytest.mark.parametrize("command", ["hub", "node", "keys", "show-config", "models", "bench"])
def test_every_command_knows_its_version(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        commands.main([command, "--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"abhinaya {command} ")
