from __future__ import annotations

import json

import pytest
import torch
from published_masks import published_mask, published_token_mask

from abhinaya.models.errors import KeysError
from abhinaya.models.published.beats import (
    SHORTEST,
    Beats,
    BeatsConfig,
    buckets,
    filter_bank,
    frame_count,
    token_count,
)

BOUND = 2e-4


@pytest.fixture(scope="module")
def beats(golden, golden_tensors) -> Beats:
    cfg = json.loads(golden("beats_tiny/config.json").read_text())
    model = Beats(BeatsConfig.read(cfg, "golden")).eval()
    weights = golden_tensors("beats_tiny/model.safetensors")
    model.load_state_dict({k: weights[k] for k in model.state_dict()})
    return model


@pytest.fixture(scope="module")
def io(golden_tensors):
    return golden_tensors("beats_tiny/io.safetensors")


@pytest.fixture(scope="module")
def waves(io) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [io[f"item{i}.wave"] for i in range(3)], batch_first=True
    )


@pytest.mark.parametrize("name", ["2800", "9000", "51234", "80000", "gap"])
def test_filter_bank_golden(name, golden_tensors, close) -> None:
    g = golden_tensors("beats_fbank.safetensors")
    close(filter_bank(g[f"wave_{name}"][None])[0], g[f"fbank_{name}"], 1e-4)


def test_filter_bank_is_finite_in_silence_and_under_half_precision_autocast(close) -> None:
    close(filter_bank(torch.zeros(1, SHORTEST)), torch.full((1, 16, 128), -2.391693), 1e-6)
    loud = torch.sin(torch.arange(16000.0))[None]
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype):
            assert torch.equal(filter_bank(loud), filter_bank(loud.double()))
            assert filter_bank(loud).isfinite().all()


def test_counts_of_frames_and_tokens(golden) -> None:
    rows = json.loads(golden("check_values.json").read_text())["frame_counts"]
    assert len(rows) > 5
    for row in rows:
        assert frame_count(row["samples"]) == row["fbank_frames"]
        assert token_count(row["samples"]) == row["beats_tokens"]
    assert (token_count(SHORTEST), token_count(SHORTEST - 1)) == (8, 0)


def test_buckets_golden(io) -> None:
    found = buckets(io["bucket.relative_position"], 320, 800)
    assert torch.equal(found, io["bucket.index"].long())


def test_single_golden(beats, io, close) -> None:
    for i in range(3):
        bank = filter_bank(io[f"item{i}.wave"][None])
        close(beats(bank)[0], io[f"item{i}.features"], BOUND)


def test_published_batch_golden_at_every_stage(beats, io, waves, close) -> None:
    padding = torch.arange(waves.shape[1]) >= io["batch.lengths"][:, None]
    frames = published_mask(padding, frame_count(waves.shape[1]))
    assert torch.equal(frames, io["batch.frame_mask"].bool())
    tokens = published_token_mask(padding)
    assert torch.equal(tokens, io["batch.token_mask"].bool())
    bank = filter_bank(waves)
    close(beats.patches(bank), io["batch.patch_norm"], BOUND)
    x = beats.encoder.embed(beats.post_extract_proj(beats.patches(bank)), tokens)
    close(x, io["batch.encoder_input"], BOUND)
    bias = beats.encoder.layers[0].self_attn.position_bias(x.shape[1])
    for i, layer in enumerate(beats.encoder.layers):
        x = layer(x, bias, tokens)
        if i < 3:
            close(x, io[f"batch.layer_{i}"], BOUND)
    close(x, io["batch.features"], BOUND)
    close(beats(bank, tokens), io["batch.features"], BOUND)


def test_with_the_exact_mask_a_batch_equals_its_singles(beats, io, waves, close) -> None:
    counts = torch.tensor([token_count(int(n)) for n in io["batch.lengths"]])
    bank = filter_bank(waves)
    found = beats(bank, torch.arange(int(counts.max())) >= counts[:, None])
    for i, count in enumerate(counts):
        close(found[i, :count], io[f"item{i}.features"], 1e-4)


def test_size_of_the_published_model_and_that_another_kind_is_refused_by_field() -> None:
    with pytest.raises(KeysError, match="layer_norm_first=True"):
        BeatsConfig.read({"layer_norm_first": True}, "BEATs_other.pt")
    with torch.device("meta"):
        model = Beats(BeatsConfig())
    parameters = sum(p.numel() for p in model.parameters())
    predictor = 527 * 768 + 527
    # The file has 363,145,291 bytes: float32 weights and under 0.1 % of names and padding.
    assert 0 < 363_145_291 - 4 * (parameters + predictor) < 363_145
