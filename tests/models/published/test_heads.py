from __future__ import annotations

import pytest
import torch

from abhinaya.models.published.heads import LanguageHead, SpeechHead

BOUND = 5e-5


@pytest.mark.parametrize("pool", ["asp", "attn_mean"])
def test_s1_golden(pool, golden_tensors, close) -> None:
    weights = golden_tensors(f"wavlm_tiny/s1_{pool}.safetensors")
    head = SpeechHead(32, 24, pool=pool).eval()
    head.load_state_dict({k: v for k, v in weights.items() if not k.startswith("wavlm_model.")})
    g = golden_tensors("wavlm_tiny/expected_s1.safetensors")
    for i in range(3):
        x = g[f"item{i}.last_hidden_state"][None]
        close(head.pool(x)[0], g[f"{pool}.item{i}.pooled"], BOUND)
        close(head(x)[0], g[f"{pool}.item{i}.logits"], BOUND)
    mask = torch.arange(99) < g["num_frames"][:, None]
    close(head(g["batch.last_hidden_state"], mask), g[f"{pool}.batch.logits"], BOUND)


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
