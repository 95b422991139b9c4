"""Any pre-trained encoder of audio or text, by folder or name on the Hub: frames and their mask.

    WavLM, HuBERT, wav2vec 2.0                        waves; 50 frames a second
    Whisper                                           log-mel of `max_s`; 50 frames a second
    embedded                                          two lower layers of Whisper tiny; the same
    RoBERTa, DeBERTa, ModernBERT, BERT, E5, T5 ...    one frame a token

The frames of an item do not depend on the rest of its batch. L layers: with learned weights an
encoder returns all of them, [B, T, L, d], and the network (`fusion.py`) weighs them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from abhinaya.models.asr import carrier
from abhinaya.models.base import SAMPLE_RATE, FloatArray
from abhinaya.models.checkpoint import check_finite
from abhinaya.models.errors import KeysError, OptionsError, WriteError, listed
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.published.audio_encoders import load_whisper_encoder
from abhinaya.models.published.specs import EMBEDDED, EncoderSpec
from abhinaya.models.published.trained_parts import choose_trained
from abhinaya.models.published.voting_batch import padded, valid
from abhinaya.models.published.wavlm import SHORTEST, WaveNorm
from abhinaya.models.tiny import encoder as tiny

Rows = Sequence[FloatArray] | Sequence[str]
"""Waves [n] of 16 kHz, or texts."""
FRAME: Final = 320
"""Samples of a frame of 20 ms."""
_MEL_HOP: Final = 160
_UNUSED: Final = ("pooler.", "masked_spec_embed")
"""Weights that frames do not need; a checkpoint may lack them."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Features of a batch."""

    x: Tensor
    """[B, T, d], or [B, T, L, d] with learned layer weights."""
    valid: Tensor
    """[B, T], True on frames that are not padding; each row has one at least."""


