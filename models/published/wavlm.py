"""S1: WavLM encodes a wave, and a head scores its frames.

    wave [B, n] -> WavLM's last layer [B, T, D], 50 frames a second -> head [B, C]

Two layouts of checkpoints, each a folder with config.json and its weights:

    ours      wavlm_model.*, pool.*, fc.*, ln.*, out.*: names of the published S1
    baseline  ssl_model.*, pool_model.*, ser_model.*: names of the MSP-Podcast challenge, as in
              3loi/SER-Odyssey-Baseline-WavLM-Categorical and -Multi-Attributes, whose code is not
              run
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import torch
from torch import Tensor, nn
from transformers import WavLMConfig, WavLMModel

from abhinaya.models.base import SAMPLE_RATE, Card, FloatArray, Utterance
from abhinaya.models.checkpoint import Tensors, fill, read, renamed, save
from abhinaya.models.errors import (
    DamagedFileError,
    KeysError,
    MissingFileError,
    OptionsError,
    WriteError,
)
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.inference import Place, compile_if_asked, moved, place, warm_up, weigh
from abhinaya.models.labels import LABELS, label_map
from abhinaya.models.published.heads import BASELINE_NAMES, Pool, SpeechHead
from abhinaya.models.published.voting_batch import (
    Answer,
    answers,
    padded,
    serve,
    unfit_audio,
    valid,
)

SHORTEST: Final = 400
"""Samples of one WavLM frame."""

WAVLM_LARGE: Final[Mapping[str, Any]] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": False,
}
"""Fields in which microsoft/wavlm-large differs from WavLMConfig's defaults."""

_HEAD_NAMES: Final = {name: f"head.{name}" for name in ("pool.", "fc.", "ln.", "out.")}
_BASELINE_NAMES: Final = {"ssl_model.": "wavlm_model."} | {
    theirs: f"head.{ours}" for theirs, ours in BASELINE_NAMES.items()
}
_CONV: Final = "encoder.pos_conv_embed.conv."
# torch has renamed the positional convolution's weight norm. With the wrong names the convolution
# keeps random values, and most loaders do not report it.
_WEIGHT_NORM: Final = {
    f"wavlm_model.{_CONV}weight_g": f"wavlm_model.{_CONV}parametrizations.weight.original0",
    f"wavlm_model.{_CONV}weight_v": f"wavlm_model.{_CONV}parametrizations.weight.original1",
}
_SPEC_EMBED: Final = "wavlm_model.masked_spec_embed"


