"""WavLM with a head, for S1, the challenge baseline, EMOJUDGE's speech voter and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import torch
from transformers import WavLMConfig, WavLMModel

from abhinaya.models.checkpoint import Tensors
from abhinaya.models.hugging_face import locate, translated
from abhinaya.models.published.heads import Pool
from abhinaya.models.published.wavlm import S1, S1Config, WaveNorm, load_s1, save_s1
from abhinaya.train.learners.base import Example, Inputs, Learner, Outputs, ordered, start_from
from abhinaya.train.recipes.learner_options import WavlmOptions

_SAMPLES_PER_FRAME: Final = 320
_OUT: Final = "head.out"


def wavlm_learner(o: WavlmOptions, outputs: Outputs, norm: WaveNorm, start: str) -> Learner:
    """Build a trainable S1. Its checkpoint has all weights, so the voter needs no other file."""
    encoder = _encoder(o.encoder)
    module = S1(
        S1Config(
            wavlm=encoder.config.to_diff_dict(),
            pool=cast("Pool", o.pool),
            hidden=o.hidden,
            labels=outputs.names,
            norm=norm,
        )
    )
    module.wavlm_model.load_state_dict(encoder.state_dict())
    module.head.input_dropout.p = o.input_dropout
    if start:
        found = load_s1(start)
        names = found.config.labels
        start_from(module, ordered(found.state_dict(), names, outputs.names, _OUT, start), start)
    encoder_part: Any = module.wavlm_model
    encoder_part.feature_extractor.requires_grad_(False)
    # In training, WavLM masks runs of this many frames.
    masked = encoder.config.mask_time_length if encoder.config.apply_spec_augment else 0

    def inputs(examples: Sequence[Example]) -> Inputs:
        """Scale and pad the waves."""
        waves, lengths = module.prepare([e.samples for e in examples])
        return {"waves": waves, "lengths": lengths}

    def write(folder: Path, state: Tensors, extra: Mapping[str, Any]) -> None:
        save_s1(module, folder, extra, state)

    return Learner(
        module,
        inputs,
        write,
        outputs,
        model="wavlm",
        shortest=(masked + 2) * _SAMPLES_PER_FRAME,
    )


def _encoder(name: str) -> Any:
    folder = locate(name, ["config.json", "*.safetensors", "pytorch_model*.bin*"])
    model: Any = WavLMModel
    with translated(name):
        config = WavLMConfig.from_pretrained(folder)
        return model.from_pretrained(folder, config=config, dtype=torch.float32)
