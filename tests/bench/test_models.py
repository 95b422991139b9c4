"""`abhinaya bench models` at reduced sizes: that the figures are of what they say."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from abhinaya.bench import random_voters
from abhinaya.bench.models import main
from abhinaya.bench.random_voters import REAL, RandomVoters, waves
from abhinaya.bench.real_size import parts
from abhinaya.models.inference import place


@pytest.fixture(scope="module")
def voters() -> RandomVoters:
    return RandomVoters("tiny", place("cpu", "float32"))


@pytest.mark.parametrize("name", ["S1", "S2", "T2", "ST1", "S2+ST1+T2"])
def test_each_subject_gives_probabilities(voters, name) -> None:
    with torch.inference_mode():
        found = voters.build(name).run(waves([0.5, 1.3], seed=1))
    assert found.shape == (2, 8)
    assert torch.allclose(found.sum(1), torch.ones(2))


def test_s2_and_st1_run_the_shared_encoders_once(voters, monkeypatch) -> None:
    together = voters.build("S2+ST1")
    runs: list[int] = []
    encoders = voters._shared_encoders()
    encode = encoders._encode
    monkeypatch.setattr(encoders, "_encode", lambda w: (runs.append(len(w)), encode(w))[1])
    with torch.inference_mode():
        for seed in (2, 3):
            together.run(waves([1.0, 1.0], seed))
    assert runs == [2, 2], "each batch is new to them, and heard once"


def test_noise_is_new_for_each_seed_and_the_same_for_one() -> None:
    a, again, b = waves([0.5], 1)[0], waves([0.5], 1)[0], waves([0.5], 2)[0]
    assert np.array_equal(a, again)
    assert not np.array_equal(a, b)


def test_real_sizes_are_the_published_ones() -> None:
    assert (REAL.vicuna_13b["hidden_size"], REAL.vicuna_13b["num_hidden_layers"]) == (5120, 40)
    assert REAL.llama_8b["num_key_value_heads"] == 8
    assert REAL.whisper["encoder_layers"] == 32


@pytest.mark.parametrize(
    ("voter", "parameters"),
    [
        ("S1", {"WavLM": 315_453_120, "head": 3_159_048}),
        # Vicuna-13B without its output layer, with one word more (PAD), and LoRA
        ("S2", {"Whisper": 636_784_640, "BEATs": 90_311_792, "Q-Former": 26_779_392,
                "LLM": 13_015_864_320 - 163_840_000 + 5_120 + 6_553_600, "head": 36_729_864}),
    ],
)  # fmt: skip
def test_the_parts_of_real_size_are_the_published_ones(monkeypatch, voter, parameters) -> None:
    monkeypatch.setattr(random_voters, "LAYER", random_voters.TINY)  # a quick copy to time
    *found, total = parts(voter, 10.0, place("cpu", "bfloat16"), 1)
    assert {part["part"]: part["parameters"] for part in found} == parameters
    assert total["parameters"] == sum(parameters.values())
    if voter == "S2":
        llm = next(part for part in found if part["part"] == "LLM")
        assert llm["memory_mb"] == pytest.approx(2e-6 * llm["parameters"], rel=0.01)
        # twice the weights of the layers for each of 130 positions
        assert llm["gflop"] == pytest.approx(2 * 12.69 * 130, rel=0.01)
    assert all(part["estimate_s"] > 0 for part in found)


def test_the_command_prints_tables_and_writes_json(tmp_path, capsys) -> None:
    path = tmp_path / "models.json"
    options = ["--voters", "T2", "--batches", "1,2", "--lengths", "1", "--repeats", "2"]
    assert main([*options, "--json", str(path)]) == 0
    assert "T2" in capsys.readouterr().out
    figures = json.loads(path.read_text())["figures"]
    assert [s["batch"] for s in figures["speeds"]] == [1, 2]
    for speed in figures["speeds"]:
        assert 0 < speed["p50_ms"] <= speed["p95_ms"]
        seconds = speed["p50_ms"] / 1000
        assert speed["segments_a_second"] == pytest.approx(speed["batch"] / seconds)
    assert figures["mixed"][0]["padding"] == pytest.approx(1 - 5.6 / 9.7)


def test_lines_need_nothing_but_the_models() -> None:
    """A GPU machine may have no more than torch, transformers, peft and msgspec."""
    options = ["--voters", "T2", "--batches", "1", "--lengths", "1", "--repeats", "1", "--lines"]
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['zmq', 'av', 'onnxruntime',"
        " 'faster_whisper', 'silero_vad']));"
        " from abhinaya.bench.models import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kinds = [next(iter(json.loads(line))) for line in done.stdout.splitlines()]
    assert kinds == ["speed", "mixed"]


@pytest.mark.parametrize(
    "options", [["--voters", "T1"], ["--batches", "0"], ["--lengths", "0.1"], ["--scale", "huge"]]
)
def test_wrong_usage(options) -> None:
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2
