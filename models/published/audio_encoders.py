"""Whisper's encoder and BEATs, frozen: one copy for every SALMONN of a process.

S2 and ST1 encode the same segment with the same two encoders, which cost more than their own
adapters. So `shared` returns one object for the same files, and the object caches the features of
the latest segments, by content.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from abhinaya.models.base import SAMPLE_RATE, FloatArray
from abhinaya.models.checkpoint import fill, read
from abhinaya.models.errors import KeysError
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.inference import Place, compile_if_asked, moved
from abhinaya.models.published.beats import Beats, BeatsConfig, filter_bank, token_count
from abhinaya.models.published.feature_cache import FeatureCache, features_of, item_key
from abhinaya.models.published.voting_batch import padded, valid

LONGEST: Final = 30 * SAMPLE_RATE
"""Whisper's window, in samples; the rest of a longer segment is ignored."""
WHISPER_FILES: Final = ["config.json", "model*.safetensors*"]
CACHED_SEGMENTS: Final = 32
"""Segments in the cache, about 5 MB each in bfloat16 at full size."""

# Copies of the first layer's table, stored for every later layer; `_check_aliases` compares them.
_ALIAS: Final = r"encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight"
_AUDIOSET: Final = r"predictor\.(weight|bias)"


@dataclass(frozen=True, slots=True)
class AudioFeatures:
    """Features of one wave."""

    speech: Tensor
    """[1500, d] Whisper's frames of 20 ms, padded to 30 s."""
    audio: Tensor
    """[T, D] BEATs' tokens, without padding."""
    samples: int


class AudioEncoders:
    """The two encoders, in eval mode, without gradients."""

    def __init__(self, whisper: WhisperEncoder, beats: Beats, place: Place) -> None:
        self.place = place
        for encoder in (whisper, beats):
            nn.Module.to(encoder, place.device, place.dtype).eval().requires_grad_(False)
        compile_if_asked(place, whisper, beats)
        self.whisper, self.beats = whisper, beats
        extractor: Any = WhisperFeatureExtractor
        self._mel = extractor(feature_size=whisper.config.num_mel_bins)
        self._known: OrderedDict[bytes, AudioFeatures] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def widths(self) -> tuple[int, int]:
        """Widths of Whisper's and of BEATs' features: d and D."""
        return int(self.whisper.config.d_model), self.beats.config.encoder_embed_dim

    def encode(self, waves: Sequence[FloatArray]) -> list[AudioFeatures]:
        """Encode waves [n] of 16 kHz; the result for a wave does not depend on the others."""
        keys = [hashlib.blake2b(wave.tobytes(), digest_size=16).digest() for wave in waves]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
            fresh = {k: w for k, w in zip(keys, waves, strict=True) if k not in found}
            if fresh:
                found |= zip(fresh, self._encode(list(fresh.values())), strict=True)
            for key in keys:
                self._known[key] = found[key]
                self._known.move_to_end(key)
            while len(self._known) > CACHED_SEGMENTS:
                self._known.popitem(last=False)
        return [found[key] for key in keys]

    def stored(
        self, cache: FeatureCache | None, key: str, clips: Sequence[tuple[str, FloatArray, bool]]
    ) -> list[AudioFeatures]:
        """Return the features of clips: those in the cache, and the others by `encode`.

        A clip is its name, its wave [n], and whether its features are worth storing. `key` is the
        `model_key` of these encoders.

        Raises:
            RunError: features hold values that are not numbers; the message has the name.

        """

        def compute(missing: list[int]) -> list[dict[str, Tensor]]:
            made = self.encode([clips[i][1] for i in missing])
            return [{"speech": f.speech, "audio": f.audio} for f in made]

        keys = [item_key(key, wave) if keep else "" for _, wave, keep in clips]
        found = features_of(cache, [name for name, *_ in clips], keys, compute)
        here = self.place.device
        return [
            AudioFeatures(f["speech"].to(here), f["audio"].to(here), min(len(wave), LONGEST))
            for f, (_, wave, _) in zip(found, clips, strict=True)
        ]

    @torch.no_grad()
    def _encode(self, waves: list[FloatArray]) -> list[AudioFeatures]:
        waves = [wave[:LONGEST] for wave in waves]
        speech = self.speech(self.mel(waves))
        batch, lengths = padded([torch.tensor(wave) for wave in waves])
        counts = torch.tensor([token_count(int(n)) for n in lengths])
        bank = filter_bank(moved(batch, self.place))
        audio = self.beats(bank, moved(~valid(counts, int(counts.max())), self.place))
        # Copies: a cached view would keep the whole batch in memory.
        return [
            AudioFeatures(speech[i].clone(), audio[i, : int(counts[i])].clone(), int(lengths[i]))
            for i in range(len(waves))
        ]

    def mel(self, waves: Sequence[FloatArray]) -> Tensor:
        """Return Whisper's input [B, mels, 3000], padded to 30 s."""
        # On a CPU one by one: the spectra of several waves do not fit into its caches.
        together = len(waves) if self.place.device.type == "cuda" else 1
        made = [
            self._mel(
                list(waves[start : start + together]),
                sampling_rate=SAMPLE_RATE,
                return_tensors="pt",
                device=str(self.place.device),
            )["input_features"]
            for start in range(0, len(waves), together)
        ]
        return torch.cat(made)

    def speech(self, mel: Tensor) -> Tensor:
        """Run Whisper's encoder: [B, mels, 3000] -> [B, 1500, d]."""
        out: Tensor = self.whisper(mel.to(self.place.device, self.place.dtype)).last_hidden_state
        return out