@dataclass(frozen=True, slots=True)
class WaveNorm:
    """Scaling of a wave before WavLM, as in the training of the checkpoint."""

    kind: Literal["none", "utterance", "global"] = "none"
    """ABHINAYA: none. WavLM's pretraining: utterance. Challenge baseline: global."""
    mean: float = 0.0
    std: float = 1.0

    def __call__(self, wave: Tensor) -> Tensor:
        """Scale one wave [n] without padding."""
        if self.kind == "global":
            return (wave - self.mean) / (self.std + 1e-6)
        if self.kind == "utterance":
            return (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
        return wave


@dataclass(frozen=True, slots=True)
class S1Config:
    """The config.json of a checkpoint in our layout."""

    wavlm: Mapping[str, Any]
    """Fields of WavLMConfig."""
    pool: Pool = "asp"
    hidden: int = 1024
    labels: tuple[str, ...] = LABELS
    """[K] labels and attributes, in the order of the checkpoint's scores."""
    norm: WaveNorm = WaveNorm()
    linear: bool = False
    """Whether scores of attributes are values from 0 to 1, as the baseline's; else a sigmoid
    follows."""


class S1(nn.Module):
    """WavLM with head."""

    def __init__(self, config: S1Config) -> None:
        super().__init__()
        self.config = config
        self.wavlm_model = WavLMModel(WavLMConfig(**config.wavlm))
        width = self.wavlm_model.config.hidden_size
        self.head = SpeechHead(width, config.hidden, len(config.labels), config.pool)

    def encode(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Encode scaled waves [B, n], zero-padded after `lengths` [B] samples: [B, T, D]."""
        mask = valid(lengths, waves.shape[1]).long()
        waves = waves.to(next(self.wavlm_model.parameters()).dtype)
        out: Tensor = self.wavlm_model(waves, attention_mask=mask).last_hidden_state
        return out

    def frames(self, lengths: Tensor) -> Tensor:
        """Return the number of frames of each wave without padding."""
        model: Any = self.wavlm_model
        return cast("Tensor", model._get_feat_extract_output_lengths(lengths))

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Score scaled waves: [B, C]."""
        hidden = self.encode(waves, lengths)
        scores: Tensor = self.head(hidden, valid(self.frames(lengths), hidden.shape[1]))
        return scores

    def score(self, waves: Sequence[FloatArray], where: Place) -> Tensor:
        """Score waves [n] of 16 kHz: [B, C].

        On a CPU one by one, which is faster: a batch computes its padding, and its activations do
        not fit into the caches.
        """
        together = len(waves) if where.device.type == "cuda" else 1
        parts = [waves[start : start + together] for start in range(0, len(waves), together)]
        prepared = [self.prepare(part) for part in parts]
        return torch.cat([self(moved(w, where), moved(lengths, where)) for w, lengths in prepared])

    def prepare(self, waves: Sequence[FloatArray]) -> tuple[Tensor, Tensor]:
        """Return scaled and padded waves [B, N] and their lengths [B]."""
        return padded([self.config.norm(torch.tensor(wave)) for wave in waves])


def modern_names(tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> Tensors:
    """Return the weights of either layout under S1's names."""
    return renamed(renamed(tensors, prefixes), _WEIGHT_NORM)


def save_s1(
    model: S1,
    folder: Path,
    extra: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint in our layout.

    `extra` holds plain values to store with the weights. `state` replaces the model's own, for a
    model that is spread over devices.

    Raises:
        WriteError: the folder cannot be written.

    """
    back = {ours: theirs for theirs, ours in (_HEAD_NAMES | _WEIGHT_NORM).items()}
    try:
        (folder / "config.json").write_text(json.dumps(asdict(model.config), indent=1), "utf-8")
    except OSError as error:
        raise WriteError(
            folder, f"config.json cannot be written ({error})", "give a folder that can be"
        ) from error
    save(folder / "model.safetensors", renamed(state or model.state_dict(), back), extra)


def load_s1(name: str) -> S1:
    """Load a checkpoint of either layout: a folder or a name on the Hub.

    Raises:
        ModelError: the checkpoint is missing, damaged, of another kind, or does not fit.

    """
    folder = locate(name, ["config.json", "*.safetensors", "pytorch_model*.bin*"])
    fields = _config_file(folder)
    tensors = read(folder).tensors
    if any(key.startswith("ssl_model.") for key in tensors):
        config, prefixes = _baseline_config(fields, tensors, folder), _BASELINE_NAMES
    else:
        config, prefixes = _own_config(fields, folder), _HEAD_NAMES
    with translated(name):
        model = S1(config)
    # Used only in training; files of other versions of transformers may lack it.
    spare = {key: t for key, t in model.state_dict().items() if key == _SPEC_EMBED}
    fill(
        model,
        spare | modern_names(tensors, prefixes),
        name,
        ignored=(re.escape(_SPEC_EMBED),),
        remedy="check that config.json is its own",
    )
    return model.eval()


def _config_file(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        raise MissingFileError(
            folder, "it is not a folder with a config.json", "give the folder of a checkpoint"
        )
    try:
        return cast("dict[str, Any]", json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise DamagedFileError(path, f"it is not JSON ({error})", "download it again") from error


def _own_config(fields: dict[str, Any], folder: Path) -> S1Config:
    try:
        norm = WaveNorm(**fields.pop("norm", {}))
        labels = tuple(fields.pop("labels", LABELS))
        config = S1Config(**fields, norm=norm, labels=labels)
    except TypeError as error:
        raise KeysError(
            folder,
            f"its config.json is of neither layout ({error})",
            "use the voter audio-classification for checkpoints of transformers",
        ) from error
    if config.pool not in ("asp", "attn_mean") or norm.kind not in ("none", "utterance", "global"):
        raise OptionsError(
            folder, f"pool {config.pool!r} or norm {norm.kind!r} is unknown", "correct config.json"
        )
    return config


def _baseline_config(
    fields: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> S1Config:
    needed = ("ssl_type", "id2label", "mean", "std")
    if absent := [key for key in needed if key not in fields]:
        raise KeysError(folder, f"its config.json lacks {', '.join(absent)}", "download it again")
    if (rate := fields.get("sampling_rate", SAMPLE_RATE)) != SAMPLE_RATE:
        raise OptionsError(folder, f"it needs {rate} Hz", f"use one for {SAMPLE_RATE} Hz")
    names = {int(index): label for index, label in fields["id2label"].items()}
    return S1Config(
        wavlm=_wavlm_fields(str(fields["ssl_type"]), folder),
        hidden=len(tensors.get("ser_model.fc.0.0.bias", ())) or 1024,
        labels=tuple(names[index] for index in sorted(names)),
        norm=WaveNorm("global", float(fields["mean"]), float(fields["std"])),
        linear=True,
    )


def _wavlm_fields(name: str, folder: Path) -> Mapping[str, Any]:
    """Return the encoder's config; the baseline's config.json has only the encoder's name."""
    if name.removeprefix("microsoft/") == "wavlm-large":
        return WAVLM_LARGE
    beside = folder / name
    where = beside if beside.exists() else locate(name, ["config.json"])
    with translated(name):
        config: Any = WavLMConfig.from_pretrained(where)
    return cast("Mapping[str, Any]", config.to_diff_dict())


class WavlmVoter:
    """S1 as a voter.

    Options: `checkpoint`, a folder or a name on the Hub; `labels`, the labels of unknown class
    names; `compile`; `licence` and `noncommercial`, as on the checkpoint's page.
    """

    def __init__(
        self,
        checkpoint: str,
        labels: Mapping[str, str] | str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        compile: bool = False,
        licence: str = "the checkpoint's own",
        noncommercial: bool = False,
    ) -> None:
        self._place = place(device, dtype, compile=compile)
        self._model = load_s1(checkpoint).requires_grad_(False)
        self._labels = label_map(self._model.config.labels, checkpoint, labels)
        nn.Module.to(self._model.wavlm_model, self._place.device, self._place.dtype)
        self._model.head.to(self._place.device)
        compile_if_asked(self._place, self._model.wavlm_model)
        size = weigh(self._model)
        self.card = Card(
            model="wavlm",
            version=Path(checkpoint).name,
            needs=frozenset({"audio"}),
            labels=self._labels.labels,
            attributes=bool(self._labels.attributes),
            licence=licence,
            noncommercial=noncommercial,
            sample_rate_hz=SAMPLE_RATE,
            **asdict(size),
        )
        warm_up(self, self._place)

    def vote(self, batch: Sequence[Utterance]) -> list[Answer]:
        """Return one answer for each segment."""
        return serve(batch, lambda u: unfit_audio(u, SHORTEST), self._run, self._labels)

    def _run(self, batch: list[Utterance]) -> Tensor:
        scores = self._model.score([utterance.samples for utterance in batch], self._place)
        return answers(scores, self._labels, self._model.config.linear)