class Reader(Protocol):
    """Makes the inputs of one family of models."""

    def prepare(self, rows: Any) -> tuple[Tensor, Tensor]:
        """Return padded inputs and their lengths [B]."""
        ...

    def arguments(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the model's arguments."""
        ...

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the number of frames [B]."""
        ...


class Encoder(nn.Module):
    """A pre-trained encoder. `alone`: padding would change its frames, so rows run one by one."""

    def __init__(
        self, spec: EncoderSpec, model: nn.Module, reader: Reader, alone: bool = False
    ) -> None:
        super().__init__()
        self.spec, self.model, self.reader, self._alone = spec, model, reader, alone
        self.config: Any = model.config

    @property
    def width(self) -> int:
        """Width d of a frame."""
        return int(getattr(self.config, "d_model", 0) or self.config.hidden_size)

    @property
    def levels(self) -> int:
        """Number L of layers to weigh; 0 if a frame is of one layer or of a fixed sum."""
        return 0 if self.spec.last else int(self.config.num_hidden_layers) + 1

    @property
    def shortest(self) -> int:
        """Fewest samples that it can encode; in training, runs of some frames are masked."""
        if not isinstance(self.reader, _Waves):
            return 0
        masked = getattr(self.config, "apply_spec_augment", False) and not self.spec.frozen
        return (int(self.config.mask_time_length) + 2) * FRAME if masked else SHORTEST

    def forward(self, x: Tensor, lengths: Tensor) -> Frames:
        """Encode what the reader has prepared."""
        if self._alone and len(x) > 1:
            rows = [
                self._layers(x[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths)
            ]
            hidden = nn.utils.rnn.pad_sequence([row[0] for row in rows], batch_first=True)
        else:
            hidden = self._layers(x, lengths)
        frames = self.reader.frames(lengths).clamp(1, hidden.shape[1])
        return Frames(hidden, valid(frames, hidden.shape[1]))

    def _layers(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the layer, the sum or the stack of layers that is asked for."""
        inputs: Any = self.reader.arguments(x, lengths)
        if self.spec.last == 1:
            return cast("Tensor", self.model(**inputs).last_hidden_state)
        out: Any = self.model(**inputs, output_hidden_states=True)
        # Models differ in whether the last hidden state has passed their final LayerNorm.
        every = [*out.hidden_states[:-1], out.last_hidden_state]
        last = self.spec.last
        return torch.stack(every[-last:]).sum(0) if last else torch.stack(every, dim=2)

    def save(self, folder: Path) -> None:
        """Write config and tokenizer: all but the weights.

        Raises:
            WriteError: a file cannot be written.

        """
        try:
            self.config.save_pretrained(folder)
            if isinstance(self.reader, _Tokens):
                self.reader.tokenizer.save_pretrained(folder)
        except OSError as error:
            raise WriteError(folder, f"cannot be written ({error})", "make room") from error


def files_of(spec: EncoderSpec) -> Path:
    """Return the folder of an encoder's files."""
    return carrier.find("tiny.en") if spec.name == EMBEDDED else locate(spec.name)


def rows_of(encoder: Encoder, samples: Sequence[FloatArray], texts: Sequence[str]) -> Rows:
    """Return what an encoder reads: the waves, cut to its longest, or the texts."""
    longest = round(encoder.spec.max_s * SAMPLE_RATE)
    return texts if encoder.spec.modality == "text" else [wave[:longest] for wave in samples]


@torch.no_grad()
def frames_of(encoder: Encoder, rows: Rows, device: torch.device) -> list[Tensor]:
    """Return the frames [T, d] or [T, L, d] of each wave or text, in float32, without padding."""
    x, n = encoder.reader.prepare(rows)
    found: Frames = encoder(x.to(device), n.to(device))
    return [x[mask].float() for x, mask in zip(found.x, found.valid, strict=True)]


def load_encoder(spec: EncoderSpec, norm: WaveNorm, weights: bool = True) -> Encoder:
    """Load an encoder, ready to be trained as its spec says; in evaluation mode.

    Without `weights` they are random: a checkpoint fills them. `norm` applies to waves.

    Raises:
        ModelError: it is missing, damaged, of another kind, or has no such layer or module.

    """
    if spec.name == EMBEDDED:
        return _embedded(spec)
    folder = files_of(spec)
    with translated(spec.name):
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    whisper = config.model_type == "whisper"
    text = hasattr(config, "vocab_size") and not whisper and not hasattr(config, "conv_dim")
    if text != (spec.modality == "text"):
        raise OptionsError(
            spec.name, f"it does not read {spec.modality}", "set modality of this encoder"
        )
    if spec.last != 1:  # a layer that is dropped at random has no output
        config.layerdrop = 0.0
    if whisper:
        encoder = _whisper(spec, config, weights)
    else:
        model = _model(spec.name, folder, config, text, weights)
        encoder = _text(spec, model, folder) if text else _wave(spec, model, norm)
    if weights:
        used = {k: t for k, t in encoder.model.state_dict().items() if not k.endswith(_UNUSED)}
        check_finite(used, spec.name)
    choose_trained(spec, encoder.model, str(config.model_type))
    return encoder.eval()


def _model(name: str, folder: Path, config: Any, text: bool, weights: bool) -> Any:
    mapped = type(config) in cast("Any", AutoModelForTextEncoding)._model_mapping
    auto: Any = AutoModelForTextEncoding if text and mapped else AutoModel  # T5 without decoder
    with translated(name):
        if not weights:
            model = auto.from_config(config, trust_remote_code=False)
        else:
            model, info = auto.from_pretrained(
                folder,
                config=config,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
            lost = [k for k in info["missing_keys"] if not k.startswith(_UNUSED)]
            if lost:
                raise KeysError(name, f"weights are missing: {listed(lost)}", "download it again")
    if hasattr(model, "pooler"):
        model.pooler = None
    return model


# --- families -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Waves:
    model: Any
    norm: WaveNorm

    def prepare(self, rows: Sequence[FloatArray]) -> tuple[Tensor, Tensor]:
        return padded([self.norm(torch.tensor(wave)) for wave in rows])

    def arguments(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        x = x.to(next(self.model.parameters()).dtype)
        whole = len(x) == 1 or bool((lengths == x.shape[1]).all())
        mask = {} if whole else {"attention_mask": valid(lengths, x.shape[1]).long()}
        return {"input_values": x, **mask}

    def frames(self, lengths: Tensor) -> Tensor:
        return cast("Tensor", self.model._get_feat_extract_output_lengths(lengths))


def _wave(spec: EncoderSpec, model: Any, norm: WaveNorm) -> Encoder:
    chosen = norm if spec.normalise == "global" else WaveNorm(cast("Any", spec.normalise))
    # Group norm averages over the whole padded row.
    alone = model.config.feat_extract_norm != "layer"
    return Encoder(spec, model, _Waves(model, chosen), alone)


@dataclass(frozen=True, slots=True)
class _Mel:
    model: WhisperEncoder
    extractor: Any
    """Pads to the window, or cuts to it; silence is part of Whisper's input."""

    def prepare(self, rows: Sequence[FloatArray]) -> tuple[Tensor, Tensor]:
        # One by one: on a CPU the spectra of several waves do not fit into its caches.
        made = [self.extractor(r, sampling_rate=SAMPLE_RATE, return_tensors="pt") for r in rows]
        samples = [min(len(row), self.extractor.n_samples) for row in rows]
        return torch.cat([m["input_features"] for m in made]), torch.tensor(samples)

    def arguments(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        return {"input_features": x.to(self.model.conv1.weight.dtype)}

    def frames(self, lengths: Tensor) -> Tensor:
        return torch.div(lengths // _MEL_HOP - 1, 2, rounding_mode="floor") + 1


def _whisper(spec: EncoderSpec, config: Any, weights: bool) -> Encoder:
    window_s = math.ceil(spec.max_s)
    positions = window_s * SAMPLE_RATE // FRAME
    model = load_whisper_encoder(spec.name) if weights else WhisperEncoder(config)
    if positions > (have := int(model.config.max_source_positions)):
        raise OptionsError(
            f"max_s = {spec.max_s:g}",
            f"the window of {spec.name} is {have * FRAME / SAMPLE_RATE:g} s",
            "lower max_s of this encoder",
        )
    table = model.embed_positions.weight[:positions].detach()
    model.embed_positions = nn.Embedding(positions, table.shape[1], _weight=table.clone())
    model.config.max_source_positions = model.max_source_positions = positions
    extractor: Any = WhisperFeatureExtractor
    mel = extractor(feature_size=model.config.num_mel_bins, chunk_length=window_s)
    return Encoder(spec, model, _Mel(model, mel))


@dataclass(frozen=True, slots=True)
class _Tokens:
    tokenizer: Any
    longest: int
    padding: int

    def prepare(self, rows: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokenise; names of special tokens in a text are ordinary text."""
        made = self.tokenizer(
            list(rows), truncation=True, max_length=self.longest, split_special_tokens=True
        )
        return padded([torch.tensor(ids or [self.padding]) for ids in made.input_ids])

    def arguments(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        mask = valid(lengths, x.shape[1])
        return {"input_ids": x.masked_fill(~mask, self.padding), "attention_mask": mask.long()}

    def frames(self, lengths: Tensor) -> Tensor:
        return lengths


def _text(spec: EncoderSpec, model: Any, folder: Path) -> Encoder:
    auto: Any = AutoTokenizer
    with translated(spec.name):
        tokenizer = auto.from_pretrained(folder, trust_remote_code=False)
    padding = getattr(model.config, "pad_token_id", None)
    longest = min(spec.max_tokens, int(tokenizer.model_max_length))
    return Encoder(spec, model, _Tokens(tokenizer, longest, padding or 0))


class _Lower(nn.Module):
    """The embedded encoder as a model of transformers."""

    def __init__(self, files: Path) -> None:
        super().__init__()
        self.encoder = tiny.shared(files)
        self.config = SimpleNamespace(
            hidden_size=tiny.WIDTH, num_hidden_layers=len(tiny.LEVELS) - 1, model_type=EMBEDDED
        )

    def forward(self, x: Tensor, lengths: Tensor, output_hidden_states: bool = True) -> Any:
        rows = [wave[: int(n)].cpu().float().numpy() for wave, n in zip(x, lengths, strict=True)]
        made = [torch.from_numpy(self.encoder.encode(row)).movedim(0, 1) for row in rows]
        levels = nn.utils.rnn.pad_sequence(made, batch_first=True).to(x.device).unbind(2)
        return SimpleNamespace(hidden_states=levels, last_hidden_state=levels[-1])


class _Samples:
    def prepare(self, rows: Sequence[FloatArray]) -> tuple[Tensor, Tensor]:
        return padded([torch.tensor(wave) for wave in rows])

    def arguments(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        return {"x": x, "lengths": lengths}

    def frames(self, lengths: Tensor) -> Tensor:
        return torch.div(lengths + FRAME - 1, FRAME, rounding_mode="floor")


def _embedded(spec: EncoderSpec) -> Encoder:
    return Encoder(spec, _Lower(files_of(spec)), _Samples()).eval()
