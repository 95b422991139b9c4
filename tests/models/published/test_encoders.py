"""Encoders of each family: an item has the same frames alone and beside a longer one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_encoders import AUDIO, TEXT, save_encoder

from abhinaya.models.errors import OptionsError
from abhinaya.models.published.encoders import frames_of, load_encoder
from abhinaya.models.published.specs import EMBEDDED, EncoderSpec
from abhinaya.models.published.wavlm import WaveNorm

CPU = torch.device("cpu")
WAVES = [np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32) for n in (20_000, 7_321)]
TEXTS = ["it is a rather long sentence, now", "oh"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


def spec(kind: str, folder: Path, **more: object) -> EncoderSpec:
    name = EMBEDDED if kind == EMBEDDED else str(save_encoder(kind, folder))
    modality = "text" if kind in TEXT else "audio"
    return EncoderSpec(name, **{"modality": modality, "max_s": 2.0, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", ["last", "sum:2", "learned"])
@pytest.mark.parametrize("kind", [*AUDIO, *TEXT, EMBEDDED])
def test_padding_changes_no_frame(kind: str, layers: str, folder: Path) -> None:
    encoder = load_encoder(spec(kind, folder, layers=layers), WaveNorm())
    rows = TEXTS if kind in TEXT else WAVES
    together = frames_of(encoder, rows, CPU)
    for row, found in zip(rows, together, strict=True):
        (alone,) = frames_of(encoder, [row], CPU)  # type: ignore[list-item]
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-4)
        if kind in AUDIO:  # 50 frames a second
            assert abs(len(found) - len(row) / 320) <= 1
        depth = (encoder.levels,) if layers == "learned" else ()
        assert found.shape[1:] == (*depth, encoder.width)
    assert encoder.levels == (0 if layers != "learned" else 2 + (kind != EMBEDDED))


def test_a_short_window_of_whisper_has_the_same_first_positions(folder: Path) -> None:
    """Whisper attends to the silence after a clip, so a window is part of the encoder."""
    short, whole = (load_encoder(spec("whisper", folder, max_s=s), WaveNorm()) for s in (2.0, 30.0))
    x, n = short.reader.prepare(WAVES)
    assert x.shape[2] == 200
    assert short(x, n).valid.sum(1).tolist() == [63, 23]
    assert short.model.embed_positions.weight.equal(whole.model.embed_positions.weight[:100])
    with pytest.raises(OptionsError, match=r"the window of .* is 30 s"):
        load_encoder(spec("whisper", folder, max_s=31.0), WaveNorm())


@pytest.mark.parametrize(
    ("kind", "train", "trained", "still"),
    [
        ("wavlm", "tuned", "encoder.layers.0", "feature_extractor"),
        ("whisper", "tuned", "layers.0", "conv1"),
        ("hubert", "top:1", "encoder.layers.1", "encoder.layers.0"),
        ("roberta", "top:1", "encoder.layer.1", "embeddings"),
        ("whisper", "lora", "layers.1.fc1.lora_A", "layers.1.fc1.base_layer"),
        ("t5", "frozen", "", "encoder"),
    ],
)
def test_only_what_the_spec_trains_is_trained(
    kind: str, train: str, trained: str, still: str, folder: Path
) -> None:
    targets = ("fc1", "fc2") if train == "lora" else ()
    encoder = load_encoder(spec(kind, folder, train=train, targets=targets), WaveNorm())
    learning = {k: p.requires_grad for k, p in encoder.model.named_parameters()}
    assert any(learning.values()) == bool(trained)
    assert all(on for k, on in learning.items() if trained and k.startswith(trained))
    assert not any(on for k, on in learning.items() if k.startswith(still))


def test_what_cannot_be_is_refused(folder: Path) -> None:
    with pytest.raises(OptionsError, match="does not read audio"):
        load_encoder(spec("bert", folder, modality="audio"), WaveNorm())
    with pytest.raises(OptionsError, match="it has 2 layers, not 3"):
        load_encoder(spec("hubert", folder, train="top:3"), WaveNorm())
    for kind, target in (("hubert", "nowhere"), ("wavlm", "q_proj")):
        with pytest.raises(OptionsError, match=r"LoRA has no effect there; choose among .*dense"):
            load_encoder(spec(kind, folder, train="lora", targets=(target,)), WaveNorm())


@pytest.mark.parametrize("kind", [*AUDIO, *TEXT])
def test_every_adapter_learns(kind: str, folder: Path) -> None:
    encoder = load_encoder(spec(kind, folder, train="lora"), WaveNorm())
    x, n = encoder.reader.prepare(TEXTS if kind in TEXT else WAVES)
    encoder(x, n).x.square().sum().backward()
    slopes = [p.grad for k, p in encoder.named_parameters() if "lora_B" in k]
    assert len(slopes) >= 2
    assert all(slope is not None and slope.any() for slope in slopes)
