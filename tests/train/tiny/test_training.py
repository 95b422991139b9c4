from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.registry import load
from abhinaya.models.tiny.text import TextTower as Served
from abhinaya.models.tiny.tokens import SPECIAL, WordPieces
from abhinaya.train.cli import main
from abhinaya.train.errors import TrainingError
from abhinaya.train.metrics import fit_temperature
from abhinaya.train.tiny.loop import Schedule, fit
from abhinaya.train.tiny.text_export import Calibrated, export, small
from abhinaya.train.tiny.text_tower import TextSize, TextTower

LABELS7 = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
VOCABULARY = (*SPECIAL, "so", "it", "goes", "and", "on", "well", "what", "a", "day", "this", "was")


def text_tower(classes: int = 7) -> TextTower:
    torch.manual_seed(0)
    size = TextSize(len(VOCABULARY), rank=8, width=16, heads=4, inner=24, depth=2)
    return TextTower(size, classes, 0.1).eval()


def test_padding_never_reaches_a_text_result() -> None:
    tower, known = text_tower(), WordPieces(VOCABULARY)
    together, mask = known.encode(["so it goes", "so it goes and on and on it goes"])
    alone, alone_mask = known.encode(["so it goes"])
    with torch.no_grad():
        padded = tower(torch.from_numpy(together), torch.from_numpy(mask))[:1]
        torch.testing.assert_close(
            padded, tower(torch.from_numpy(alone), torch.from_numpy(alone_mask))
        )


def test_the_file_gives_what_torch_gives(tmp_path: Path) -> None:
    groups = [[0, 7], *([c] for c in range(1, 7))]
    network = Calibrated(small(text_tower(8)), groups, 0.8, [0.0] * 4 + [0.5, 0.0, 0.0]).eval()
    path = tmp_path / "tiny-text.onnx"
    export(network, path, "0", LABELS7, {"vocabulary": VOCABULARY})
    texts = ["well", "what a day this was"]
    logits, fine = Served(str(path)).read(texts)
    ids, mask = WordPieces(VOCABULARY).encode(texts)
    with torch.no_grad():
        expected = network(torch.from_numpy(ids), torch.from_numpy(mask))
    np.testing.assert_allclose(logits, expected[0], atol=1e-5)
    np.testing.assert_allclose(fine, expected[1], atol=1e-5)
    grouped = np.logaddexp(fine[:, 0], fine[:, 7]) / 0.8
    np.testing.assert_allclose(logits[:, 0], grouped, atol=1e-5)
    matrices = [x for x in onnx.load(path).graph.initializer if len(x.dims) == 2 and x.dims[1] > 1]
    assert len(matrices) == 12
    assert {x.data_type for x in matrices} == {onnx.TensorProto.INT8}


def test_training_learns_and_equal_seeds_learn_equally() -> None:
    def run() -> tuple[torch.nn.Module, list[float]]:
        torch.manual_seed(0)
        tower, seen = torch.nn.Linear(8, 2), []
        generator = torch.Generator().manual_seed(1)

        def draw() -> tuple[torch.Tensor, torch.Tensor]:
            label = torch.randint(2, (16,), generator=generator)
            features = torch.randn(16, 8, generator=generator) + 2.0 * label[:, None]
            return features, torch.nn.functional.one_hot(label, 2).float()

        def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            loss = torch.nn.functional.cross_entropy(logits, targets)
            seen.append(loss.item())
            return loss

        schedule = Schedule(steps=60, rate=5e-2, average=0.5)
        return fit(tower, draw, loss_of, schedule, lambda _: None), seen

    (first, seen), (second, seen_again) = run(), run()
    assert np.mean(seen[-5:]) < 0.4 < 0.6 < np.mean(seen[:3])
    assert seen == seen_again
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_no_number_stops_training() -> None:
    batch = torch.full((2, 8), torch.nan), torch.ones(2, 2) / 2
    loss = torch.nn.functional.cross_entropy
    with pytest.raises(TrainingError, match="nan at step 1"):
        fit(torch.nn.Linear(8, 2), lambda: batch, loss, Schedule(steps=3), lambda _: None)


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


def test_two_steps_from_the_command_make_a_text_voter(
    tiny: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    smaller = ["--set", f"teacher.encoder={json.dumps(str(encoder))}", "--set", "rank=8"]
    assert main(["tiny-text", *folders, "--steps", "2", *smaller]) == 0
    path = tmp_path / "tiny-text.onnx"
    assert f"abhinaya train evaluate tiny-text --weights {path}" in capsys.readouterr().out
    (answer,) = load("tiny-text", {"weights": str(path)}).vote(
        [Utterance(np.zeros(0, np.float32), transcript="its joy")]
    )
    assert isinstance(answer, Ballot)
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["model"], card["licence"], card["figures"]) == ("tiny-text", "Apache-2.0", {})
    assert card["made_by"].startswith("abhinaya train tiny-text --set schedule.steps=2 --set teach")


def test_missing_data_is_one_line_and_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["tiny-text", "--data", str(tmp_path), "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert code == 1
    assert said.count("\n") == 1
    assert "--data" in said


def test_without_onnx_training_does_not_even_begin(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["tiny-text", "--data", str(tiny)]) == 1
    said = capsys.readouterr()
    assert "abhinaya[train]" in said.err
    assert not said.out
