"""Files of the embedded voters with drawn weights: quick to make, and known number by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from abhinaya.models.tiny.encoder import LEVELS, WIDTH
from abhinaya.models.tiny.head import Head
from abhinaya.models.tiny.speech import SPEECH, WORDS, Settings
from abhinaya.train.tiny.network import Network
from abhinaya.train.tiny.speech import SPEECH_LABELS, Trained, write

SETTINGS = Settings(temperature=2.0, neutral=0.5, enough_s=2.0, calm=0.9)


def drawn(words: bool = False) -> Trained:
    """Heads as a training would begin with."""
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    shape = (len(LEVELS), WIDTH)
    sizes = len(LEVELS) * WIDTH, WORDS if words else 0, len(SPEECH_LABELS)
    networks = [Network(*sizes, 6, 5), Network(*sizes)]
    heads = [Head({k: v.numpy() for k, v in net.state_dict().items()}) for net in networks]
    usual = rng.normal(0.0, 0.5, shape).astype(np.float32)
    return Trained(heads, usual, rng.uniform(0.5, 1.5, shape).astype(np.float32))


def write_heads(folder: Path, name: str = SPEECH, words: bool = False) -> tuple[Path, Trained]:
    """Write a file that models.tiny.speech opens, and return what is in it."""
    trained, path = drawn(words), folder / f"{name}.safetensors"
    write(path, name, trained, SETTINGS)
    return path, trained
