"""`abhinaya-stream` as a person meets it: real processes, bad input, and one line that says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from media_server import Download, redirect, say, site

from abhinaya.bench.demo import CALL
from abhinaya.models.interrupts import INTERRUPTS
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.commands import main as commands
from abhinaya.stream.commands import stream as cli
from abhinaya.stream.errors import SinkError
from abhinaya.stream.sources import InputConfig, open_source

pytestmark = pytest.mark.processes


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def run(
    capfd: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, list[dict[str, Any]], str]:
    """Give exit code, events on standard output, and standard error."""
    code = cli.main([str(a) for a in arguments] + ["--format", "jsonl"])
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


def test_a_call_with_two_parties_gets_labels_for_each(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "events.jsonl"
    names = ("--channels", "split", "--channel-names", "agent,customer")
    code, events, _ = run(capfd, CALL, *names, "--output", output)
    assert code == 0
    verdicts = [e for e in events if e["type"] == "verdict"]
    assert {v["stream"] for v in verdicts} == {"call/agent", "call/customer"}
    assert len(verdicts) >= 8
    for verdict in verdicts:
        assert verdict["label"] in (*LABELS, UNKNOWN)
        assert 0 < verdict["end_s"] - verdict["start_s"] <= 10
        assert {v["voter"] for v in verdict["votes"]} | {
            m["voter"] for m in verdict["missing"]
        } == {"S1", "T2", "ST1"}
        assert verdict["latency_ms"]["total"] > 0
    text = " ".join(v["transcript"]["text"] for v in verdicts)
    assert "furious" in text  # said by the customer; heard by the transcriber
    kinds = [e["type"] for e in events]
    assert kinds.count("stream_ended") == 2
    assert kinds[-1] == "summary"
    # the file holds the same events; only the summary is each sink's own
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert [e for e in written if e["type"] == "verdict"] == verdicts


@pytest.mark.slow
def test_while_somebody_speaks_there_are_labels_that_change_nothing_in_the_final_ones(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = open_source(InputConfig(str(CALL)))
    call = np.concatenate([chunk.samples[:, 0] for chunk in source.chunks()])
    path = write_wav(tmp_path / "call.wav", call[: 12 * 16_000] * 32_767)
    patient = ("--set", "deadlines.live_s=60", "--set", "deadlines.provisional_s=5")

    def finals(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return [
            (e["segment"], e["start_s"], e["end_s"], e["label"], [v["label"] for v in e["votes"]])
            for e in events
            if e["type"] == "verdict" and e["final"]
        ]

    code, as_file, _ = run(capfd, path, *patient)
    assert code == 0
    assert all(e["final"] for e in as_file if e["type"] == "verdict")
    code, live, _ = run(capfd, path, "--realtime", *patient)
    assert code == 0
    assert finals(live) == finals(as_file) != []
    parts = [e for e in live if e["type"] == "verdict" and not e["final"]]
    assert {e["segment"] for e in parts} >= {0, 1}
    assert all(e["votes"] and e["leading"] in LABELS and not e["revision"] for e in parts)
    order = [(e["segment"], e["part"] or 99) for e in live if e["type"] == "verdict"]
    for segment in {segment for segment, _ in order}:
        mine = [part for number, part in order if number == segment]
        assert mine == sorted(mine), "parts in their order, and then the final one"
        assert mine[-1] == 99
    ends = {e["segment"]: e["end_s"] for e in live if e["type"] == "verdict" and e["final"]}
    assert all(e["end_s"] <= ends[e["segment"]] for e in parts)
    (summary,) = [e for e in live if e["type"] == "summary"]
    assert summary["streams"]["call"]["segments"] == len(finals(live))


@pytest.mark.slow
def test_two_inputs_run_beside_each_other_and_one_that_fails_does_not_stop_the_other(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bad = tmp_path / "text.wav"
    bad.write_text("this is no audio, whatever its name says\n" * 50)
    code, events, errors = run(capfd, bad, CALL)
    assert code == 3
    assert "text.wav" in errors
    assert [e["stream"] for e in events if e["type"] == "stream_ended"] == ["call"]
    assert any(e["type"] == "verdict" for e in events)


def test_a_missing_file_is_named_before_anything_is_loaded(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, events, errors = run(capfd, "no/such/call.wav")
    assert (code, events) == (3, [])
    assert "no/such/call.wav" in errors


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pytest.param(b"hello\n" * 100, marks=pytest.mark.slow),
        pytest.param(b"RIFF\x24\0\0\0WAVE", marks=pytest.mark.slow),
    ],
)
def test_a_file_without_audio_is_named_with_the_reason(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "odd.wav"
    path.write_bytes(content)
    code, events, errors = run(capfd, path)
    assert code == 3
    assert "odd.wav" in errors
    assert not [e for e in events if e["type"] == "verdict"]


@pytest.mark.slow
def test_pure_silence_has_no_label_and_the_summary_says_so(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = write_wav(tmp_path / "silence.wav", np.zeros(5 * 16_000))
    code, events, _ = run(capfd, path)
    assert code == 0
    assert not [e for e in events if e["type"] == "verdict"]
    assert events[-1]["type"] == "summary"
    assert events[-1]["streams"]["silence"]["segments"] == 0
    assert cli.main([str(path)]) == 0
    assert "no speech" in capfd.readouterr().out


@pytest.mark.slow
def test_audio_that_breaks_off_keeps_what_was_decided(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "broken.flac"
    whole = subprocess.run(
        [sys.executable, "-c", ENCODE, str(CALL), str(path)], check=True, capture_output=True
    )
    assert not whole.stderr
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    code, events, errors = run(capfd, path)
    assert code == 3
    assert "broken.flac" in errors
    assert [e for e in events if e["type"] == "verdict"]
    ended = [e for e in events if e["type"] == "stream_ended"]
    assert "breaks off" in ended[0]["reason"]


ENCODE = """
import sys, av
source = av.open(sys.argv[1]); target = av.open(sys.argv[2], "w")
stream = target.add_stream("flac", rate=16000, layout="mono")
resampler = av.AudioResampler("s16", "mono", 16000)
for frame in source.decode(audio=0):
    for part in resampler.resample(frame):
        target.mux(stream.encode(part))
