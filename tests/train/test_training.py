from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.compact.listen import pad
from abhinaya.models.compact.manner import APART, COUNT, N_MANNER, OWN, TRUSTED_FROM
from abhinaya.models.compact.measure import N_FEATURES
from abhinaya.models.tiny.tokens import SPECIAL, WordPieces
from abhinaya.models.compact.weights_file import load_weights
from abhinaya.models.registry import load
from abhinaya.train import losses
from abhinaya.train.calibration import fit_temperature
from abhinaya.train.cli import main
from abhinaya.train.compact_joint import Pairs, fit_fusion
from abhinaya.train.errors import TrainingError
from abhinaya.train.export import Calibrated, export, small
from abhinaya.train.loop import Schedule, fit
from abhinaya.train.metrics import calibration_error, macro_f1, per_class, weighted_f1
from abhinaya.train.text_tower import TextSize, TextTower
from abhinaya.train.towers import (
    MannerTower,
    Mean,
    SpeechTower,
    SpeechTowers,
    trust_in_habits,
)

LABELS7 = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
VOCABULARY = (*SPECIAL, "so", "it", "goes", "and", "on", "well", "what", "a", "day", "this", "was")


def speech_tower() -> SpeechTower:
    torch.manual_seed(0)
    return SpeechTower(7, (4, 6, 8, 10), 16, 0.1).eval()


def manner_tower(part: slice) -> MannerTower:
    torch.manual_seed(0)
    columns = [*range(N_MANNER)[part], COUNT]
    centre, spread = np.zeros(len(columns), np.float32), np.ones(len(columns), np.float32)
    return MannerTower(centre, spread, columns, 7, 8, 0.1).eval()


def text_tower() -> TextTower:
    torch.manual_seed(0)
    size = TextSize(len(VOCABULARY), rank=8, width=16, heads=4, inner=24, depth=2)
    return TextTower(size, 7, 0.1).eval()


def test_focal_loss_has_the_published_value() -> None:
    # golden case of the reference notes: logits sin(1 + 8 i + c), weights of MSP-Podcast
    logits = torch.sin(1.0 + torch.arange(48.0, dtype=torch.float64)).reshape(6, 8)
    truth = torch.nn.functional.one_hot(torch.tensor([0, 5, 5, 3, 2, 4]), 8).double()
    counts = torch.tensor([6728, 2495, 1432, 1120, 16712, 29239, 6303, 2948.0]).double()
    weights = counts.sum() / (8 * counts)
    assert losses.focal(logits, truth, 2.0, weights).item() == pytest.approx(4.888733754, abs=1e-8)
    assert losses.cross_entropy(logits, truth, weights).item() == pytest.approx(
        6.023198124, abs=1e-8
    )


