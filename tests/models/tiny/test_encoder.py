"""Whisper's lower layers by onnxruntime, against the same sums written out in torch."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from ct2_files import write_model
from faster_whisper.feature_extractor import FeatureExtractor
from sounds import buzz, hiss
from torch.nn import functional
from whisper_graph import encoder_graph

from abhinaya.models.asr import carrier
from abhinaya.models.base import SAMPLE_RATE
from abhinaya.models.errors import DamagedFileError
from abhinaya.models.tiny.ct2_file import read_tensors
from abhinaya.models.tiny.encoder import (
    FRAME_SAMPLES,
    GRAPH,
    LEVELS,
    TAIL_SAMPLES,
    WIDTH,
    Encoder,
    shared,
)

HEADS = 6


@pytest.fixture(scope="module")
def folder() -> Path:
    return carrier.find("tiny.en")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return shared(folder)


def plain(folder: Path, samples: np.ndarray) -> torch.Tensor:
    """Return levels [L, T, D] of samples by the layers of the paper, in float64."""
    raw = read_tensors(folder / "model.bin", "encoder/")
    w = {name: torch.from_numpy(np.asarray(value, np.float64)) for name, value in raw.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (WIDTH,), w[f"{name}/gamma"], w[f"{name}/beta"])

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, w[f"{name}/weight"], w[f"{name}/bias"])

    def convolution(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        made = functional.conv1d(x, w[f"{name}/weight"], w[f"{name}/bias"], stride, padding=1)
        return functional.gelu(made)

    padded = np.pad(samples, (0, TAIL_SAMPLES + -len(samples) % FRAME_SAMPLES))
    mel = torch.from_numpy(np.asarray(FeatureExtractor()(padded, padding=0), np.float64))[None]
    x = convolution(convolution(mel, "conv1", 1), "conv2", 2).transpose(1, 2)[0]
    x = x + w["position_encodings/encodings"][: len(x)]
    found = []
    for number in range(max(LEVELS)):
        name = f"layer_{number}"
        stacked = linear(
            norm(x, f"{name}/self_attention/layer_norm"), f"{name}/self_attention/linear_0"
        )
        q, k, v = (part.view(len(x), HEADS, -1).transpose(0, 1) for part in stacked.chunk(3, dim=1))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(0, 1).reshape(len(x), -1)
        x = x + linear(mixed, f"{name}/self_attention/linear_1")
        inner = functional.gelu(linear(norm(x, f"{name}/ffn/layer_norm"), f"{name}/ffn/linear_0"))
        x = x + linear(inner, f"{name}/ffn/linear_1")
        found.append(x)
    return torch.stack([found[level - 1] for level in LEVELS])


@pytest.mark.parametrize("seconds", [0.5, 1.23, 4.0])
def test_the_levels_are_those_of_the_paper(seconds: float, folder: Path, encoder: Encoder) -> None:
    samples = buzz(140, seconds) + hiss(seconds, gain=0.01)
    found = encoder.encode(samples)
    frames = -(-len(samples) // FRAME_SAMPLES)
    assert found.shape == (len(LEVELS), frames, WIDTH)
    expected = plain(folder, samples)[:, :frames].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, np.abs(expected).max()))


def test_the_same_samples_are_the_same_pass(folder: Path, encoder: Encoder) -> None:
    samples = buzz(200, 1.0)
    first = encoder.encode(samples)
    assert encoder.encode(samples.copy()) is first
    for number in range(20):  # more than are remembered
        encoder.encode(hiss(0.3, seed=number))
    again = encoder.encode(samples)
    assert again is not first
    np.testing.assert_array_equal(again, first)
    assert shared(folder) is encoder


def test_what_is_not_a_number_counts_as_silence(encoder: Encoder) -> None:
    samples = buzz(200, 1.0)
    samples[3_000:3_100] = np.nan
    samples[3_100] = np.inf
    quiet = samples.copy()
    quiet[3_000:3_101] = 0.0
    found = encoder.encode(samples)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, encoder.encode(quiet))
    assert encoder.encode(hiss(10.0)).shape[1] == 10 * SAMPLE_RATE // FRAME_SAMPLES, "the longest"


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(whole[:1_000_000])
    with pytest.raises(DamagedFileError, match=r"model\.bin"):
        Encoder(tmp_path)
    shutil.copy(folder / "config.json", tmp_path / "model.bin")
    with pytest.raises(DamagedFileError, match="not a CTranslate2 model"):
        Encoder(tmp_path)


@pytest.mark.parametrize(("width", "layers"), [(384, 6), (512, 4)])
def test_a_whisper_of_another_size_is_refused(
    width: int, layers: int, folder: Path, tmp_path: Path
) -> None:
    sizes = {WIDTH: width, 3 * WIDTH: 3 * width, 4 * WIDTH: 4 * width}
    variables = [
        (f"encoder/{name}", np.zeros([sizes.get(n, n) for n in value.shape], value.dtype))
        for name, value in read_tensors(folder / "model.bin", "encoder/").items()
    ]
    above = [pair for pair in variables if "layer_3/" in pair[0]]
    for number in range(4, layers):
        variables += [(name.replace("layer_3", f"layer_{number}"), x) for name, x in above]
    write_model(tmp_path / "model.bin", variables)
    with pytest.raises(DamagedFileError, match=r"model\.bin: not a Whisper model of size tiny"):
        Encoder(tmp_path)


def test_the_committed_graph_is_what_the_code_makes() -> None:
    committed = (
        resources.files("abhinaya.models.tiny.weights").joinpath(f"{GRAPH}.onnx").read_bytes()
    )
    assert encoder_graph(LEVELS) == committed
