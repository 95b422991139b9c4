from __future__ import annotations

import pytest
import torch

from abhinaya.models.published.heads import (
    AttentiveMean,
    AttentiveStatistics,
    LanguageHead,
)

BOUND = 5e-5
POOL_BOUND = 2e-5


@pytest.mark.parametrize("system", ["s2", "st1"])
def test_language_head_golden(system, golden_tensors, close) -> None:
    head = LanguageHead(64, 32).eval()
    head.load_state_dict(golden_tensors(f"salmonn_tiny/head_{system}.safetensors"))
    g = golden_tensors(f"salmonn_tiny/expected_{system}.safetensors")
    hidden, mask = g["batch.last_hidden_state"], g["batch.attention_mask"].bool()
    close(head.pool(head.ln(hidden)), g["batch.pooled"], BOUND)
    close(head(hidden), g["batch.logits"], BOUND)
    close(head(hidden, mask), g["batch.logits_nonpad"], BOUND)
    for i in range(3):
        close(head(g[f"item{i}.last_hidden_state"][None])[0], g[f"item{i}.logits"], BOUND)


@pytest.mark.parametrize(("width", "parameters"), [(4096, 25_191_432), (5120, 36_729_864)])
def test_parameter_counts_of_the_published_heads(width: int, parameters: int) -> None:
    with torch.device("meta"):
        head = LanguageHead(width)
    assert sum(p.numel() for p in head.parameters()) == parameters


@pytest.mark.parametrize("case", ["pad", "t1", "large", "const"])
@pytest.mark.parametrize("masked", [True, False])
def test_pools_golden(case, masked, golden_tensors, close) -> None:
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
    close(asp(x, mask), g[f"asp_{suffix}"], POOL_BOUND)
    mean = AttentiveMean(x.shape[-1])
    mean.load_state_dict(
        {"W.weight": g["attn_mean.W.weight"], "W.bias": g["attn_mean.W.bias"]}, strict=True
    )
    close(mean(x, mask), g[f"attn_mean_{suffix}"], POOL_BOUND)


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
    assert asp(x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("pool", [AttentiveStatistics, AttentiveMean])
def test_padding_cannot_be_seen(pool) -> None:
    torch.manual_seed(0)
    module, x = pool(6), torch.randn(3, 9, 6)
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    poisoned = x.masked_fill(~mask[..., None], 1e4)
    assert torch.equal(module(x.masked_fill(~mask[..., None], 0), mask), module(poisoned, mask))
    alone = torch.cat([module(x[i : i + 1, :n]) for i, n in enumerate((9, 4, 1))])
    assert torch.allclose(module(poisoned, mask), alone, atol=1e-6)
