"""WavLM and a head: S1, the challenge baseline, EMOJUDGE's speech member, and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import WavLMConfig, WavLMModel

from abhinaya.models.checkpoint import Tensors
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.published.heads import Pool
from abhinaya.models.published.wavlm import S1, S1Config, WaveNorm, load_s1, save_s1
from abhinaya.train.learners.base import Example, Inputs, Outputs, only, start_from
from abhinaya.train.recipes.learner_options import WavlmOptions

_SAMPLES_PER_FRAME: Final = 320
_OUT: Final = "head.out"


class WavlmLearner:
    """S1 with gradients."""

    def __init__(self, options: WavlmOptions, outputs: Outputs, norm: WaveNorm, start: str) -> None:
        self._outputs = outputs
        encoder = _encoder(options.encoder)
        config = S1Config(
            wavlm=encoder.config.to_diff_dict(),
            pool=cast("Pool", options.pool),
            hidden=options.hidden,
            labels=outputs.names,
            norm=norm,
        )
        model = S1(config)
        model.wavlm_model.load_state_dict(encoder.state_dict())
        model.head.input_dropout.p = options.input_dropout
        if start:
            found = load_s1(start)
            state, names = found.state_dict(), found.config.labels
            start_from(model, state, names, outputs, _OUT, start)
        self.module = model
        self._frozen = options.trained_layers == 0
        _freeze(model.wavlm_model, options.trained_layers)
        masked = encoder.config.mask_time_length if encoder.config.apply_spec_augment else 0
        self.shortest = (masked + 2) * _SAMPLES_PER_FRAME
        """WavLM masks stretches of that many frames while it learns."""

    def inputs(self, examples: Sequence[Example]) -> Inputs:
        """Scale and pad the waves."""
        waves, lengths = self.module.prepare([e.samples for e in examples])
        return {"waves": waves, "lengths": lengths}

    def scores(self, module: nn.Module, inputs: Inputs) -> Tensor:
        """Score [B, K]."""
        found: Tensor = module(inputs["waves"], inputs["lengths"])
        return found

    def learn(self) -> None:
        """Switch to training; a frozen encoder stays as in use."""
        self.module.train()
        if self._frozen:
            nn.Module.eval(self.module.wavlm_model)

    def save(self, folder: Path, state: Tensors, extra: Mapping[str, Any]) -> None:
        """Write all weights: the voter loads them without another file."""
        kept = self._outputs.kept
        save_s1(
            self.module,
            folder,
            extra,
            only(state, len(kept), _OUT),
            replace(self.module.config, labels=kept),
        )

    def voter(self, folder: Path) -> tuple[str, dict[str, Any]]:
        """Give the registry's name and options."""
        return "wavlm", {"checkpoint": str(folder)}


def _encoder(name: str) -> Any:
    folder = locate(name, ["config.json", "*.safetensors", "pytorch_model*.bin*"])
    model: Any = WavLMModel
    with translated(name):
        config = WavLMConfig.from_pretrained(folder)
        return model.from_pretrained(folder, config=config, dtype=torch.float32)


def _freeze(encoder: Any, layers: int) -> None:
    """Leave trainable the last `layers` of the encoder; -1: all but the convolutions in front."""
    if layers < 0:
        encoder.feature_extractor.requires_grad_(False)
        return
    encoder.requires_grad_(False)
    for layer in encoder.encoder.layers[len(encoder.encoder.layers) - layers :]:
        layer.requires_grad_(True)
