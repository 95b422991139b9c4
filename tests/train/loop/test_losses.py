from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from places import GOLDEN
from torch import Tensor

from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.train.errors import TrainingError
from abhinaya.train.learners.base import Outputs
from abhinaya.train.loop import losses
from abhinaya.train.loop.losses import (
    CODE_WEIGHTS,
    Reduction,
    class_weights,
    vector_scaling,
    weighted_cross_entropy,
    weighted_focal,
)
from abhinaya.train.loop.objective import Objective
from abhinaya.train.recipes.tables import LossTerm

MSP_PODCAST_COUNTS = (6728, 2495, 1432, 1120, 16712, 29239, 6303, 2948)
"""Training clips of MSP-Podcast 1.12 with a consensus among the eight, in the order of LABELS."""

NAMES = (
    "random_1",
    "random_6",
    "random_17",
    "sine",
    "other_hyperparameters",
    "focal_gamma_zero",
    "extreme",
)
ROUNDED = ("random_1", "random_6", "sine")
"""Cases that also carry the results with the rounded weights of the published code."""
ALL: tuple[Reduction, ...] = ("paper", "weighted_mean", "broadcast")


@cache
def golden() -> dict[str, Any]:
    path = GOLDEN / "losses.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here: golden values come with ../shared")
    found = json.loads(path.read_text())
    assert found["class_order"] == ["A", "C", "D", "F", "H", "N", "S", "U"]
    return {case["name"]: case for case in found["cases"]}


def value(
    case: dict[str, Any], kind: str, z: Tensor, weights: Tensor, reduction: Reduction
) -> Tensor:
    y = torch.tensor(case["targets"])
    if kind == "wce":
        return weighted_cross_entropy(z, y, weights, reduction)
    if kind == "wfl":
        return weighted_focal(z, y, weights, case["focal_gamma"], reduction)
    gamma, tau = case["vs_gamma"], case["vs_tau"]
    return vector_scaling(z, y, case["class_counts"], weights, gamma, tau, reduction)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("name", "rounded"), [*((n, False) for n in NAMES), *((n, True) for n in ROUNDED)]
)
def test_values_are_the_golden_ones(
    name: str, dtype: torch.dtype, rel: float, rounded: bool
) -> None:
    case = golden()[name]
    expected = case["rounded_class_weights"] if rounded else case
    z = torch.tensor(case["logits"], dtype=dtype)
    if rounded:
        weights = torch.tensor(CODE_WEIGHTS, dtype=torch.float64)
    else:
        weights = class_weights(case["class_counts"])
    assert weights.tolist() == pytest.approx(expected["class_weights"], rel=1e-12)
    checked = 0
    for reduction in ALL:
        for kind, wanted in expected[reduction].items():
            found = value(case, kind, z, weights, reduction).item()
            assert found == pytest.approx(wanted, rel=rel, abs=1e-300), (reduction, kind)
            checked += 1
    assert checked == 7


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", ["wce", "wfl", "vs"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_golden_ones(
    name: str, kind: str, dtype: torch.dtype, atol: float
) -> None:
    case = golden()[name]
    z = torch.tensor(case["logits"], dtype=dtype, requires_grad=True)
    torch.autograd.backward(value(case, kind, z, class_weights(case["class_counts"]), "paper"))
    assert z.grad is not None
    wanted = torch.tensor(case["grad_paper"][kind], dtype=torch.float64)
    torch.testing.assert_close(z.grad.double(), wanted, rtol=atol, atol=atol)


def test_class_weights_and_vs_vectors_are_the_golden_ones() -> None:
    path = GOLDEN / "check_values.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here: golden values come with ../shared")
    found = json.loads(path.read_text())["msp_podcast_train"]
    scale, bias = losses.vector_scaling_terms(MSP_PODCAST_COUNTS, 0.3, 1.0)
    exact = class_weights(MSP_PODCAST_COUNTS)
    assert exact.tolist() == pytest.approx(found["class_weights"], rel=1e-12)
    assert scale.tolist() == pytest.approx(found["vs_logit_scale"], rel=1e-12)
    assert bias.tolist() == pytest.approx(found["vs_iota"], rel=1e-12)


