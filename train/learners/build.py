"""Builds the model of a recipe."""

from __future__ import annotations

import torch

from abhinaya.models.inference import place
from abhinaya.models.published.wavlm import WaveNorm
from abhinaya.train.learners.base import Learner, Outputs
from abhinaya.train.learners.llama import llama_learner
from abhinaya.train.learners.salmonn import salmonn_learner
from abhinaya.train.learners.text import text_learner
from abhinaya.train.learners.wavlm import wavlm_learner
from abhinaya.train.recipes import learner_options as o


def build_learner(
    options: o.Options,
    outputs: Outputs,
    device: torch.device,
    bf16: bool,
    norm: WaveNorm,
    start: str = "",
) -> Learner:
    """Build a model; new weights are drawn from torch's generator.

    `bf16` applies to frozen weights; trainable ones are float32. `norm` is only for WavLM.
    Raises ModelError: a file of the model is missing, damaged or of another model.
    """
    where = place(str(device), "bfloat16" if bf16 else "float32")
    match options:
        case o.WavlmOptions():
            return wavlm_learner(options, outputs, norm, start)
        case o.TextOptions():
            return text_learner(options, outputs, start)
        case o.LlamaOptions():
            return llama_learner(options, outputs, where, start)
        case o.SalmonnOptions():
            return salmonn_learner(options, outputs, where, start)
