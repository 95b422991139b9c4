"""Functions of all torch voters: check utterances, run a batch, return ballots.

B batch, K outputs of a checkpoint: its classes and attributes, in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from abhinaya.models.base import SAMPLE_RATE, Abstention, Ballot, Utterance
from abhinaya.models.errors import RunError
from abhinaya.models.labels import LABELS, Attributes, LabelMap

Answer = Ballot | Abstention


def serve(
    batch: Sequence[Utterance],
    unfit: Callable[[Utterance], str | None],
    run: Callable[[list[Utterance]], Tensor],
    labels: LabelMap,
) -> list[Answer]:
    """Return an answer for each utterance: an abstention if `unfit` returns a reason, else a vote.

    `run` returns `answers` [B, K] in the checkpoint's order. A batch that does not fit into the
    device's memory is halved until it fits.

    Raises:
        RunError: a single utterance does not fit.

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
                "use a smaller model, dtype bfloat16, quantize, or another device",
            ) from error
    # Outside the handler, where the failed batch's tensors have been freed.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return _halving(run, batch[:half]) + _halving(run, batch[half:])


def answers(scores: Tensor, labels: LabelMap, linear: bool = False) -> Tensor:
    """Return probabilities of the classes, and attributes from 0 to 1, for scores [B, K].

    `linear`: scores of attributes are values from 0 to 1; else a sigmoid follows.
    """
    if not labels.attributes:
        return scores.softmax(-1)
    classes = labels.classes
    found = scores.clamp(0, 1) if linear else scores.sigmoid()
    found[:, classes] = scores[:, classes].softmax(-1)
    return found


def to_ballot(answer: Tensor, labels: LabelMap) -> Answer:
    """Return the ballot for one row of `answers` [K], in the checkpoint's order."""
    found = answer.numpy().astype(np.float64)
    if not np.isfinite(found).all():
        return Abstention("the model's scores are not finite; try dtype float32")
    values = found[list(labels.attributes)].tolist()
    attributes = Attributes.from_unit(values) if values else None
    if not labels.names:
        return Ballot(attributes=attributes)
    row = found[labels.classes]
    best = int(row.argmax())
    if labels.targets[best] is None:
        if attributes is not None:
            return Ballot(attributes=attributes)
        return Abstention(f"the model's class {labels.names[best]!r} is not one of the eight")
    mapped = row @ labels.matrix
    mapped /= mapped.sum()
    label = LABELS[int(mapped.argmax())]
    return Ballot(label, tuple(mapped.tolist()), attributes=attributes)


def unfit_audio(utterance: Utterance, shortest: int) -> str | None:
    """Return the reason why a voter cannot use the audio, else None."""
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
    """Return the reason why a voter cannot use the transcript, else None."""
    if not utterance.transcript.strip():
        return "the transcript is empty: no words were recognised in the segment"
    return None


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return rows [n] or [n, D] right-padded with zeros, [B, N, ...], and their lengths [B]."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths


def valid(lengths: Tensor, size: int) -> Tensor:
    """Return a mask [B, size], True before each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