# --- identities -----------------------------------------------------------------------------------


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(12, 8, generator=generator, dtype=torch.float64)
    return logits, torch.randint(8, (12,), generator=generator), class_weights(MSP_PODCAST_COUNTS)


def test_focal_without_gamma_is_cross_entropy() -> None:
    z, y, w = batch()
    for reduction in ALL:
        torch.testing.assert_close(
            weighted_focal(z, y, w, 0.0, reduction), weighted_cross_entropy(z, y, w, reduction)
        )


def test_a_kind_alone_has_the_gamma_of_the_paper() -> None:
    z, y, w = batch()
    shares = torch.nn.functional.one_hot(y, 8).double()
    for kind, expected in (
        ("focal", weighted_focal(z, y, w, 2.0)),
        ("vs", vector_scaling(z, y, MSP_PODCAST_COUNTS, gamma=0.3)),
    ):
        outputs = Outputs({"primary": LABELS})
        loss = Objective([LossTerm(kind)], MSP_PODCAST_COUNTS, outputs)(z, shares)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_indices_and_one_hot_targets_cost_the_same() -> None:
    z, y, w = batch()
    one_hot = torch.nn.functional.one_hot(y, 8)
    for reduction in ALL:
        torch.testing.assert_close(
            weighted_focal(z, one_hot, w, 2.0, reduction), weighted_focal(z, y, w, 2.0, reduction)
        )
    torch.testing.assert_close(
        losses.kl_divergence(z, one_hot.double()), weighted_cross_entropy(z, y)
    )


def test_divergence_is_zero_only_at_the_votes() -> None:
    votes = torch.tensor([[0.5, 0.25, 0.25, 0.0]], dtype=torch.float64)
    at = torch.log(votes.clamp_min(1e-30))
    assert losses.kl_divergence(at, votes).item() == pytest.approx(0.0, abs=1e-12)
    # by hand: 0.5 ln 2 + 2 * 0.25 ln 1 against four equal shares
    even = losses.kl_divergence(torch.zeros(1, 4, dtype=torch.float64), votes).item()
    assert even == pytest.approx(0.5 * 0.6931471805599453, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_certain_answer_has_finite_gradients(gamma: float) -> None:
    z = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    torch.autograd.backward(weighted_focal(z, torch.tensor([0, 0]), None, gamma))
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert z.grad[1].abs().max() > 0.4


def test_an_empty_class_is_named() -> None:
    with pytest.raises(ValueError, match=r"classes \[1\] are empty.*add clips"):
        class_weights([3, 0, 2])
    with pytest.raises(ValueError, match=r"\[2\] are empty"):
        vector_scaling(torch.zeros(1, 3), torch.tensor([0]), [3, 1, 0])


def test_concordance_punishes_shift_and_scale() -> None:
    y = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert losses.ccc(y, y).item() == pytest.approx(1.0, abs=1e-7)
    # variance 1.25: shifted by 1, 2 * 1.25 / (2.5 + 1); doubled, 2 * 2.5 / (1.25 + 5 + 6.25)
    assert losses.ccc(y + 1, y).item() == pytest.approx(2.5 / 3.5, abs=1e-7)
    assert losses.ccc(2 * y, y).item() == pytest.approx(5.0 / 12.5, abs=1e-7)
    both = losses.ccc_loss(torch.stack([y + 1, y], 1), torch.stack([y, y], 1)).item()
    assert both == pytest.approx((1 - 2.5 / 3.5) / 2, abs=1e-7)


def test_a_batch_of_one_has_no_concordance() -> None:
    with pytest.raises(ValueError, match="batch of one"):
        losses.ccc_loss(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"not \[B, K\]"):
        losses.ccc_loss(torch.zeros(3), torch.zeros(3))


HALF = torch.tensor([[0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
"""Both classes as probable."""
ONE_EACH = torch.eye(2, dtype=torch.float64)
LN2 = 0.6931471805599453


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        # a class: 2 * 0.5 / (1 + 1); the other has no clip in the second case
        (losses.soft_f1_loss(HALF, ONE_EACH), 0.5),
        (losses.soft_f1_loss(HALF, torch.tensor([0, 0])), 1 - 2 * 1.0 / (1.0 + 2.0)),
        (losses.margin_loss(torch.zeros(2), torch.tensor([1.0, 0.0])), LN2),
        (losses.margin_loss(torch.tensor([-30.0]), torch.tensor([1.0])), 30.0),
        (losses.rank_loss(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.0])), 3.048587351573742),
        (losses.rank_loss(torch.zeros(2), torch.ones(2)), 0.0),
        # 0.5 on the inner scale is 3 on that of annotators
        (losses.squared_error(torch.tensor([[0.5]]), torch.tensor([[1.0]])), 9.0),
        (losses.squared_error(torch.tensor([[0.5]]), torch.tensor([[1.0]]), 1.0), 9.0),
        (losses.squared_error(torch.tensor([[2 / 3]]), torch.tensor([[1.0]]), 1.0), 4 * 0.60653066),
        (class_weights([1, 4], 0.5)[0], 2.5**0.5),
    ],
)
def test_values_by_hand(found: Tensor, expected: float) -> None:
    assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_each_head_has_its_columns_and_unknown_targets_do_not_count() -> None:
    outputs = Outputs(
        {"primary": ("neutral", "sad"), "attributes": ATTRIBUTES, "gender": ("f", "m"),
         "neutral": ("against the rest",)}
    )  # fmt: skip
    nan = float("nan")
    targets = torch.tensor([[1, 0, 0.5, 0.5, 0.5, 1, 0, nan], [0, 1, nan, nan, nan, nan, nan, nan]])
    scores = torch.zeros(2, 8)
    for term, expected in (
        (LossTerm("ce", class_weights="none"), LN2),
        (LossTerm("mse"), 0.0),
        (LossTerm("ce", head="gender", weight=3.0), 3 * LN2),
        (LossTerm("margin"), LN2),
        (LossTerm("rank"), LN2),
        (LossTerm("ccc"), 0.0),  # one clip has no concordance
    ):
        found = Objective([term], (1, 1), outputs)(scores, targets)
        assert found.item() == pytest.approx(expected), term


