from __future__ import annotations

import pytest
import torch

from abhinaya.models.published.qformer import QFormer, QFormerConfig, windows

BOUND = 1e-4


@pytest.fixture(scope="module")
def qformer(golden_tensors) -> QFormer:
    module = QFormer(
        QFormerConfig(encoder_width=72, hidden_size=48, intermediate_size=96, num_attention_heads=4)
    ).eval()
    prefix = "speech_Qformer."
    weights = golden_tensors("salmonn_tiny/salmonn.safetensors")
    module.load_state_dict(
        {
            k.removeprefix(prefix): v
            for k, v in weights.items()
            if k.startswith(prefix) and not k.endswith("position_ids")
        }
    )
    return module


@pytest.mark.parametrize("item", ["item0", "item1", "item2", "batch"])
def test_golden(item, qformer, golden_tensors, close) -> None:
    query = golden_tensors("salmonn_tiny/salmonn.safetensors")["speech_query_tokens"]
    g = golden_tensors("salmonn_tiny/expected_audio.safetensors")
    fused = g[f"{item}.concat"].reshape(-1, 1500, 72)
    found = qformer(query, windows(fused)).reshape(len(fused), 88, 48)
    close(found, g[f"{item}.qformer"].reshape(-1, 88, 48), BOUND)


def test_windows_do_not_overlap_and_drop_the_rest() -> None:
    frames = torch.arange(2 * 1500.0).reshape(2, 1500, 1)
    cut = windows(frames)
    assert cut.shape == (176, 17, 1)
    assert torch.equal(cut[:88].flatten(), frames[0, :1496].flatten())
    assert cut[88, 0] == 1500


def test_size_of_the_published_model() -> None:
    with torch.device("meta"):
        module = QFormer(QFormerConfig())
    assert sum(p.numel() for p in module.parameters()) == 22_837_248
    assert len(module.state_dict()) + 1 == 55  # and a buffer that nothing reads
