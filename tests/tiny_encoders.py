"""Tiny random encoders of each family, as the Hub has them."""

from __future__ import annotations

from pathlib import Path

from tiny_checkpoints import ROBERTA, WAVLM, save_tokenizer, shaken
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    HubertConfig,
    HubertModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

AUDIO = ("wavlm", "hubert", "wav2vec2", "wav2vec2-group", "whisper")
TEXT = ("roberta", "bert", "deberta", "modernbert", "t5")
_WAVE = {"wavlm": (WavLMConfig, WavLMModel), "hubert": (HubertConfig, HubertModel)}
_WORDS = {
    "roberta": (RobertaConfig, RobertaForMaskedLM),
    "bert": (BertConfig, BertModel),
    "deberta": (DebertaV2Config, DebertaV2Model),
    "modernbert": (ModernBertConfig, ModernBertModel),
}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def save_encoder(kind: str, folder: Path) -> Path:
    """Save one of AUDIO or TEXT with two layers in `folder`/KIND, once."""
    place = folder / kind
    if not place.exists():
        (_audio if kind in AUDIO else _text)(kind, place)
    return place


def _audio(kind: str, place: Path) -> None:
    if kind == "whisper":
        config = WhisperConfig(
            d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, vocab_size=60,
            decoder_start_token_id=1, **_IDS,
        )  # fmt: skip
        shaken(WhisperForConditionalGeneration(config)).save_pretrained(place)
        return
    made, model = _WAVE.get(kind, (Wav2Vec2Config, Wav2Vec2Model))
    norm = "group" if kind.endswith("group") else "layer"
    fields = {**WAVLM, "feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer"}
    shaken(model(made(**fields, mask_time_length=2))).save_pretrained(place)


def _text(kind: str, place: Path) -> None:
    size = save_tokenizer(place, pad_token="<unk>")
    if kind == "t5":
        config = T5Config(
            d_model=24, num_layers=2, num_heads=2, d_ff=32, d_kv=12, vocab_size=size,
            decoder_start_token_id=0, pad_token_id=0, eos_token_id=2,
        )  # fmt: skip
        shaken(T5ForConditionalGeneration(config)).save_pretrained(place)
        return
    made, model = _WORDS[kind]
    more = {"cls_token_id": 1, "sep_token_id": 2} if kind == "modernbert" else {}
    fields = {**ROBERTA, "num_hidden_layers": 2, **_IDS, **more}
    shaken(model(made(**fields, vocab_size=size))).save_pretrained(place)
