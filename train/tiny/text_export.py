"""From a trained text tower to the ONNX file that `models/tiny/text.py` opens.

Calibration is part of the graph: what comes out is ready for a softmax. Matrices are kept in 8
bits.
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
"""Inputs and outputs of the graph, and their free dimensions."""


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
    """A tower over fine classes, with the calibrated scores of the coarser ones that it sums to.

    F fine classes, C coarse ones.

    Args:
        tower: pieces and mask to F scores.
        groups: [C] the fine columns under each coarse class.
        temperature: that the coarse scores are divided by.
        bias: [C] added to them afterwards.

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
        """Take what the tower takes: -> logits [B, C] and the tower's own scores [B, F]."""
        fine: Tensor = self.tower(*inputs)
        logits: Tensor = grouped(fine, self.groups) / self.temperature + self.bias
        return logits, fine


def grouped(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Logits [B, F] of fine classes -> log of the summed powers [B, C] of each group."""
    return torch.stack([logits[:, list(of)].logsumexp(dim=1) for of in groups], dim=1)


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


def export(
    network: Calibrated,
    path: Path,
    version: str,
    labels: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Write `network` as an ONNX file with what it must say about itself.

    Raises:
        ValueError: the file would be larger than a bundled voter may be.

    """
    import onnx  # of the extra `train`; everything else here runs without it

    names = list(FREE)
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # the tracing exporter: the graph has no branches, and its file is half as large
        torch.onnx.export(
            network.eval(),
            (torch.ones(2, 7, dtype=torch.long), torch.ones(2, 7)),
            buffer,  # type: ignore[arg-type]
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: dict(free) for name, free in FREE.items()},
            opset_version=17,
            dynamo=False,
            do_constant_folding=False,  # what is kept in 8 bits would be written as computed with
        )
    graph = onnx.load_from_string(buffer.getvalue())
    said = {"model": NAME, "version": version, "labels": list(labels), "settings": dict(settings)}
    graph.metadata_props.add(key=METADATA_KEY, value=json.dumps(said))
    data = graph.SerializeToString()
    if len(data) > LARGEST_BYTES:
        raise ValueError(f"{path}: {len(data)} bytes; a bundled voter may have {LARGEST_BYTES}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