def test_the_penalty_is_on_the_weights_it_names() -> None:
    pool = torch.nn.ModuleDict({"pool": torch.nn.Linear(2, 1), "out": torch.nn.Linear(2, 1)})
    torch.nn.init.constant_(pool["pool"].weight, 3.0)
    outputs = Outputs({"primary": ("neutral", "sad")})
    term = LossTerm("l2", part="pool.weight", weight=0.5)
    assert float(
        torch.as_tensor(Objective([term], (1, 1), outputs).penalty(pool)).detach()
    ) == pytest.approx(9.0)
    with pytest.raises(TrainingError, match=r"called attention\.\.\.; known parts: pool, out"):
        Objective([LossTerm("l2", part="attention")], (1, 1), outputs).penalty(pool)


# --- independent of torch and of the golden file --------------------------------------------------


def test_gradients_are_those_of_central_differences() -> None:
    z, y, w = batch(1)
    soft = torch.softmax(batch(2)[0], dim=1)
    for loss in (
        lambda x: weighted_cross_entropy(x, y, w),
        lambda x: weighted_focal(x, y, w),
        lambda x: vector_scaling(x, y, MSP_PODCAST_COUNTS),
        lambda x: losses.kl_divergence(x, soft),
        lambda x: losses.ccc_loss(torch.sigmoid(x), soft),
        lambda x: losses.squared_error(torch.sigmoid(x), soft, 1.0),
        lambda x: losses.soft_f1_loss(x, soft),
        lambda x: losses.rank_loss(x[:, 0], (y == 0).double()),
    ):
        assert torch.autograd.gradcheck(loss, z.clone().requires_grad_(), atol=1e-7, rtol=1e-6)