target.mux(stream.encode(None)); target.close()
"""


def test_a_full_disk_is_said_once_and_what_else_is_written_goes_on(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, short_call: Path
) -> None:
    other = tmp_path / "other.jsonl"
    code, events, errors = run(capfd, short_call, "--output", "/dev/full", "--output", other)
    assert code == 4
    assert errors.count("/dev/full: cannot be written: No space left on device") == 1
    written = [json.loads(line) for line in other.read_text().splitlines()]
    assert [e for e in written if e["type"] == "verdict"] == [
        e for e in events if e["type"] == "verdict"
    ]
    assert [e["reason"] for e in events if e["type"] == "stream_ended"] == [""]


@pytest.mark.parametrize(
    "suffix",
    [".jsonl", *(pytest.param(other, marks=pytest.mark.slow) for other in (".vtt", ".TextGrid"))],
)
def test_an_output_folder_that_vanishes_is_said_once_and_the_run_goes_on(
    tmp_path: Path, suffix: str, short_call: Path
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    outputs = ("--output", folder / f"x{suffix}", "--output", tmp_path / "other.jsonl")
    process = subprocess.Popen(
        [sys.executable, "-m", "abhinaya.stream", short_call, *outputs, "--format", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(json.loads(line))
        if lines[-1]["type"] == "stream_started":
            shutil.rmtree(folder)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 4
    assert errors.count("cannot be written") == 1, errors
    assert f"x{suffix}" in errors
    assert "Traceback" not in errors
    assert [e["reason"] for e in lines if e["type"] == "stream_ended"] == [""]
    verdicts = [e for e in lines if e["type"] == "verdict"]
    assert len(verdicts) >= 3
    other = [json.loads(line) for line in (tmp_path / "other.jsonl").read_text().splitlines()]
    assert [e for e in other if e["type"] == "verdict"] == verdicts


def test_an_output_in_a_folder_that_is_not_there_is_refused_at_once(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, events, errors = run(capfd, CALL, "--output", tmp_path / "no" / "out.jsonl")
    assert (code, events) == (4, [])
    assert "out.jsonl" in errors


def test_closed_standard_input_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "abhinaya.stream", "-"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 3
    assert "standard input" in process.stderr + process.stdout
    assert "Traceback" not in process.stderr


def test_raw_audio_comes_through_a_pipe() -> None:
    raw = subprocess.run([sys.executable, "-c", RAW, str(CALL)], capture_output=True, check=True)
    process = subprocess.run(
        [*(sys.executable, "-m", "abhinaya.stream", "-", "--format", "jsonl"), *RAW_FLAGS],
        input=raw.stdout[: 2 * 8000 * 12],
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    events = [json.loads(line) for line in process.stdout.splitlines()]
    assert [e for e in events if e["type"] == "verdict" and e["stream"] == "stdin"]


RAW_FLAGS = ("--sample-format", "s16le", "--rate", "8000")

RAW = """
import sys, av
resampler = av.AudioResampler("s16", "mono", 8000)
for frame in av.open(sys.argv[1]).decode(audio=0):
    for part in resampler.resample(frame):
        sys.stdout.buffer.write(part.to_ndarray().tobytes())
