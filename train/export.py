"""From a trained tower to the ONNX file a compact voter opens.

Calibration is part of the graph: what comes out is ready for a softmax.
"""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from abhinaya.models.compact.manner import N_MANNER
from abhinaya.models.compact.measure import N_FEATURES
from abhinaya.models.compact.weights_file import METADATA_KEY
from abhinaya.train.text_tower import TextTower

LARGEST_BYTES = 5_000_000


class EightBits(nn.Module):
    """How a matrix is kept in 8 bits with a scale for each row, and computed with in single."""

    def forward(self, whole: Tensor, scale: Tensor) -> Tensor:
        """8 bits [N, D] and scales [N, 1] -> [N, D]."""
        return whole.float() * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """[N, D] -> what `forward` takes."""
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-8) / 127.0
        return (weight / scale).round().to(torch.int8), scale


class Calibrated(nn.Module):
    """A tower whose scores are divided by a temperature and given a bias per class."""

    def __init__(self, tower: nn.Module, temperature: float, bias: Sequence[float]) -> None:
        super().__init__()
        self.tower = tower
        self.temperature = temperature
        self.register_buffer("bias", torch.tensor(list(bias), dtype=torch.float32))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Take what the tower takes: -> logits [B, C]."""
        logits: Tensor = self.tower(*inputs) / self.temperature + self.bias
        return logits


class Fusion(nn.Module):
    """Scores of the voice and of the words together, for people who rarely say what they feel.

    Whatever a voice expresses, its words are neutral in a share of the cases, and express the same
    in the others. So what the words say for a label is the log of that mixture: neutral words take
    little from an emotion that is heard, and words of an emotion speak for it.

    C classes, of which `neutral` is one.
    """

    scales: Tensor
    """[2] of the speech and of the text scores."""
    bias: Tensor
    """[C] added to the text scores: how often each label's words occur."""

    def __init__(self, classes: int, neutral: int, share: float) -> None:
        """`share` is that of neutral words, over 0 and under 1; `neutral` the label's column."""
        super().__init__()
        self.neutral = neutral
        self.share = share
        self.scales = nn.Parameter(torch.ones(2))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, speech: Tensor, text: Tensor) -> Tensor:
        """[B, C] and [B, C] -> [B, C]."""
        said = torch.log_softmax(self.scales[1] * text + self.bias, dim=1)
        neutral = said[:, self.neutral : self.neutral + 1]
        own = said + math.log(1.0 - self.share)
        other = neutral + math.log(self.share)
        words = torch.logsumexp(torch.stack([own, other.expand_as(own)]), dim=0)
        return self.scales[0] * speech + words


class Joined(nn.Module):
    """Two calibrated towers joined late, as `models/compact/joint.py` feeds them."""

    def __init__(self, speech: nn.Module, text: nn.Module, fusion: Fusion) -> None:
        super().__init__()
        self.speech = speech
        self.text = text
        self.fusion = fusion

    def forward(
        self,
        features: Tensor,
        mask: Tensor,
        manner: Tensor,
        pieces: Tensor,
        piece_mask: Tensor,
        worded: Tensor,
    ) -> Tensor:
        """... and worded [B], 1 where there are words -> logits [B, C]."""
        speech = self.speech(features, mask, manner)
        text = self.text(pieces, piece_mask)
        both = self.fusion(speech, text)
        return torch.where(worded.unsqueeze(1) > 0.5, both, speech)


def small(tower: TextTower) -> TextTower:
    """Keep the tower's matrices in 8 bits from here on; it learns no more."""
    tower.requires_grad_(False)
    matrices = [
        (module, name)
        for module in tower.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 2
    ]
    for module, name in matrices:
        register_parametrization(module, name, EightBits(), unsafe=True)
    return tower


_SPEECH = {"features": {0: "B", 1: "T"}, "mask": {0: "B", 1: "T"}, "manner": {0: "B"}}
_TEXT = {"pieces": {0: "B", 1: "L"}, "piece_mask": {0: "B", 1: "L"}}
INPUTS: Mapping[str, dict[str, dict[int, str]]] = {
    "compact-speech": _SPEECH,
    "compact-text": _TEXT,
    "compact-joint": {**_SPEECH, **_TEXT, "worded": {0: "B"}},
}
"""Inputs of each model's graph and their free dimensions."""


def export(
    network: nn.Module,
    path: Path,
    model: str,
    version: str,
    labels: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Write `network` as an ONNX file with what it must say about itself.

    Raises:
        ValueError: the file would be larger than a bundled voter may be.

    """
    import onnx  # of the extra `train`; everything else here runs without it

    examples = {
        "features": torch.zeros(2, 100, N_FEATURES),
        "mask": torch.ones(2, 100),
        "manner": torch.zeros(2, N_MANNER),
        "pieces": torch.ones(2, 7, dtype=torch.long),
        "piece_mask": torch.ones(2, 7),
        "worded": torch.ones(2),
    }
    names = list(INPUTS[model])
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # the tracing exporter: the graph has no branches, and its file is half as large
        torch.onnx.export(
            network.eval(),
            tuple(examples[name] for name in names),
            buffer,  # type: ignore[arg-type]
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**INPUTS[model], "logits": {0: "B"}},
            opset_version=17,
            dynamo=False,
            do_constant_folding=False,  # what is kept in 8 bits would be written as computed with
        )
    graph = onnx.load_from_string(buffer.getvalue())
    said = {"model": model, "version": version, "labels": list(labels), "settings": dict(settings)}
    graph.metadata_props.add(key=METADATA_KEY, value=json.dumps(said))
    data = graph.SerializeToString()
    if len(data) > LARGEST_BYTES:
        raise ValueError(f"{path}: {len(data)} bytes; a bundled voter may have {LARGEST_BYTES}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
