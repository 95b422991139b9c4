from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from abhinaya.bench.demo import CALL
from abhinaya.bench.vote import (
    Conversation,
    Decided,
    LineUp,
    Setting,
    Turn,
    compose,
    delay,
    main,
    result_of,
    show,
    truth_of,
)
from abhinaya.models.combiner import Combiner, Member
from abhinaya.models.combiner_file import write_combiner
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.config import Config, load
from abhinaya.train.data.audio import read_audio


def test_a_conversation_has_its_clips_where_it_says_and_noise_under_all() -> None:
    rng = np.random.default_rng(0)
    clips = [
        (np.full(n, level, np.float32), label)
        for n, level, label in ((8_000, 0.2, "neutral"), (16_000, -0.3, "angry"))
    ]
    noise = rng.standard_normal(5_000).astype(np.float32)
    setting = Setting(gaps_s=(0.5, 1.0), snr_db=20.0)
    made = compose(clips, noise, setting, np.random.default_rng(1))
    first, second = made.turns
    assert (first.label, second.label) == ("neutral", "angry")
    assert 0.5 <= first.start / SAMPLE_RATE <= 1.0
    assert 0.5 <= (second.start - first.end) / SAMPLE_RATE <= 1.0
    assert made.samples[first.start : first.end].mean() == pytest.approx(0.2, abs=0.01)
    assert made.samples[second.start : second.end].mean() == pytest.approx(-0.3, abs=0.01)
    speech = np.mean(np.concatenate([samples for samples, _ in clips]) ** 2)
    gap = made.samples[: first.start]
    assert 10 * np.log10(speech / np.mean(gap**2)) == pytest.approx(20.0, abs=1.0)


def test_a_segment_is_of_the_turn_that_most_of_it_lies_in() -> None:
    turns = (Turn(100, 200, "neutral"), Turn(300, 400, "angry"))
    assert truth_of(150, 340, turns) == "neutral"
    assert truth_of(170, 380, turns) == "angry"
    assert truth_of(210, 290, turns) is None


def decided(end_s: float, label: str, truth: str = "angry", s1: str = "angry") -> Decided:
    end = int(end_s * SAMPLE_RATE)
    return Decided(end - SAMPLE_RATE, end, truth, {"S1": s1, "vote": label})


def test_the_delay_counts_from_the_change_to_the_end_of_the_first_right_segment() -> None:
    said = [decided(3, "angry"), decided(6, "neutral"), decided(8, "angry"), decided(9, "angry")]
    assert delay(said, 5 * SAMPLE_RATE) == pytest.approx(3.0)
    assert delay(said, 10 * SAMPLE_RATE) is None


def test_a_vote_that_is_better_is_seen_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    said = []
    for i in range(300):
        truth = ("angry", "sad", "neutral")[i % 3]
        wrong = "happy" if rng.random() < 0.4 else truth
        said.append(decided(i + 1, truth if rng.random() < 0.8 else wrong, truth, wrong))
    result = result_of(said, ["S1"], [1.0, None, 3.0])
    by_name = {score.who: score for score in result.scores}
    assert by_name["vote"].macro_f1 > by_name["S1"].macro_f1
    assert result.difference.low > 0.0
    assert result.difference.macro_f1 == pytest.approx(
        by_name["vote"].macro_f1 - by_name["S1"].macro_f1
    )
    show(result, Console(width=200))
    assert "seen in 2 of 3 conversations, median 2.0 s" in capsys.readouterr().out


def test_missing_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path)]) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--data" in said


def test_a_model_that_cannot_be_had_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(data: Path, config: Config, setting: Setting) -> None:
        LineUp(config)

    monkeypatch.setattr("abhinaya.bench.vote.measure", measure)
    wrong = "voters.S1.options.weights=/nowhere/s1.onnx"
    assert main(["--data", ".", "--set", wrong]) == 6
    said = capsys.readouterr().err
    assert said.startswith("abhinaya bench: /nowhere/s1.onnx: no such weights file")
    assert said.count("\n") == 1


def test_the_vote_is_that_of_the_profiles_combiner(tmp_path: Path) -> None:
    members = {name: Member() for name in ("S1", "T2", "ST1")}
    unsure = Combiner("weighted", members, min_confidence=0.999)
    write_combiner(tmp_path / "unsure.json", unsure)
    samples = read_audio(CALL)[: 12 * SAMPLE_RATE]
    call = Conversation(samples, (Turn(0, len(samples), "neutral"),))
    fitted = {"vote.method": "weighted", "vote.combiner": str(tmp_path / "unsure.json")}
    plainly = [one.said["vote"] for one in LineUp(load("embedded")).decide(call)]
    withheld = [one.said["vote"] for one in LineUp(load("embedded", fitted)).decide(call)]
    assert len(plainly) == len(withheld) > 0
    assert "unknown" not in plainly
    assert set(withheld) == {"unknown"}