"""


@pytest.mark.slow
def test_what_is_not_sure_enough_is_unknown_and_says_what_it_would_have_been(
    capfd: pytest.CaptureFixture[str],
) -> None:
    _, events, _ = run(capfd, CALL)
    sure = sorted(e["confidence"] for e in events if e["type"] == "verdict")
    least = round(sum(sure[len(sure) // 2 - 1 : len(sure) // 2 + 1]) / 2, 2)
    assert sure[0] < least < sure[-1]
    code, events, _ = run(capfd, CALL, "--min-confidence", f"{least}")
    verdicts = [e for e in events if e["type"] == "verdict"]
    assert code == 0
    for verdict in verdicts:
        assert verdict["leading"] in LABELS
        claims = [v["probabilities"][verdict["leading"]] for v in verdict["votes"]]
        assert verdict["confidence"] <= max(claims) + 1e-4
        if verdict["confidence"] < least:
            assert verdict["label"] == "unknown"
            assert f"below {least:g}" in verdict["reason"]
        else:
            assert (verdict["label"], verdict["reason"]) == (verdict["leading"], "")
    assert {v["label"] == "unknown" for v in verdicts} == {True, False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "missing"),
        (("--profile", "embeded"), "embeded"),
        (("--set", "vad.max_segmnt_s=3"), "did you mean 'max_segment_s'"),
        (("--set", "vad.max_segment_s=30"), "above 10"),
        (("--min-confidence", "1.5"), "vote.min_confidence = 1.5 is above 1"),
        (("--min-confidence", "much"), "vote.min_confidence = 'much' does not fit"),
        (("--rate", "5"), "below 4000"),
        (("--name", "a", "--name", "b"), "2 of 1 inputs"),
    ],
)
def test_wrong_usage_is_explained(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    inputs = (CALL,) if arguments else ()
    code, events, errors = run(capfd, *inputs, *arguments)
    assert (code, events) == (2, [])
    assert words in errors


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "damaged.safetensors").write_text("no weights")
    return "--set", f"voters.S1.options.weights={tmp_path}/damaged.safetensors"


def test_a_model_that_cannot_be_loaded_is_missing_with_the_reason_and_the_others_vote(
    capfd: pytest.CaptureFixture[str], short_call: Path, damaged: tuple[str, str]
) -> None:
    code, events, errors = run(capfd, short_call, *damaged, "--set", "voters.S1.host=")
    assert code == 6
    assert "damaged.safetensors" in errors
    verdicts = [e for e in events if e["type"] == "verdict"]
    assert verdicts
    for verdict in verdicts:
        missing = {m["voter"]: m["reason"] for m in verdict["missing"]}
        assert "damaged.safetensors" in missing["S1"]
        assert {v["voter"] for v in verdict["votes"]} <= {"T2", "ST1"}
    assert {v["voter"] for verdict in verdicts for v in verdict["votes"]} == {"T2", "ST1"}


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_process_that_it_shares(
    capfd: pytest.CaptureFixture[str], short_call: Path, damaged: tuple[str, str]
) -> None:
    code, events, errors = run(capfd, short_call, *damaged)
    assert code == 6
    assert "S1 (tiny-speech): cannot be loaded: " in errors
    assert "damaged.safetensors" in errors
    assert not [e for e in events if e["type"] == "verdict"]


@pytest.mark.slow
def test_a_licence_that_forbids_commercial_use_must_be_accepted_outside_the_embedded_profile(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    profile = tmp_path / "own.toml"
    profile.write_text('[voters.S1]\nmodel = "tiny-speech"\n')
    code, events, errors = run(capfd, CALL, "--profile", profile)
    assert code == 6
    assert "--accept-noncommercial" in errors
    assert not [e for e in events if e["type"] == "verdict"]
    code, events, _ = run(capfd, CALL, "--profile", profile, "--accept-noncommercial")
    assert code == 0
    assert [e for e in events if e["type"] == "verdict"]


def test_the_other_commands_answer(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert commands.main(["--help"]) == 0
    assert commands.main(["profiles"]) == 0
    assert commands.main(["settings"]) == 0
    text = capfd.readouterr().out
    assert "embedded" in text
    assert "vad.min_silence_s" in text
    make_keys = ["keys", str(tmp_path / "keys")]
    assert commands.main([*make_keys, "hub", "client"]) == 2  # a client needs a role
    assert commands.main([*make_keys, "hub", "client", "--role", "input"]) == 0
    assert commands.main([*make_keys, "client", "--role", "node"]) == 0
    assert 'role = "node"' in (tmp_path / "keys" / "client.key").read_text("utf-8")
    assert (tmp_path / "keys" / "hub.key_secret").stat().st_mode & 0o077 == 0
    assert commands.main([*make_keys, "hub"]) == 7
    assert commands.main(["nonsense"]) == 2


def test_inputs_of_every_kind_run_beside_each_other_and_each_bad_one_ends_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with site() as web, site(context) as safe:
        web.routes["/good.opus"] = Download(CALL.read_bytes(), cuts=[20_000, 8_000])
        web.routes["/round"] = redirect("/round")
        web.routes["/page.mp3"] = say(b"<html><body>Hello</body></html>" * 9)
        web.routes["/cut.opus"] = Download(CALL.read_bytes(), ranges=False, cuts=[30_000])
        bad = {
            web.url("/none.mp3", user="joe:s3cret@"): "HTTP 404",
            web.url("/round"): "redirects more than 10 times",
            web.url("/page.mp3"): "is a web page, not audio",
            web.url("/cut.opus"): "cannot resume",
            safe.url("/x.mp3"): "certificate cannot be trusted",
            "http://127.0.0.1:1/dead.mp3": "cannot be reached",
            "rtsp://joe:s3cret@127.0.0.1:1/camera": "refused",
        }
        code, events, errors = run(capfd, CALL, web.url("/good.opus"), *bad)
    assert code == 3
    for reason in bad.values():
        assert reason in errors, reason
    assert "s3cret" not in errors + json.dumps(events)
    ended = {e["stream"]: e["reason"] for e in events if e["type"] == "stream_ended"}
    assert ended["call"] == ended["good"] == ""
    assert "breaks off at" in ended["cut"]
    spoken = {
        s: [
            (e["start_s"], e["end_s"])
            for e in events
            if e["type"] == "verdict" and e["stream"] == s and e["revision"] == 0
        ]
        for s in ended
    }
    assert len(spoken["call"]) >= 8
    assert spoken["good"] == spoken["call"]
    assert 0 < len(spoken["cut"]) < len(spoken["call"])
    assert any("resumed at" in e["text"] for e in events if e["type"] == "remark")


def test_an_address_of_another_protocol_is_named_before_anything_is_loaded(
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, events, errors = run(capfd, "ftp://joe:s3cret@example.org/x.mp3")
    assert (code, events) == (3, [])
    assert "ftp" in errors
    assert "s3cret" not in errors


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, SinkError.exit_code)]
)
def test_a_terminal_that_has_gone_with_its_signal_is_no_error_of_the_output(
    number: int, code: int
) -> None:
    def body() -> int:
        with INTERRUPTS.counting(5.0):
            os.kill(os.getpid(), number)
        raise SinkError("standard output", "cannot be written: Input/output error")

    assert cli.guarded("abhinaya-stream", body) == code
