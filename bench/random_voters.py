"""Voters with random weights, for `abhinaya bench models`.

They process a batch like real voters, from samples to probabilities. Their weights and transcripts
are random: four tokens for each second of speech.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, LlamaConfig, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from abhinaya.models.base import SAMPLE_RATE, FloatArray
from abhinaya.models.inference import Place, moved
from abhinaya.models.published.audio_encoders import LONGEST, AudioEncoders
from abhinaya.models.published.beats import Beats, BeatsConfig
from abhinaya.models.published.heads import LanguageHead
from abhinaya.models.published.llama import LlamaClassifier
from abhinaya.models.published.lora import add_lora, merge_lora
from abhinaya.models.published.qformer import QFormerConfig
from abhinaya.models.published.salmonn import Prompt, Salmonn, SpeechAdapter
from abhinaya.models.published.voting_batch import padded, valid
from abhinaya.models.published.wavlm import S1, WAVLM_LARGE, S1Config

Scale = Literal["tiny", "real", "layer"]
"""`layer`: of real size, but each part has one layer, and the language model few words."""
Batch = Sequence[FloatArray]
"""Waves [n] at 16 kHz."""

TOKENS_A_SECOND: Final = 4
BEFORE, AFTER, TEXT = 8, 18, 16
"""Number of tokens of SALMONN's prompt: before the speech, after it, and the question."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of all models."""

    wavlm: Mapping[str, Any]
    whisper: Mapping[str, Any]
    beats: BeatsConfig
    qformer: Mapping[str, Any]
    llama_8b: Mapping[str, Any]
    vicuna_7b: Mapping[str, Any]
    vicuna_13b: Mapping[str, Any]
    hidden: int
    """Hidden width of the heads."""


_LLAMA: Final = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_WHISPER: Final = ("d_model", "encoder_ffn_dim", "encoder_layers", "encoder_attention_heads")


def _llama(*sizes: int, **more: Any) -> dict[str, Any]:
    """Return the sizes of a transformer by the names that Llama and WavLM have for them."""
    return {**dict(zip(_LLAMA, sizes, strict=True)), **more}


def _whisper(*sizes: int) -> dict[str, Any]:
    return {**dict(zip(_WHISPER, sizes, strict=True)), "num_mel_bins": 80}


