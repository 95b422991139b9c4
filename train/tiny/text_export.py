"""Exports a trained text network as the ONNX file of `models/tiny/text.py`.

The graph includes the calibration, so that a softmax of its output gives probabilities. Matrices
have 8-bit weights.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from abhinaya.models.tiny.metadata import METADATA_KEY
from abhinaya.models.tiny.text import NAME
from abhinaya.train.tiny.text_tower import TextTower

LARGEST_BYTES: Final = 5_000_000
FREE: Final[Mapping[str, dict[int, str]]] = {
    "pieces": {0: "B", 1: "L"},
    "piece_mask": {0: "B", 1: "L"},
    "logits": {0: "B"},
    "fine": {0: "B"},
}
"""Inputs and outputs of the graph, with their dynamic dimensions."""


class EightBits(nn.Module):
    """Stores a matrix in 8 bits with a scale for each row; computes in float32."""

    def forward(self, whole: Tensor, scale: Tensor) -> Tensor:
        """Return the matrix [N, D] of 8-bit values [N, D] and scales [N, 1]."""
        return whole.float() * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of `forward` for a matrix [N, D]."""
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-8) / 127.0
        return (weight / scale).round().to(torch.int8), scale


class Calibrated(nn.Module):
    """A text network with F fine classes, and calibrated logits of C coarse classes.

    `groups` [C] are the indices of the fine classes in each coarse class. Coarse scores are divided
    by `temperature`; then `bias` [C] is added.
    """

    bias: Tensor

    def __init__(
        self,
        tower: nn.Module,
        groups: Sequence[Sequence[int]],
        temperature: float,
        bias: Sequence[float],
    ) -> None:
        super().__init__()
        self.tower = tower
        self.groups = tuple(tuple(of) for of in groups)
        self.temperature = temperature
        self.register_buffer("bias", torch.tensor(list(bias), dtype=torch.float32))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits [B, C] and the tower's scores [B, F]."""
        fine: Tensor = self.tower(*inputs)
        logits: Tensor = grouped(fine, self.groups) / self.temperature + self.bias
        return logits, fine


def grouped(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Return [B, C]: the log-sum-exp of the fine logits [B, F] of each group."""
    return torch.stack([logits[:, list(of)].logsumexp(dim=1) for of in groups], dim=1)


def small(tower: TextTower) -> TextTower:
    """Store the matrices in 8 bits and end training; return the same network."""
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


def export(
    network: Calibrated,
    path: Path,
    version: str,
    labels: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Write `network` as an ONNX file with its metadata.

    Raises ValueError: the file would be larger than LARGEST_BYTES.
    """
    import onnx  # only in the extra `train`

    names = list(FREE)
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # the tracing exporter writes a file half as large; the network has no branches
        torch.onnx.export(
            network.eval(),
            (torch.ones(2, 7, dtype=torch.long), torch.ones(2, 7)),
            buffer,  # type: ignore[arg-type]
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: dict(free) for name, free in FREE.items()},
            opset_version=17,
            dynamo=False,
            do_constant_folding=False,  # would store the 8-bit weights as float32
        )
    graph = onnx.load_from_string(buffer.getvalue())
    metadata = {
        "model": NAME,
        "version": version,
        "labels": list(labels),
        "settings": dict(settings),
    }
    graph.metadata_props.add(key=METADATA_KEY, value=json.dumps(metadata))
    data = graph.SerializeToString()
    if len(data) > LARGEST_BYTES:
        raise ValueError(
            f"{path}: {len(data)} bytes; the limit is {LARGEST_BYTES}: use fewer pieces"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
