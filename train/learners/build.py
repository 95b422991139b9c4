"""From the options of a recipe to a model that can be trained."""

from __future__ import annotations

import torch

from abhinaya.models.inference import place
from abhinaya.models.published.wavlm import WaveNorm
from abhinaya.train.learners.base import Learner, Outputs
from abhinaya.train.learners.llama import LlamaLearner
from abhinaya.train.learners.salmonn import SalmonnLearner
from abhinaya.train.learners.text import TextLearner
from abhinaya.train.learners.wavlm import WavlmLearner
from abhinaya.train.recipes.learner_options import (
    LlamaOptions,
    Options,
    SalmonnOptions,
    TextOptions,
    WavlmOptions,
)


def build_learner(
    options: Options,
    outputs: Outputs,
    device: torch.device,
    bf16: bool,
    norm: WaveNorm,
    start: str = "",
) -> Learner:
    """Make a model; what is new in it is drawn from torch's generator.

    `bf16` is for weights that do not learn; those that do are float32. `norm` is WavLM's.

    Raises ModelError: a file of it is missing, damaged or of another model.
    """
    where = place(str(device), "bfloat16" if bf16 else "float32")
    match options:
        case WavlmOptions():
            return WavlmLearner(options, outputs, norm, start)
        case TextOptions():
            return TextLearner(options, outputs, start)
        case LlamaOptions():
            return LlamaLearner(options, outputs, where, start)
        case SalmonnOptions():
            return SalmonnLearner(options, outputs, where, start)
