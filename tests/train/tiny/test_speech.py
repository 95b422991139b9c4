"""The training of S1 and ST1 on made-up voices: sessions, what is heard before, the command."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sounds import buzz, hiss

from abhinaya.bench.crossval import figure, left_out
from abhinaya.bench.crossval import main as crossval
from abhinaya.models.asr import carrier
from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.registry import load
from abhinaya.models.tiny.encoder import LEVELS, WIDTH, Encoder
from abhinaya.models.tiny.speech import Settings
from abhinaya.models.vote.combiner_file import read_combiner
from abhinaya.train.cli import main
from abhinaya.train.data.clips import read_clips
from abhinaya.train.errors import DataError
from abhinaya.train.tiny.context import Before, Voices
from abhinaya.train.tiny.sessions import Plan, Sessions, sessions, spoken
from abhinaya.train.tiny.speech import SPEECH_LABELS

FEW = ["--set", "schedule.steps=2", "--set", "plain.steps=2", "--set", "renderings=0"]


def planted() -> Sessions:
    """Two voices, eight clips of 4 s each: half neutral (levels 1), half angry (levels 5)."""
    n = 16
    label = np.array(["neutral", "angry"] * 8)
    means = np.where(label == "neutral", 1.0, 5.0)[:, None, None] * np.ones((n, len(LEVELS), WIDTH))
    return Sessions(
        clip=np.array([f"c{i}" for i in range(n)]),
        speaker=np.array(["a"] * 8 + ["b"] * 8),
        corpus=np.array(["ravdess"] * 8 + ["nemo"] * 8),
        label=label,
        split=np.array(["train"] * n),
        whole=np.ones(n, np.bool_),
        seconds=np.full(n, 4.0),
        rendering=np.zeros(n, np.int64),
        means=means.astype(np.float32),
        frames=np.fromiter(means.astype(np.float16)[:, None], np.object_, n),
    )


def test_sessions_hold_whole_clips_and_crops_and_are_kept(tiny: Path, tmp_path: Path) -> None:
    clips = [clip for clip in read_clips(tiny, ["ravdess"]) if clip.speaker == "ravdess_01"]
    said: list[str] = []
    encoder = partial(Encoder, carrier.find("tiny.en"))
    made = sessions(clips, tiny, tmp_path, range(2), Plan(crops=1), encoder, said.append)
    assert len(said) == 2
    assert made.whole.sum() == 2 * len(clips)
    assert set(made.rendering.tolist()) == {0, 1}
    assert len(np.unique(made.session)) == 2
    for item in range(len(made.label)):
        levels = made.levels(item)
        assert levels.shape == (-(-round(made.seconds[item] * 16_000) // 320), len(LEVELS), WIDTH)
        np.testing.assert_allclose(levels.mean(axis=0), made.means[item], atol=1e-2)

    def never() -> Encoder:
        raise AssertionError("encoded again")

    again = sessions(clips, tiny, tmp_path, range(2), Plan(crops=1), never, said.append)
    np.testing.assert_array_equal(again.means, made.means)
    some = made.of(made.rendering == 1)
    np.testing.assert_array_equal(some.levels(0), made.levels(int(np.argmax(made.rendering == 1))))


def test_silence_around_speech_is_cut_and_a_clip_without_speech_stays() -> None:
    noise = hiss(1.0, gain=1e-4)
    assert len(spoken(noise)) == len(noise)
    around = np.concatenate([np.zeros(32_000, np.float32), buzz(150, 0.5), np.zeros(16_000)])
    assert len(spoken(around.astype(np.float32))) <= len(around)


def test_what_was_heard_before_has_the_share_of_neutral_that_was_drawn() -> None:
    voices = Voices(planted(), np.zeros((len(LEVELS), WIDTH), np.float32))
    rng = np.random.default_rng(0)
    half = voices.draw(1, Before((8.0, 8.0), (0.5, 0.5), 0.0), rng)
    assert half.seconds == 8.0
    np.testing.assert_allclose(half.mean, 3.0)
    calm = voices.draw(1, Before((8.0, 8.0), (1.0, 1.0), 0.0), rng)
    np.testing.assert_allclose(calm.mean, 1.0)
    angry = voices.draw(1, Before((40.0, 40.0), (0.0, 0.0), 0.0), rng)
    assert angry.seconds == 12.0, "the clip itself is not heard before"
    nothing = voices.draw(1, Before(none=1.0), rng)
    assert nothing.seconds == 0.0


def test_a_fold_leaves_out_whole_speakers_or_a_corpus() -> None:
    items = planted()
    assert left_out(items, "nemo").tolist() == [False] * 8 + [True] * 8
    folds = [left_out(items, str(number)) for number in range(1, 7)]
    assert np.sum(folds, axis=0).tolist() == [1] * 16
    for fold in ("0", "7", "x", "urdu"):
        with pytest.raises(DataError, match=f"fold '{fold}': use 1 to 6, or ravdess or nemo"):
            left_out(items, fold)


def test_a_figure_knows_its_answer() -> None:
    items, settings = planted(), Settings(1.0, 0.0, 1.0, 0.9)
    scores = np.zeros((16, len(SPEECH_LABELS)), np.float32)
    scores[np.arange(16), [SPEECH_LABELS.index(label) for label in items.label]] = 5.0
    # each is right, and as sure as 5 against six times 0 is
    error = 6.0 / (np.exp(5.0) + 6.0)
    found = figure(items.of(items.corpus == "nemo"), scores[8:], settings)
    assert found.startswith("macro-F1 1.000")
    assert found.endswith(f"8 clips, calibration error {error:.3f}")


@pytest.mark.parametrize("model", ["tiny-speech", "tiny-joint"])
def test_two_steps_from_the_command_make_a_voter(
    model: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert main([model, *folders, *FEW]) == 0
    path = tmp_path / f"{model}.safetensors"
    assert f"wrote {path}; measure it with: abhinaya bench quality" in capsys.readouterr().out
    (answer,) = load(model, {"weights": str(path)}).vote(
        [Utterance(buzz(150, 1.0), transcript="its joy")]
    )
    assert isinstance(answer, Ballot)
    assert answer.state
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["model"], card["noncommercial"]) == (model, True)
    steps = "--set schedule.steps=2 --set plain.steps=2"
    assert card["made_by"] == f"abhinaya train {model} {steps} --set renderings=0"


def test_a_fold_is_trained_once(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--cache", str(tmp_path / "cache")]
    assert main(["tiny-speech", *folders, "--out", str(tmp_path), *FEW]) == 0
    weights = ["--weights", str(tmp_path / "tiny-speech.safetensors")]
    crossed = [*folders, "--out", str(tmp_path / "folds"), "--folds", "1,nemo"]
    capsys.readouterr()
    assert crossval([*crossed, *weights, *FEW]) == 0
    first = capsys.readouterr().out
    assert "fold 1: without" in first
    assert "the corpus nemo" in first
    assert "of ravdess" in first
    assert crossval([*crossed, *weights, *FEW]) == 0
    again = capsys.readouterr().out
    assert again == "".join(x for x in first.splitlines(True) if not x.startswith("fold "))


def test_the_vote_is_fitted_on_who_was_left_out(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    assert main(["tiny-vote", *folders]) == 1
    assert "held-out/tiny-speech.safetensors: no such weights file" in capsys.readouterr().err
    for model in ("tiny-speech", "tiny-joint"):
        assert main([model, *folders, *FEW]) == 0
    assert main(["tiny-vote", *folders]) == 0
    combiner = read_combiner(tmp_path / "tiny-vote.json")
    assert set(combiner.members) == {"S1", "T2", "ST1"}
    assert combiner.members["S1"].model == "tiny-speech"
    assert combiner.fitted_on["speakers"] == ["nemo_MK0", "ravdess_15"]
