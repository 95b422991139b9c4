"""Line-ups as profiles: those of the package, and all five voters through the real processes."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import av
import numpy as np
import pytest
from chat_server import transformers_serve
from tiny_checkpoints import save_chat_llm, save_llama_lora, save_llm, save_salmonn, save_wavlm

from abhinaya.bench.demo import CALL
from abhinaya.models.asr import TRANSCRIBERS
from abhinaya.models.errors import OptionsError
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import MODELS
from abhinaya.models.registry import load as load_model
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.sources import InputConfig, open_source

PACKAGED = ("embedded", "open", "paper")


@pytest.mark.parametrize("profile", PACKAGED)
def test_profiles_fit_the_models_they_name(profile) -> None:
    config = profile_files.load(profile)
    assert config.asr is not None
    assert config.asr.model in TRANSCRIBERS
    for voter, worker in config.voters.items():
        module, attribute = MODELS[worker.model]
        options = inspect.signature(getattr(import_module(module), attribute)).parameters
        assert worker.options.keys() <= options.keys(), voter
        needed = {name for name, option in options.items() if option.default is option.empty}
        assert needed <= worker.options.keys(), voter
    assert set(config.vote.priority) == set(config.voters)


def test_the_paper_is_five_voters_and_s2_breaks_ties() -> None:
    config = profile_files.load("paper")
    assert sorted(config.voters) == ["S1", "S2", "ST1", "T1", "T2"]
    assert (config.vote.method, config.vote.priority[0]) == ("majority", "S2")


def test_placeholders_name_the_setting_that_is_to_be_given() -> None:
    config = profile_files.load("paper")
    for voter in ("S1", "S2", "T2", "ST1"):
        with pytest.raises(OptionsError, match=rf"placeholder <.*voters\.{voter}\.options\.") as e:
            load_model(config.voters[voter].model, config.voters[voter].options)
        assert "--set" in e.value.remedy
    given = profile_files.load("paper", {"voters.S1.options.checkpoint": "/none"})
    assert given.voters["S1"].options["checkpoint"] == "/none"


# --- all five ---------------------------------------------------------------------------


def write_profile(folder: Path, url: str, chat: Path) -> Path:
    files = save_salmonn(folder)
    llm = save_llm(folder / "llama")
    checkpoint, _ = save_llama_lora(llm, folder)
    s1 = save_wavlm(folder / "s1")
    voters = {
        "S1": ("wavlm", {"checkpoint": str(s1), "device": "cpu"}),
        "S2": ("salmonn-13b", files.options("13b")),
        "T1": ("zero-shot", {"base_url": url, "model": str(chat), "timeout_s": 60.0}),
        "T2": ("llama-lora", {"llm": str(llm), "checkpoint": str(checkpoint), "device": "cpu"}),
        "ST1": ("salmonn-7b", files.options("7b")),
        "X": ("zero-shot", {"base_url": "http://127.0.0.1:9/v1", "model": "m", "attempts": 1}),
    }
    lines = ["[asr]", 'model = "faster-whisper"', "[deadlines]", "task_s = 60"]
    for voter, (model, options) in voters.items():
        lines += [f"[voters.{voter}]", f'model = "{model}"', f"[voters.{voter}.options]"]
        lines[-1:-1] = ['host = "S2"'] if voter == "ST1" else []
        # JSON of strings, numbers and booleans is TOML as well
        lines += [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    path = folder / "five.toml"
    path.write_text("\n".join(lines))
    return path


def write_turn(path: Path) -> None:
    """Write the first turn of the demo call: seven seconds with one or two segments."""
    source = open_source(InputConfig(str(CALL), channels="split"))
    call = np.concatenate([chunk.samples for chunk in source.chunks()])[: 7 * 16_000, 0]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        pcm = np.round(call * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        out.mux([*stream.encode(frame), *stream.encode(None)])


@pytest.mark.processes
def test_all_five_voters_vote_through_the_real_processes(tmp_path) -> None:
    """ST1 in S2's process; and a sixth, whose server is not there, is missing with its reason."""
    chat = save_chat_llm(tmp_path / "chat")
    write_turn(tmp_path / "turn.wav")
    command = [sys.executable, "-m", "abhinaya.stream", str(tmp_path / "turn.wav")]
    with transformers_serve(chat, tmp_path / "serve.log") as url:
        profile = write_profile(tmp_path, url, chat)
        done = subprocess.run(
            [*command, "--profile", str(profile), "--format", "jsonl", "--accept-noncommercial"],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    verdicts = [event for event in events if event["type"] == "verdict"]
    assert verdicts, done.stdout
    for verdict in verdicts:
        votes = {vote["voter"]: vote["label"] for vote in verdict["votes"]}
        assert sorted(votes) == ["S1", "S2", "ST1", "T1", "T2"], verdict["missing"]
        assert verdict["label"] == majority(votes)
        (missing,) = verdict["missing"]
        assert missing["voter"] == "X"
        assert "cannot be reached" in missing["reason"]
    by_voter = {v["voter"]: v["probabilities"] is None for v in verdicts[0]["votes"]}
    assert [voter for voter, bare in by_voter.items() if bare] == ["T1"]


@pytest.mark.slow
@pytest.mark.processes
def test_a_host_that_cannot_be_loaded_is_missing_with_its_guest_and_the_others_go_on(
    tmp_path,
) -> None:
    done = run_with_a_damaged_s2(tmp_path)
    assert done.returncode == 6, done.stderr
    assert "no.pth" in done.stderr
    verdicts = [e for e in map(json.loads, done.stdout.splitlines()) if e["type"] == "verdict"]
    assert verdicts, done.stdout
    for verdict in verdicts:
        assert [vote["voter"] for vote in verdict["votes"]] == ["S1"]
        missing = {absent["voter"]: absent["reason"] for absent in verdict["missing"]}
        assert sorted(missing) == ["S2", "ST1"]
        assert all("cannot be loaded" in reason for reason in missing.values())


@pytest.mark.slow
@pytest.mark.processes
def test_without_a_voter_that_is_needed_no_input_is_opened(tmp_path) -> None:
    done = run_with_a_damaged_s2(tmp_path, "--set", "voters.ST1.needed=true")
    assert done.returncode == 6
    kinds = {json.loads(line)["type"] for line in done.stdout.splitlines()}
    assert kinds <= {"node_up", "summary"}
    last = done.stderr.splitlines()[-1]
    assert " needs ST1: S2 (salmonn-13b): cannot be loaded: " in last
    assert last.endswith("download it again")


def run_with_a_damaged_s2(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    write_turn(folder / "turn.wav")
    no = folder / "no.pth"
    no.write_text("no weights")
    options = f'options = {{ whisper = "{no}", beats = "{no}", llm = "{no}", checkpoint = "{no}" }}'
    (folder / "p.toml").write_text(
        '[asr]\nmodel = "faster-whisper"\n'
        '[voters.S1]\nmodel = "tiny-speech"\n'
        f'[voters.S2]\nmodel = "salmonn-13b"\n{options}\n'
        f'[voters.ST1]\nmodel = "salmonn-7b"\nhost = "S2"\n{options}\n'
    )
    command = [sys.executable, "-m", "abhinaya.stream", str(folder / "turn.wav")]
    command += ["--profile", str(folder / "p.toml"), "--format", "jsonl", *more]
    return subprocess.run(
        [*command, "--accept-noncommercial"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def majority(votes: dict[str, str]) -> str:
    """The paper's rule: the most votes, and S2's label on a tie."""
    counts = {label: list(votes.values()).count(label) for label in LABELS}
    best = [label for label, count in counts.items() if count == max(counts.values())]
    return best[0] if len(best) == 1 else votes["S2"]
