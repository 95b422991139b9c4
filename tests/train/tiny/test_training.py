from __future__ import annotations

import numpy as np
import pytest
import torch

from abhinaya.train.errors import TrainingError
from abhinaya.train.metrics import fit_temperature
from abhinaya.train.tiny.loop import Schedule, fit


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
