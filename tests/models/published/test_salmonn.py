"""SALMONN against the published implementation, stage by stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from published_masks import published_token_mask
from transformers import LlamaConfig, LlamaModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from abhinaya.models.inference import place
from abhinaya.models.published import audio_encoders
from abhinaya.models.published.audio_encoders import AudioEncoders
from abhinaya.models.published.beats import Beats, BeatsConfig, filter_bank
from abhinaya.models.published.heads import LanguageHead
from abhinaya.models.published.lora import add_lora, fill_lora, is_lora, lora_tensors
from abhinaya.models.published.qformer import QFormer, QFormerConfig, windows
from abhinaya.models.published.salmonn import (
    Prompt,
    Salmonn,
    SpeechAdapter,
    adapter_sizes,
    assemble,
)
from abhinaya.models.published.voting_batch import padded

ITEMS = range(3)


@pytest.fixture(scope="module")
def tiny(golden: Callable[[str], Path], golden_tensors) -> SimpleNamespace:
    """All golden files of salmonn_tiny, and the modules filled with their weights."""
    config = json.loads(golden("salmonn_tiny/config.json").read_text())
    names = ("inputs", "expected_audio", "expected_s2", "expected_st1", "salmonn")
    g = {name: golden_tensors(f"salmonn_tiny/{name}.safetensors") for name in names}

    whisper = WhisperEncoder(WhisperConfig(**config["whisper_encoder"]))
    weights = golden_tensors("salmonn_tiny/whisper_encoder.safetensors")
    whisper.load_state_dict({k.removeprefix("model.encoder."): v for k, v in weights.items()})
    cfg = json.loads(golden("salmonn_tiny/beats_config.json").read_text())
    beats = Beats(BeatsConfig.read(cfg, "golden"))
    weights = golden_tensors("salmonn_tiny/beats.safetensors")
    beats.load_state_dict({k: weights[k] for k in beats.state_dict()})

    def build(system: str) -> Salmonn:
        adapter = SpeechAdapter(*adapter_sizes(g["salmonn"], heads=4), llm=64)
        adapter.load_state_dict({k: g["salmonn"][k] for k in adapter.state_dict()})
        llm = LlamaModel(LlamaConfig(**config["llama"]))
        body = golden_tensors("salmonn_tiny/llama.safetensors")
        llm.load_state_dict(
            {k.removeprefix("model."): v for k, v in body.items() if k.startswith("model.")}
        )
        prefix = "llama_model.base_model.model.model."
        lora = {k.removeprefix(prefix): v for k, v in g["salmonn"].items() if is_lora(k)}
        fill_lora(llm, lora, "golden")
        head = LanguageHead(64, 32)
        head.load_state_dict(golden_tensors(f"salmonn_tiny/head_{system}.safetensors"))
        return Salmonn(adapter, llm, head).eval()

    tokens = json.loads(golden("salmonn_tiny/tokens.json").read_text())
    prompts = {
        system: [
            Prompt(
                (tokens["bos"], *tokens["before"][i]),
                tuple(tokens["after"][i]),
                tuple(tokens[f"text_{system}"][i]),
            )
            for i in ITEMS
        ]
        for system in ("s2", "st1")
    }
    return SimpleNamespace(
        g=g,
        encoders=AudioEncoders(whisper, beats, place("cpu", "float32")),
        models={s: build(s) for s in ("s2", "st1")},
        prompts=prompts,
        pad=tokens["pad"],
        waves=[g["inputs"][f"item{i}.wave"] for i in ITEMS],
    )


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def speech_embeds(tiny, name: str) -> torch.Tensor:
    return tiny.g["expected_audio"][f"{name}.speech_embeds"].reshape(-1, 88, 64)


def test_whisper_features_and_encoder(tiny, close) -> None:
    for i in ITEMS:
        stored = tiny.g["inputs"][f"item{i}.mel"].float()
        close(tiny.encoders.mel([tiny.waves[i].numpy()])[0], stored, 2e-3)
        expected = tiny.g["expected_audio"][f"item{i}.whisper"]
        close(tiny.encoders.speech(stored[None])[0], expected, 5e-5)


@pytest.mark.parametrize("i", ITEMS)
def test_audio_side_single(i, tiny, close) -> None:
    g, adapter = tiny.g["expected_audio"], tiny.models["s2"].adapter
    audio = tiny.encoders.beats(filter_bank(tiny.waves[i][None]))
    close(audio[0], g[f"item{i}.beats"], 2e-4)
    fused = adapter.fuse(g[f"item{i}.whisper"][None], audio)
    close(fused[0], g[f"item{i}.concat"], 1e-4)
    close(adapter.query(fused)[0], g[f"item{i}.qformer"], 1e-4)
    close(adapter(g[f"item{i}.whisper"][None], audio)[0], g[f"item{i}.speech_embeds"], 1e-4)


def test_audio_side_published_batch(tiny, close) -> None:
    g, adapter = tiny.g["expected_audio"], tiny.models["s2"].adapter
    waves, lengths = padded(tiny.waves)
    mask = published_token_mask(torch.arange(waves.shape[1]) >= lengths[:, None])
    assert torch.equal(mask, g["batch.token_mask"].bool())
    audio = tiny.encoders.beats(filter_bank(waves), mask)
    close(audio, g["batch.beats"], 2e-4)
    speech = torch.stack([g[f"item{i}.whisper"] for i in ITEMS])
    fused = adapter.fuse(speech, audio)
    close(fused, g["batch.concat"], 1e-4)
    close(adapter.query(fused), g["batch.qformer"], 1e-4)
    close(adapter(speech, audio), g["batch.speech_embeds"], 1e-4)


def check_language_side(model, reading, expected, close) -> None:
    """Compare each stage with the published one."""
    assert torch.equal(reading.mask.long(), expected("attention_mask"))
    close(reading.embeds, expected("inputs_embeds"), 1e-4)
    hidden = model.read(reading)
    close(hidden, expected("last_hidden_state"), 1e-4)
    close(model.head.pool(model.head.ln(hidden)), expected("pooled"), 5e-5)
    for scope, name in (
        ("all", "logits"),
        ("nonpad", "logits_nonpad"),
        ("speech", "logits_speech"),
    ):
        close(model.classify(hidden, reading, scope), expected(name), 5e-5)


@pytest.mark.parametrize("system", ["s2", "st1"])
@pytest.mark.parametrize("i", ITEMS)
def test_language_side_single(system, i, tiny, close) -> None:
    g, model = tiny.g[f"expected_{system}"], tiny.models[system]
    embeds = list(speech_embeds(tiny, f"item{i}"))
    reading = assemble(model.embedding(), [tiny.prompts[system][i]], embeds)
    check_language_side(model, reading, lambda name: g[f"item{i}.{name}"][None], close)


@pytest.mark.parametrize("system", ["s2", "st1"])
def test_language_side_published_batch(system, tiny, close) -> None:
    g, model = tiny.g[f"expected_{system}"], tiny.models[system]
    pad = model.embedding()(torch.tensor(tiny.pad))
    embeds = list(speech_embeds(tiny, "batch"))
    reading = assemble(model.embedding(), tiny.prompts[system], embeds, "segments", pad)
    check_language_side(model, reading, lambda name: g[f"batch.{name}"], close)


@pytest.mark.parametrize("system", ["s2", "st1"])
def test_a_batch_gives_the_published_single_results(system, tiny, close, monkeypatch) -> None:
    """From waves to scores, all at once; only the stored mel features are taken as they are."""
    encoders = AudioEncoders(tiny.encoders.whisper, tiny.encoders.beats, tiny.encoders.place)
    mel = torch.stack([tiny.g["inputs"][f"item{i}.mel"].float() for i in ITEMS])
    monkeypatch.setattr(encoders, "mel", lambda waves: mel)
    features = encoders.encode([wave.numpy() for wave in tiny.waves])
    found = tiny.models[system](features, tiny.prompts[system])
    expected = [tiny.g[f"expected_{system}"][f"item{i}.logits"] for i in ITEMS]
    close(found, torch.stack(expected), 5e-5)


@pytest.mark.parametrize(
    ("width", "inner", "layers", "parameters", "keys"),
    [(4096, 11_008, 32, 30_186_240, 233), (5120, 13_824, 40, 33_332_992, 273)],
    ids=["7B", "13B"],
)
def test_full_size_has_the_published_parameters_and_keys(
    width: int, inner: int, layers: int, parameters: int, keys: int
) -> None:
    config = LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, vocab_size=32_001
    )
    with torch.device("meta"):
        adapter = SpeechAdapter(1280, 768, QFormerConfig(), width)
        llm = LlamaModel(config)
        add_lora(llm, rank=8)
        module = QFormer(QFormerConfig())
    assert sum(p.numel() for p in module.parameters()) == 22_837_248
    assert len(module.state_dict()) + 1 == 55  # and a buffer that nothing reads
    trained = [*adapter.parameters(), *lora_tensors(llm).values()]
    assert sum(p.numel() for p in trained) == parameters
    # The file has three things more: a position buffer, one rotary buffer a layer, and 11 copies
    # of BEATs' bias table.
    assert len(trained) + 1 + layers + 11 == keys


def test_only_the_last_segments_are_remembered_each_by_itself(tiny, monkeypatch) -> None:
    monkeypatch.setattr(audio_encoders, "CACHED_SEGMENTS", 2)
    encoders = AudioEncoders(tiny.encoders.whisper, tiny.encoders.beats, tiny.encoders.place)
    waves = [wave.numpy() for wave in tiny.waves]
    features = encoders.encode(waves)
    assert list(encoders._known.values()) == features[1:]
    for kept in features:
        for tensor in (kept.speech, kept.audio):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_windows_do_not_overlap_and_drop_the_rest() -> None:
    frames = torch.arange(2 * 1500.0).reshape(2, 1500, 1)
    cut = windows(frames)
    assert cut.shape == (176, 17, 1)
    assert torch.equal(cut[:88].flatten(), frames[0, :1496].flatten())
    assert cut[88, 0] == 1500