def load_beats(path: str) -> Beats:
    """Load a BEATs file, as published or converted.

    Raises:
        ModelError: the file is missing, damaged, or of another kind.

    """
    checkpoint = read(locate(path))
    if not isinstance(cfg := checkpoint.extra.get("cfg"), dict):
        raise KeysError(
            path,
            "it carries no cfg, so its sizes are not known",
            "use the published BEATs file, or one converted from it",
        )
    beats = Beats(BeatsConfig.read(cfg, path))
    _check_aliases(checkpoint.tensors, path)
    fill(beats, checkpoint.tensors, path, ignored=(_ALIAS, _AUDIOSET))
    return beats


def _check_aliases(tensors: dict[str, Tensor], path: str) -> None:
    name = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    first = tensors.get(name.format(0))
    layer = 1
    while first is not None and (other := tensors.get(name.format(layer))) is not None:
        if not torch.equal(first, other):
            raise KeysError(
                path,
                f"layer {layer} has a relative position table of its own, not the first layer's",
                "use the published BEATs file",
            )
        layer += 1


def load_whisper_encoder(name: str, attention: str | None = None) -> WhisperEncoder:
    """Load only the encoder of a Whisper checkpoint: a folder or a name on the Hub.

    `attention` is the name of transformers' attention code; None: its default.

    Raises:
        ModelError: the checkpoint is missing, damaged, or not a Whisper.

    """
    folder = locate(name, WHISPER_FILES)
    with translated(name):
        config: Any = WhisperConfig.from_pretrained(folder, attn_implementation=attention)
        encoder = WhisperEncoder(config)
    for prefix in ("model.encoder.", "encoder."):
        if tensors := read(folder, prefix).tensors:
            break
    fill(encoder, tensors, name, remedy="use a Whisper checkpoint")
    return encoder


_shared: Final[WeakValueDictionary[tuple[Path, Path, Place], AudioEncoders]] = WeakValueDictionary()
_loading: Final = threading.Lock()


def shared(whisper: str, beats: str, place: Place) -> AudioEncoders:
    """Return the encoders of these files; load them if this process has not yet.

    Raises:
        ModelError: an encoder cannot be loaded.

    """
    key = (Path(whisper).absolute(), Path(beats).absolute(), place)
    with _loading:
        encoders = _shared.get(key)
        if encoders is None:
            encoder = load_whisper_encoder(whisper, place.attention_of_transformers)
            encoders = AudioEncoders(encoder, load_beats(beats), place)
            _shared[key] = encoders
        return encoders
