"""Adapters on a model in bfloat16: what is trained must be able to move."""

from __future__ import annotations

import pytest
import torch
from tiny_checkpoints import LLAMA
from transformers import LlamaConfig, LlamaModel

from abhinaya.models.published.lora import add_lora, lora_tensors

RATE = 1e-5
"""The paper's."""


def adapted(dtype: torch.dtype) -> LlamaModel:
    torch.manual_seed(0)
    config = LlamaConfig(**LLAMA, vocab_size=50, hidden_size=32)
    body = LlamaModel(config).to(dtype)
    add_lora(body, rank=8)
    return body.train()


def moved(body: LlamaModel) -> float:
    """Share of the numbers of lora_A that one step of the paper's rate changes."""
    factors = [t for k, t in lora_tensors(body).items() if "lora_A" in k]
    before = [t.detach().clone() for t in factors]
    for k, t in lora_tensors(body).items():
        if "lora_B" in k:  # zero at the start, so that lora_A would have no gradient
            torch.nn.init.normal_(t)
    optimiser = torch.optim.AdamW(factors, lr=RATE, weight_decay=0.0)
    ids = torch.arange(10)[None]
    body(input_ids=ids, use_cache=False).last_hidden_state.float().square().mean().backward()
    optimiser.step()
    changed = [(a != b).float().mean().item() for a, b in zip(before, factors, strict=True)]
    return sum(changed) / len(changed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_factors_are_float32_and_a_small_step_moves_them(dtype: torch.dtype) -> None:
    body = adapted(dtype)
    assert {t.dtype for t in lora_tensors(body).values()} == {torch.float32}
    assert {p.dtype for p in body.parameters() if not p.requires_grad} == {dtype}
    assert moved(body) > 0.9


def test_what_the_layer_gives_stays_in_the_type_of_the_model() -> None:
    hidden = adapted(torch.bfloat16).eval()(torch.arange(10)[None]).last_hidden_state
    assert hidden.dtype == torch.bfloat16
    assert torch.isfinite(hidden).all()
