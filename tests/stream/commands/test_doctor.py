"""The doctor: what each check finds in planted circumstances, and all of it on this machine."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from fakes import config

from abhinaya.stream.commands import doctor
from abhinaya.stream.commands import doctor_machine as network
from abhinaya.stream.commands import main as commands
from abhinaya.stream.commands.doctor import found
from abhinaya.stream.commands.doctor_machine import Finding, disk, microphone, versions
from abhinaya.stream.commands.doctor_trial import Outcome, judge, run_monitor, trial
from abhinaya.stream.errors import SourceError
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.settings.profile import load
from abhinaya.stream.sources.microphone import Device
from abhinaya.stream.wire.sockets import Lock


def one(findings: Iterable[Finding], subject: str) -> Finding:
    (finding,) = [f for f in findings if f.subject == subject]
    return finding


def test_what_a_check_raises_is_a_fault_with_a_remedy() -> None:
    def missing() -> Iterable[Finding]:
        raise SourceError("x", "is gone")

    def broken() -> Iterable[Finding]:
        yield Finding("b", "ok", "fine")
        raise ZeroDivisionError("oops")

    assert list(found("a", missing)) == [
        Finding("a", "fault", "x: is gone", "correct that, and run the doctor again")
    ]
    first, second = found("b", broken)
    assert first.state == "ok"
    assert second.detail == "could not be checked: ZeroDivisionError: oops"
    assert second.state == "fault"
    assert second.remedy


# --- packages -------------------------------------------------------------------------------------


def installed(versions: dict[str, str]) -> Any:
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    return version


DECLARED = [
    "numpy>=2,<3",
    'torch>=2; extra == "train"',
    'winreg; sys_platform == "win32"',
    "av>=14",
]


def test_packages_are_compared_with_what_is_required() -> None:
    good = versions(lambda _: DECLARED, installed({"numpy": "2.4", "av": "14", "abhinaya": "0.1"}))
    assert one(good, "packages") == Finding("packages", "ok", "2 as required by abhinaya 0.1")
    bad = one(versions(lambda _: DECLARED, installed({"numpy": "1.26"})), "packages")
    assert bad.state == "fault"
    assert set(bad.detail.split("; ")) == {
        "numpy is 1.26, not <3,>=2",
        "av is not installed",
    }
    assert "pip install" in bad.remedy


# --- the machine ----------------------------------------------------------------------------------


def test_a_full_disk_is_a_fault_and_a_small_cache_a_warning() -> None:
    assert one(disk(config(), lambda path: 2**40), "disk").state == "ok"
    full = one(disk(config(), lambda path: 5 * 2**20), "disk")
    assert (full.state, full.detail.partition(" free")[0]) == ("fault", "5 MB")
    small = list(disk(config(profile="open"), lambda path: 2**30))
    assert [(f.subject, f.state) for f in small] == [("disk", "ok"), ("cache", "warning")]
    assert not [f for f in disk(load("embedded"), lambda path: 2**30) if f.subject == "cache"]


def test_a_missing_microphone_is_a_warning_unless_it_is_needed() -> None:
    def broken() -> list[Device]:
        raise SourceError("microphone", "the PortAudio library is missing", "apt install it")

    for devices in (list, broken):
        (finding,) = microphone(False, devices)
        assert finding.state == "warning"
        assert finding.remedy
        (finding,) = microphone(True, devices)
        assert finding.state == "fault"
    there = [Device(0, "built-in", 2, 48_000, True), Device(3, "headset", 1, 16_000, False)]
    (finding,) = microphone(True, lambda: there)
    assert finding == Finding("microphone", "ok", "built-in (default), headset")


# --- sockets --------------------------------------------------------------------------------------


def test_an_endpoint_that_is_taken_or_open_to_all_is_a_fault() -> None:
    free = list(found("sockets", lambda: network.endpoint(None, None)))
    assert [f.state for f in free] == ["ok"]
    with run_directory() as directory:
        lock = Lock(f"ipc://{directory}")
        taken = list(found("endpoint", lambda: network.endpoint(f"ipc://{directory}", None)))
        lock.release()
        assert [f.state for f in taken] == ["ok", "fault"]
        assert "has a hub already" in taken[1].detail
        again = list(found("endpoint", lambda: network.endpoint(f"ipc://{directory}", None)))
        assert [f.state for f in again] == ["ok", "ok"]
    bare = list(found("endpoint", lambda: network.endpoint("tcp://0.0.0.0:5555", None)))
    assert "has no keys" in bare[1].detail
    assert "abhinaya keys" in bare[1].remedy


def test_a_hub_that_is_not_there_is_a_fault() -> None:
    with run_directory() as directory:
        (finding,) = network.hub(f"ipc://{directory}", None, 0.3)
    assert finding.state == "fault"
    assert "does not answer within 0.3 s" in finding.detail


SERVE = "from abhinaya.stream.commands.main import main; main()"


@pytest.mark.processes
def test_a_hub_that_runs_answers() -> None:
    with run_directory() as directory:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "hub", f"ipc://{directory}"],
        )
        try:
            (finding,) = network.hub(f"ipc://{directory}", None, 20.0)
        finally:
            process.kill()
            process.wait()
    assert finding.state == "ok", finding


# --- the trial ------------------------------------------------------------------------------------


@pytest.mark.processes
def test_settings_of_the_environment_do_not_reach_the_trial_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ABHINAYA_VAD__PAD_S", "0.9")
    monkeypatch.setenv("ABHINAYA_PROFILE", "nonsense")
    done = run_monitor(["/no/such.wav"], 60.0, False)
    assert done.code == 3, done.errors  # that of the file: the profile was found


@pytest.mark.processes
def test_nothing_is_downloaded_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    findings = {f.subject: f for f in trial(load("open"), True, 120.0, False)}
    faults = {name for name, finding in findings.items() if finding.state == "fault"}
    assert faults == {"model asr", "model S1", "model T2"}
    assert findings["model S1"].detail == "wavlm: its files are not on this machine"
    assert "--download" in findings["model S1"].remedy
    assert findings["pipeline"].state == "warning"


@pytest.mark.processes
def test_a_trial_that_takes_too_long_is_ended() -> None:
    (slow,) = trial(load("embedded"), True, 0.1, False)
    assert (slow.subject, slow.state) == ("pipeline", "fault")
    assert "--timeout" in slow.remedy


def run(gaps: int = 0, ended: bool = True, verdicts: Iterable[Any] = ()) -> Finding:
    """What the doctor says of a run with these events."""
    stream = {
        "ended": ended,
        "gaps": gaps,
        "gap_reasons": {"full": gaps} if gaps else {},
        "segments": len(list(verdicts)),
    }
    events = [*verdicts, {"type": "summary", "streams": {"second": stream}}]
    return judged(Outcome(0, "\n".join(map(json.dumps, events)).encode(), []))[-1]


def judged(outcome: Outcome) -> list[Finding]:
    return list(judge(outcome, 1.0))


def test_what_comes_out_of_the_pipeline_is_judged() -> None:
    assert (run().state, run().detail[:19]) == ("fault", "no speech was found")
    words = {"text": "How can I help you?"}
    verdict = {"type": "verdict", "missing": [], "label": "neutral", "transcript": words}
    well = run(verdicts=[verdict])
    assert well.state == "ok"
    assert well.detail.endswith(': neutral, "How can I help you?"')
    lost = run(gaps=1)
    assert (lost.state, lost.detail) == ("fault", "audio was lost: full")
    assert run(ended=False).state == "fault"
    assert judged(Outcome(0, b"", []))[0].state == "fault"
    assert judged(Outcome(5, b"", ["x", "the hub died"]))[0].detail == "the hub died"
    late = verdict | {"missing": [{"voter": "S1", "reason": "late"}], "transcript": None}
    assert run(verdicts=[late]).state == "warning"


def test_each_model_is_said_to_be_loaded_or_not() -> None:
    up = {"type": "node_up", "service": "T2", "model": "m", "version": "1", "licence": "MIT"}
    said = "S1 (tiny-speech): cannot be loaded: x.onnx: no such file; Train one; or not"
    errors = [f"! {said}", f"abhinaya-stream: {said}"]
    output = json.dumps(up | {"noncommercial": True}).encode()
    assert judged(Outcome(6, output, errors)) == [
        Finding(
            "model S1",
            "fault",
            "tiny-speech: cannot be loaded: x.onnx: no such file",
            "Train one; or not",
        ),
        Finding("model T2", "ok", "m 1 (MIT, no commercial use)"),
        Finding("pipeline", "warning", "is not complete", "correct the models above first"),
    ]


# --- the whole ------------------------------------------------------------------------------------


@pytest.mark.processes
def test_the_embedded_profile_can_run_here(capfd: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["doctor", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["can_run"] is True
    states = {f["subject"]: f["state"] for f in report["findings"]}
    assert states.pop("microphone") in ("ok", "warning")
    assert set(states.values()) == {"ok"}
    assert {"profile", "packages", "disk", "sockets", "model ST1", "pipeline"} <= set(states)
    (pipeline,) = [f["detail"] for f in report["findings"] if f["subject"] == "pipeline"]
    assert pipeline.endswith(': neutral, "How can I help you?"')


@pytest.mark.processes
def test_a_profile_that_cannot_run_gives_one_and_the_remedies(
    capfd: pytest.CaptureFixture[str],
) -> None:
    flags = ["--set", 'voters.S1.options={weights="/no/such.onnx"}', "--timeout", "60"]
    assert commands.main(["doctor", *flags]) == 1
    text = capfd.readouterr().out
    assert "fault    model S1: " in text
    assert "warning  pipeline: is not complete" in text
    assert text.count("         -> ") == text.count("\nfault ") + text.count("\nwarning ")
    assert text.endswith("cannot run: model S1\n")


def test_a_faulty_profile_is_a_finding_among_others(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABHINAYA_VDA__PAD_S", "1")
    assert commands.main(["doctor", "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    first = report["findings"][0]
    assert (first["subject"], first["state"]) == ("profile", "fault")
    assert "ABHINAYA_VDA__PAD_S" in first["detail"]
    assert "packages" in {f["subject"] for f in report["findings"]}


def test_the_needs_of_rules_are_looked_at(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "trial", lambda *_: ())
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nname = "a"\nlabel = "sad"\ncommand = ["no-such-program"]\n')
    assert commands.main(["doctor", "--rules", str(rules)]) == 1
    text = capfd.readouterr().out
    assert "fault    rules: " in text
    assert "no-such-program" in text


def test_a_time_limit_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as error:
        commands.main(["doctor", "--timeout", "-1"])
    assert error.value.code == 2
