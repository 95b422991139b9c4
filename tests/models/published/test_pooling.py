from __future__ import annotations

import pytest
import torch

from abhinaya.models.published.pooling import AttentiveMean, AttentiveStatistics

BOUND = 2e-5


@pytest.mark.parametrize("case", ["pad", "t1", "large", "const"])
@pytest.mark.parametrize("masked", [True, False])
def test_golden(case, masked, golden_tensors, close) -> None:
    g = {
        k.removeprefix(f"{case}."): v
        for k, v in golden_tensors("asp.safetensors").items()
        if k.startswith(f"{case}.")
    }
    x, mask = g["x"], g["mask"].bool() if masked else None
    suffix = "masked" if masked else "unmasked"
    asp = AttentiveStatistics(x.shape[-1])
    asp.load_state_dict(
        {k: g[k] for k in ("attention", "sap_linear.weight", "sap_linear.bias")}, strict=True
    )
    close(asp(x, mask), g[f"asp_{suffix}"], BOUND)
    mean = AttentiveMean(x.shape[-1])
    mean.load_state_dict(
        {"W.weight": g["attn_mean.W.weight"], "W.bias": g["attn_mean.W.bias"]}, strict=True
    )
    close(mean(x, mask), g[f"attn_mean_{suffix}"], BOUND)


def test_the_formula_at_a_point_computed_by_hand(close) -> None:
    # Reference values of ../shared/reference, section 5.
    x = torch.sin(1.0 + torch.arange(20).reshape(1, 5, 4))
    asp = AttentiveStatistics(4)
    with torch.no_grad():
        asp.sap_linear.weight.copy_(torch.cos(torch.arange(16.0)).reshape(4, 4))
        asp.sap_linear.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
        asp.attention.copy_(torch.tensor([[1.0], [-1.0], [0.5], [2.0]]))
    expected = torch.tensor(
        [[0.596416, 0.252201, -0.323887, -0.602195, 0.218414, 0.732853, 0.638659, 0.161366]]
    )
    close(asp(x), expected, 2e-6)


@pytest.mark.parametrize("pool", [AttentiveStatistics, AttentiveMean])
def test_padding_cannot_be_seen(pool) -> None:
    torch.manual_seed(0)
    module, x = pool(6), torch.randn(3, 9, 6)
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    poisoned = x.masked_fill(~mask[..., None], 1e4)
    assert torch.equal(module(x.masked_fill(~mask[..., None], 0), mask), module(poisoned, mask))
    alone = torch.cat([module(x[i : i + 1, :n]) for i, n in enumerate((9, 4, 1))])
    assert torch.allclose(module(poisoned, mask), alone, atol=1e-6)


def test_half_precision_input_is_pooled_in_float32() -> None:
    torch.manual_seed(0)
    x = (1000 + torch.randn(1, 50, 4)).bfloat16()
    assert AttentiveStatistics(4)(x).dtype == torch.float32
