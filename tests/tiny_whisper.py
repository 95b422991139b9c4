"""A Whisper of one tiny layer with random weights and the real special tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from abhinaya.models.asr import Hearing
from abhinaya.models.asr.guards import OFF

LOOSE = dict(OFF)
OPTIONS = {"device": "cpu", "max_new_tokens": 8, "guards": LOOSE}
"""Random weights say what nobody would believe."""


def whisper_folder(path: Path) -> Path:
    """Build it as a CTranslate2 folder."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import tokenizers
    from ctranslate2.converters import TransformersConverter
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    byte_level = tokenizers.pre_tokenizers.ByteLevel
    vocabulary = {token: i for i, token in enumerate(sorted(byte_level.alphabet()))}
    for i in range(len(vocabulary), 50_257):
        vocabulary[f"Ġw{i}"] = i
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *_LANGUAGE_CODES[:99], "translate", "transcribe"]
    names += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    tokenizer.add_special_tokens([tokenizers.AddedToken(f"<|{n}|>", special=True) for n in names])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(path / "hf")

    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            vocab_size=51_865,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            init_std=0.5,
        )
    )
    model.generation_config.suppress_tokens = list(range(50_258, 51_865))
    model.generation_config.begin_suppress_tokens = [50_257]
    model.save_pretrained(path / "hf")
    converter = TransformersConverter(str(path / "hf"), copy_files=["tokenizer.json"])
    converter.convert(str(path / "ct2"))
    config = json.loads((path / "ct2" / "config.json").read_text())
    config["alignment_heads"] = [[0, 0], [0, 1]]
    (path / "ct2" / "config.json").write_text(json.dumps(config))
    return path / "ct2"


def noises() -> list[np.ndarray]:
    """Give segments of several lengths and levels."""
    noise = np.random.default_rng(0)
    return [
        (noise.standard_normal(n) * scale).astype(np.float32)
        for n, scale in ((16_000, 0.1), (80_000, 0.5), (159_999, 0.02), (4_000, 1.0))
    ]


def hear(transcriber, segments):
    """Transcribe whole segments."""
    return transcriber.transcribe([Hearing(samples) for samples in segments])
