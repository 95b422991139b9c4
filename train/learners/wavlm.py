"""WavLM with a head, for S1, the challenge baseline, EMOJUDGE's speech voter and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from abhinaya.models.checkpoint import Tensors
from abhinaya.models.published.encoders import load_encoder
from abhinaya.models.published.heads import Pool
from abhinaya.models.published.specs import EncoderSpec
from abhinaya.models.published.wavlm import S1, S1Config, WaveNorm, load_s1, save_s1
from abhinaya.train.learners.base import Example, Inputs, Learner, Outputs, ordered, start_from
from abhinaya.train.recipes.learner_options import WavlmOptions

_OUT: Final = "head.out"


def wavlm_learner(o: WavlmOptions, outputs: Outputs, norm: WaveNorm, start: str) -> Learner:
    """Build a trainable S1. Its checkpoint has all weights, so the voter needs no other file."""
    encoder = load_encoder(EncoderSpec(o.encoder, train="tuned"), norm)
    fields = encoder.config.to_diff_dict()
    module = S1(S1Config(fields, cast("Pool", o.pool), o.hidden, outputs.names, norm))
    module.wavlm_model = cast("Any", encoder.model)
    module.head.input_dropout.p = o.input_dropout
    if start:
        found = load_s1(start)
        names = found.config.labels
        start_from(module, ordered(found.state_dict(), names, outputs.names, _OUT, start), start)

    def inputs(examples: Sequence[Example]) -> Inputs:
        """Scale and pad the waves."""
        waves, lengths = module.prepare([e.samples for e in examples])
        return {"waves": waves, "lengths": lengths}

    def write(folder: Path, state: Tensors, extra: Mapping[str, Any]) -> None:
        save_s1(module, folder, extra, state)

    return Learner(module, inputs, write, outputs, model="wavlm", shortest=encoder.shortest)