REAL: Final = Sizes(
    wavlm=WAVLM_LARGE,
    whisper=_whisper(1280, 5120, 32, 20),
    beats=BeatsConfig(),
    qformer={},
    llama_8b=_llama(4096, 14336, 32, 32, num_key_value_heads=8, vocab_size=128_256),
    vicuna_7b=_llama(4096, 11008, 32, 32, vocab_size=32_001),
    vicuna_13b=_llama(5120, 13824, 40, 40, vocab_size=32_001),
    hidden=1024,
)
TINY: Final = Sizes(
    wavlm=_llama(24, 32, 2, 2, conv_dim=[8] * 7, num_conv_pos_embedding_groups=4)
    | {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    whisper=_whisper(16, 24, 1, 2),
    beats=BeatsConfig(
        embed_dim=16, encoder_layers=2, encoder_embed_dim=24, encoder_ffn_embed_dim=32,
        encoder_attention_heads=2, conv_pos_groups=4,
    ),
    qformer={"hidden_size": 24, "intermediate_size": 32},
    llama_8b=_llama(32, 48, 2, 4, vocab_size=300),
    vicuna_7b=_llama(32, 48, 2, 4, vocab_size=300),
    vicuna_13b=_llama(40, 48, 2, 4, vocab_size=300),
    hidden=16,
)  # fmt: skip
_CUT: Final = {"num_hidden_layers": 1, "encoder_layers": 1, "vocab_size": 300}
_ONE: Final[Any] = {
    name: {key: _CUT.get(key, value) for key, value in getattr(REAL, name).items()}
    for name in ("wavlm", "whisper", "llama_8b", "vicuna_7b", "vicuna_13b")
}
LAYER: Final = replace(REAL, beats=replace(REAL.beats, encoder_layers=1), **_ONE)


@dataclass(frozen=True, slots=True)
class RandomVoter:
    """A voter, or several that run one after the other on the same segments."""

    name: str
    run: Callable[[Batch], Tensor]
    """Function from waves to probabilities [B, C] on the CPU."""
    parts: Mapping[str, nn.Module]
    window_s: float | None = None
    """Length to which every segment is padded; None: the longest of its batch."""


class RandomVoters:
    """Builds voters; S2 and ST1 share their encoders, as in one process."""

    def __init__(self, scale: Scale, place: Place, merge: bool = False) -> None:
        self._sizes = {"tiny": TINY, "real": REAL, "layer": LAYER}[scale]
        self._place, self._merge = place, merge
        self._encoders: AudioEncoders | None = None

    def build(self, name: str) -> RandomVoter:
        """Return S1, S2, T2 or ST1, or several with `+` between them, as one voter."""
        if "+" in name:
            voters = [self.build(part) for part in name.split("+")]
            parts = {f"{v.name} {part}": module for v in voters for part, module in v.parts.items()}
            return RandomVoter(name, lambda batch: [v.run(batch) for v in voters][-1], parts)
        builders: dict[str, Callable[[], RandomVoter]] = {
            "S1": self._s1,
            "S2": partial(self._salmonn, "S2", self._sizes.vicuna_13b, transcript=False),
            "T2": self._t2,
            "ST1": partial(self._salmonn, "ST1", self._sizes.vicuna_7b, transcript=True),
        }
        with torch.device(self._place.device):
            voter = builders[name]()
        for module in voter.parts.values():
            module.requires_grad_(False)
        return voter

    def _s1(self) -> RandomVoter:
        model = S1(S1Config(self._sizes.wavlm, hidden=self._sizes.hidden)).eval()
        nn.Module.to(model.wavlm_model, self._place.device, self._place.dtype)

        def run(batch: Batch) -> Tensor:
            with torch.device("cpu"):
                return model.score(batch, self._place).softmax(-1).cpu()

        return RandomVoter("S1", run, {"WavLM": model.wavlm_model, "head": model.head})

    def _t2(self) -> RandomVoter:
        body = self._llm(self._sizes.llama_8b)
        model = LlamaClassifier(body, self._head(body)).eval()
        words = self._sizes.llama_8b["vocab_size"]

        def run(batch: Batch) -> Tensor:
            ids, lengths = padded([torch.tensor(_tokens(wave, words)) for wave in batch])
            mask = valid(lengths, ids.shape[1])
            scores: Tensor = model(moved(ids, self._place), moved(mask, self._place))
            return scores.softmax(-1).cpu()

        return RandomVoter("T2", run, {"LLM": body, "head": model.head})

    def _salmonn(self, name: str, llm: Mapping[str, Any], *, transcript: bool) -> RandomVoter:
        encoders = self._shared_encoders()
        qformer = QFormerConfig(encoder_width=sum(encoders.widths), **self._sizes.qformer)
        bridge = SpeechAdapter(*encoders.widths, qformer, llm["hidden_size"])
        bridge.to(self._place.device, self._place.dtype)
        body = self._llm(llm)
        model = Salmonn(bridge, body, self._head(body)).eval()

        def run(batch: Batch) -> Tensor:
            words = [_tokens(wave, llm["vocab_size"]) if transcript else () for wave in batch]
            prompts = [Prompt((1,) * BEFORE, (2,) * AFTER, (3,) * TEXT + ids) for ids in words]
            scores: Tensor = model(encoders.encode(batch), prompts)
            return scores.softmax(-1).cpu()

        parts = {"Whisper": encoders.whisper, "BEATs": encoders.beats, "Q-Former": bridge}
        parts |= {"LLM": body, "head": model.head}
        return RandomVoter(name, run, parts, LONGEST / SAMPLE_RATE)

    def _shared_encoders(self) -> AudioEncoders:
        if self._encoders is None:
            config: Any = WhisperConfig
            attention = self._place.attention_of_transformers
            made = config(**self._sizes.whisper, attn_implementation=attention)
            whisper = WhisperEncoder(made)
            self._encoders = AudioEncoders(whisper, Beats(self._sizes.beats), self._place)
        return self._encoders

    def _llm(self, fields: Mapping[str, Any]) -> Any:
        auto: Any = AutoModel
        body = auto.from_config(
            LlamaConfig(**fields),
            dtype=self._place.dtype,
            attn_implementation=self._place.attention_of_transformers,
        )
        add_lora(body, rank=8)
        if self._merge:
            merge_lora(body)
        return nn.Module.to(body, self._place.device, self._place.dtype).eval()

    def _head(self, body: Any) -> LanguageHead:
        head = LanguageHead(body.config.hidden_size, self._sizes.hidden)
        return head.to(self._place.device).eval()


def waves(lengths_s: Sequence[float], seed: int | Sequence[int]) -> list[FloatArray]:
    """Return noise of these lengths; a new seed makes noise that is not in the encoders' cache."""
    rng = np.random.default_rng(seed)
    sizes = [round(seconds * SAMPLE_RATE) for seconds in lengths_s]
    return [(0.05 * rng.standard_normal(size)).astype(np.float32) for size in sizes]


def _tokens(wave: FloatArray, words: int) -> tuple[int, ...]:
    count = max(1, TOKENS_A_SECOND * len(wave) // SAMPLE_RATE)
    return tuple(np.random.default_rng(len(wave)).integers(3, words, count).tolist())
