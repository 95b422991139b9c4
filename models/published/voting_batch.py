"""What all torch voters share: what they refuse, and a batch made into ballots."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from abhinaya.models.base import SAMPLE_RATE, Abstention, Ballot, Utterance
from abhinaya.models.errors import RunError
from abhinaya.models.labels import LABELS, LabelMap

Answer = Ballot | Abstention


@dataclass(frozen=True, slots=True)
class Size:
    """What a model weighs, for its card."""

    tensors: int
    parameters: int
    memory_mb: float


def weigh(*modules: nn.Module) -> Size:
    """Count the weights of modules; one that several of them hold counts once."""
    # Buffers that are not saved are computed, not weights, but they take room all the same.
    weights = {id(p): p for module in modules for p in module.parameters()}
    buffers = {id(b): b for module in modules for b in module.buffers()}
    held = [*weights.values(), *buffers.values()]
    return Size(
        tensors=len(weights),
        parameters=sum(_numbers(p) for p in weights.values()),
        memory_mb=sum(t.numel() * t.element_size() for t in held) / 1e6,
    )


def _numbers(weight: nn.Parameter) -> int:
    # Weights of 4 bits are packed; bitsandbytes keeps the shape that they stand for.
    packed = getattr(weight, "quant_state", None)
    return weight.numel() if packed is None else math.prod(packed.shape)


def serve(
    batch: Sequence[Utterance],
    unfit: Callable[[Utterance], str | None],
    run: Callable[[list[Utterance]], Tensor],
    labels: LabelMap,
) -> list[Answer]:
    """Answer a batch: refuse what is unfit with its reason, run the rest, map its classes.

    `run` gives probabilities [B, K] in the checkpoint's own order. A batch that does not fit into
    the device's memory is halved until it does.

    Raises:
        RunError: even one utterance does not fit.

    """
    reasons = [unfit(utterance) for utterance in batch]
    fit = [u for u, reason in zip(batch, reasons, strict=True) if reason is None]
    with torch.inference_mode():
        rows = iter(_halving(run, fit)) if fit else iter(())
    return [
        Abstention(reason) if reason is not None else to_ballot(next(rows), labels)
        for reason in reasons
    ]


def _halving(run: Callable[[list[Utterance]], Tensor], batch: list[Utterance]) -> list[Tensor]:
    try:
        return list(run(batch).float().cpu())
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise RunError(
                f"a segment of {len(batch[0].samples) / SAMPLE_RATE:.1f} s",
                "the device has no memory for it, even alone",
                "Use a smaller model, dtype bfloat16, quantize, or another device",
            ) from error
    # Outside the handler, so that the failed batch's tensors are free by now.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return _halving(run, batch[:half]) + _halving(run, batch[half:])


def to_ballot(probabilities: Tensor, labels: LabelMap) -> Answer:
    """Make an answer of one row of class probabilities [K] in the checkpoint's own order."""
    row = probabilities.numpy().astype(np.float64)
    if not np.isfinite(row).all():
        return Abstention("the model's scores are not finite; try dtype float32")
    if labels.targets[int(row.argmax())] is None:
        return Abstention(f"the model hears {labels.names[int(row.argmax())]!r}, no emotion")
    mapped = row @ labels.matrix
    mapped /= mapped.sum()
    return Ballot(LABELS[int(mapped.argmax())], tuple(mapped.tolist()))


def unfit_audio(utterance: Utterance, shortest: int) -> str | None:
    """Say why audio cannot be judged, or None if it can."""
    samples = utterance.samples
    if len(samples) < shortest:
        return (
            f"the segment has {len(samples)} samples, the model needs {shortest}"
            f" ({1000 * shortest / SAMPLE_RATE:.0f} ms); raise the shortest speech of the segmenter"
        )
    if not np.isfinite(samples).all():
        return "the audio holds values that are not numbers; check its source"
    return None


def unfit_text(utterance: Utterance) -> str | None:
    """Say why a transcript cannot be judged, or None if it can."""
    if not utterance.transcript.strip():
        return "the transcript is empty: no words were recognised in the segment"
    return None


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Right-pad [n] or [n, D] with zeros: [B, N, ...], and lengths [B]."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths


def valid(lengths: Tensor, size: int) -> Tensor:
    """Make a mask [B, size], True before each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