@pytest.mark.parametrize("extra", [1, 2, 3, 57])
def test_padding_never_reaches_a_speech_result(extra: int) -> None:
    tower = speech_tower()
    clip = torch.randn(1, 83, N_FEATURES)
    longer = torch.cat([clip, torch.randn(1, extra, N_FEATURES)], dim=1)
    mask = torch.cat([torch.ones(1, 83), torch.zeros(1, extra)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(tower(longer, mask), tower(clip, torch.ones(1, 83)))


def test_padding_never_reaches_a_text_result() -> None:
    tower, known = text_tower(), WordPieces(VOCABULARY)
    together, mask = known.encode(["so it goes", "so it goes and on and on it goes"])
    alone, alone_mask = known.encode(["so it goes"])
    with torch.no_grad():
        padded = tower(torch.from_numpy(together), torch.from_numpy(mask))[:1]
        torch.testing.assert_close(
            padded, tower(torch.from_numpy(alone), torch.from_numpy(alone_mask))
        )


def test_onnx_gives_what_torch_gives(tmp_path: Path) -> None:
    torch.manual_seed(1)
    own, habits = Mean([manner_tower(OWN)]), Mean([manner_tower(APART)])
    towers = SpeechTowers(speech_tower(), own, habits, (1.2, 0.9, 0.8), (0.4, 0.2, 0.4))
    network = Calibrated(towers, 1.7, [0.0] * 4 + [0.5, 0.0, 0.0]).eval()
    path = tmp_path / "compact-speech.onnx"
    export(network, path, "compact-speech", "0", LABELS7, {})
    weights = load_weights("compact-speech", frozenset({"audio"}), str(path))
    rng = np.random.default_rng(0)
    features, mask = pad(
        [rng.standard_normal((n, N_FEATURES)).astype(np.float32) for n in (31, 250)]
    )
    manner = rng.standard_normal((2, N_MANNER)).astype(np.float32)
    manner[:, COUNT] = np.log1p([0.0, 9.0])
    fed = {"features": features, "mask": mask, "manner": manner}
    found = weights.probabilities(fed)
    with torch.no_grad():
        expected = network(*(torch.from_numpy(one) for one in fed.values())).softmax(1).numpy()
    np.testing.assert_allclose(np.delete(found, 1, axis=1), expected, atol=1e-5)
    other = manner.copy()
    other[:, OWN] += 1.0
    assert np.abs(weights.probabilities({**fed, "manner": other}) - found).max() > 1e-4


def test_habits_count_as_far_as_they_are_known() -> None:
    sound, own, habits = speech_tower(), manner_tower(OWN), manner_tower(APART)
    network = SpeechTowers(sound, own, habits, (1.0, 0.5, 2.0), (0.4, 0.2, 0.4)).eval()
    features, mask = torch.randn(3, 40, N_FEATURES), torch.ones(3, 40)
    manner = torch.randn(3, N_MANNER)
    manner[:, COUNT] = torch.tensor([0.0, TRUSTED_FROM, 1e9]).log1p()
    trust = torch.tensor([[0.0], [0.5], [1.0]])
    with torch.no_grad():
        torch.testing.assert_close(trust_in_habits(manner), trust)
        said = 0.4 * sound(features, mask) + 0.4 * own(manner) + 0.2 * trust * habits(manner)
        expected = said / (0.6 + 0.4 * trust)
        torch.testing.assert_close(network(features, mask, manner), expected)


@pytest.mark.parametrize("part", [OWN, APART])
def test_a_manner_tower_sees_its_part_and_how_many_there_were(part: slice) -> None:
    tower, manner = manner_tower(part), torch.zeros(1, N_MANNER)
    seen = {*range(N_MANNER)[part], COUNT}
    manner.requires_grad_()
    torch.autograd.backward(tower(manner).square().sum())
    assert manner.grad is not None
    assert {int(i) for i in manner.grad[0].nonzero()} == seen


def test_a_sound_that_counts_nothing_is_left_out_of_the_file(tmp_path: Path) -> None:
    tower = manner_tower(OWN)
    network = SpeechTowers(
        speech_tower(), tower, manner_tower(APART), (1.0, 0.5, 1.0), (0.0, 1.0, 0.0)
    )
    path = tmp_path / "compact-speech.onnx"
    export(Calibrated(network, 1.0, [0.0] * 7).eval(), path, "compact-speech", "0", LABELS7, {})
    weights = load_weights("compact-speech", frozenset({"audio"}), str(path))
    assert [given.name for given in weights.session.get_inputs()] == ["manner"]
    manner = np.random.default_rng(0).standard_normal((1, N_MANNER)).astype(np.float32)
    features, mask = pad([np.zeros((40, N_FEATURES), np.float32)])
    found = weights.probabilities({"features": features, "mask": mask, "manner": manner})
    with torch.no_grad():
        expected = (tower.eval()(torch.from_numpy(manner)) / 0.5).softmax(1).numpy()
    np.testing.assert_allclose(np.delete(found, 1, axis=1), expected, atol=1e-5)


def test_text_onnx_gives_what_torch_gives(tmp_path: Path) -> None:
    network = Calibrated(small(text_tower()), 0.8, [0.0] * 7).eval()
    path = tmp_path / "compact-text.onnx"
    export(network, path, "compact-text", "0", LABELS7, {"vocabulary": VOCABULARY})
    weights = load_weights("compact-text", frozenset({"transcript"}), str(path))
    ids, mask = weights.word_pieces().encode(["well", "what a day this was"])
    found = weights.probabilities({"pieces": ids, "piece_mask": mask})
    with torch.no_grad():
        expected = network(torch.from_numpy(ids), torch.from_numpy(mask)).softmax(1).numpy()
    np.testing.assert_allclose(np.delete(found, 1, axis=1), expected, atol=1e-5)
    # a scale for each row and what is no matrix are most of so small a tower
    assert weights.card.memory_mb < 0.6 * 4 * weights.card.parameters / 1e6


def test_training_learns_and_equal_seeds_learn_equally() -> None:
    def run() -> tuple[torch.nn.Module, list[float]]:
        torch.manual_seed(0)
        tower, seen = SpeechTower(2, (4, 4, 4, 4), 8, 0.0), []
        generator = torch.Generator().manual_seed(1)

        def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            label = torch.randint(2, (16,), generator=generator)
            features = torch.randn(16, 40, N_FEATURES, generator=generator)
            features[:, :, :32] += 2.0 * label[:, None, None]
            return features, torch.ones(16, 40), torch.nn.functional.one_hot(label, 2).float()

        def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            loss = losses.cross_entropy(logits, targets)
            seen.append(loss.item())
            return loss

        schedule = Schedule(steps=40, rate=5e-3, average=0.5)
        return fit(tower, draw, loss_of, schedule, lambda _: None), seen

    (first, seen), (second, seen_again) = run(), run()
    assert np.mean(seen[-5:]) < 0.4 < 0.6 < np.mean(seen[:3])
    assert seen == seen_again
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_no_number_stops_training() -> None:
    tower = speech_tower()
    batch = torch.full((2, 40, N_FEATURES), torch.nan), torch.ones(2, 40), torch.ones(2, 7) / 7
    with pytest.raises(TrainingError, match="nan at step 1"):
        fit(tower, lambda: batch, losses.cross_entropy, Schedule(steps=3), lambda _: None)


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.standard_normal((20_000, 4))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (chances.cumsum(axis=1) > rng.random((len(logits), 1))).argmax(axis=1)
    assert fit_temperature((3.0 * logits).astype(np.float32), truth) == pytest.approx(3.0, rel=0.05)


def test_items_count_as_much_as_they_are_said_to() -> None:
    logits = np.array([[2.0, 0.0], [2.0, 0.0]], np.float32)
    truth = np.array([0, 1])
    sure = fit_temperature(logits, truth, np.array([1.0, 0.01], np.float32))
    unsure = fit_temperature(logits, truth, np.array([1.0, 0.9], np.float32))
    assert sure < 1.0 < unsure


def test_fusion_believes_the_tower_that_knows() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    speech = (2.0 * np.eye(3)[truth] + rng.standard_normal((600, 3))).astype(np.float32)
    text = rng.standard_normal((600, 3)).astype(np.float32)
    fusion = fit_fusion(Pairs(speech, text, truth), neutral=0, share=0.5)
    assert fusion.scales[0] > 0.8
    with torch.no_grad():
        known = fusion(torch.as_tensor(speech), torch.as_tensor(text)).numpy()
    assert macro_f1(truth, known.argmax(axis=1), [0, 1, 2]) > 0.9 * macro_f1(
        truth, speech.argmax(axis=1), [0, 1, 2]
    )


def test_neutral_words_take_little_from_an_emotion_that_is_heard() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 4_000)
    said = np.where(rng.random(4_000) < 0.6, 0, truth)
    speech = (0.7 * np.eye(4)[truth] + rng.standard_normal((4_000, 4))).astype(np.float32)
    text = (6.0 * np.eye(4)[said]).astype(np.float32)
    fusion = fit_fusion(Pairs(speech, text, truth), neutral=0, share=0.6)
    # the best scale of scores around 0 and 0.7, with a deviation of 1, is 0.7
    assert fusion.scales[0].item() == pytest.approx(0.7, abs=0.1)
    angry, nothing = torch.tensor([[0.0, 2.0, 0.0, 0.0]]), torch.zeros(1, 4)
    plain, furious = torch.tensor([[6.0, 0, 0, 0]]), torch.tensor([[0, 6.0, 0, 0]])
    with torch.no_grad():
        # neutral words take from every emotion what their share says, and no more
        lost = fusion(nothing, plain)[0]
        assert (lost[0] - lost[1]).item() == pytest.approx(-np.log(0.6), abs=0.15)
        assert fusion(angry, plain).argmax().item() == 1
        assert fusion(nothing, furious).argmax().item() == 1


def test_metrics_know_the_answer() -> None:
    truth, guess = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    scores = per_class(truth, guess, [0, 1, 2])
    assert (scores[0].f1, scores[1].f1, scores[2].f1) == (0.5, pytest.approx(0.8), 0.0)
    assert scores[1].n == 2
    assert macro_f1(truth, guess, [0, 1, 2]) == pytest.approx(1.3 / 3)
    assert weighted_f1(truth, guess, [0, 1, 2]) == pytest.approx((1.0 + 1.6) / 5)
    sure = np.array([[0.9, 0.1], [0.9, 0.1]], np.float32)
    assert calibration_error(sure, np.array([0, 1])) == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize("model", ["compact-speech", "compact-text", "compact-joint"])
def test_two_steps_from_the_command_make_a_voter(
    model: str, tiny: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    of_text = {"compact-text": "", "compact-joint": "text."}.get(model)
    read = [f"{of_text}teacher.encoder={json.dumps(str(encoder))}", f"{of_text}rank=8"]
    settings = [word for one in read for word in ("--set", one)] if of_text is not None else []
    assert main([model, *folders, "--steps", "2", *settings]) == 0
    path = tmp_path / f"{model}.onnx"
    assert str(path) in capsys.readouterr().out
    voter = load(model, {"weights": str(path)})
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(8_000)).astype(np.float32)
    (answer,) = voter.vote([Utterance(samples, transcript="its joy")])
    assert isinstance(answer, Ballot)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["model"] == model
    # who is trained once more on the tuning speakers leaves the one that has not met them
    kept = tmp_path / "cache" / "held-out" / f"{model}.onnx"
    assert kept.is_file() == (model != "compact-text")
    assert not kept.is_file() or kept.read_bytes() != path.read_bytes()


def test_missing_data_is_one_line_and_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["compact-text", "--data", str(tmp_path), "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert code == 1
    assert said.count("\n") == 1
    assert "--data" in said


def test_without_onnx_training_does_not_even_begin(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["compact-text", "--data", str(tiny)]) == 1
    said = capsys.readouterr()
    assert "abhinaya[train]" in said.err
    assert not said.out
