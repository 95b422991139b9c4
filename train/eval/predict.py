"""What a voter says of the clips of a manifest, offline; written as predictions that eval reads."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.base import SAMPLE_RATE, Abstention, Ballot, Card, FloatArray, Utterance, Voter
from abhinaya.models.labels import LABELS
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import Clip, DataError
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.eval.predictions import whole

LONGEST: Final = 10 * SAMPLE_RATE
"""Samples of the longest segment of the monitor: longer clips are cut into equal pieces."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a voter says of a clip."""

    clip: Clip
    said: Ballot | Abstention


def ask(
    voter: Voter,
    manifest: Manifest,
    batch: int = 8,
    told: Callable[[], None] = lambda: None,
) -> Iterator[Answer]:
    """Ask about every clip, `batch` at a time; `told` is called after each clip.

    Each clip stands alone, as the first of a stream: of what a voter knows about a voice,
    `abhinaya bench quality` has the figures.

    Raises:
        DataError: audio cannot be read, or no clip has what the voter needs.

    """
    usable = [clip for clip in manifest.clips if not _lacks(clip, voter.card)]
    for clip in manifest.clips:
        if lack := _lacks(clip, voter.card):
            told()
            yield Answer(clip, Abstention(lack))
    if not usable:
        needs = " and ".join(sorted(voter.card.needs))
        raise DataError(
            f"{manifest.root}: no clip has what {voter.card.model} needs: {needs}; for transcripts "
            "see abhinaya data transcribe"
        )
    for start in range(0, len(usable), batch):
        few = usable[start : start + batch]
        pieces = [_pieces(manifest.root, clip, voter.card) for clip in few]
        answers = iter(voter.vote([piece for of in pieces for piece in of]))
        for clip, of in zip(few, pieces, strict=True):
            told()
            yield Answer(clip, _together([(piece, next(answers)) for piece in of]))


def _lacks(clip: Clip, card: Card) -> str:
    """Say what the clip has not that the voter needs; empty if it has all."""
    if "audio" in card.needs and not clip.path:
        return "the clip has no audio"
    if "transcript" in card.needs and not clip.transcript.strip():
        return "the clip has no transcript"
    return ""


def _pieces(root: Path, clip: Clip, card: Card) -> list[Utterance]:
    if "audio" not in card.needs:
        return [Utterance(np.zeros(0, np.float32), transcript=clip.transcript)]
    parts = pieces_of(read_clip(root, clip))
    return [Utterance(part, transcript=clip.transcript) for part in parts]


def pieces_of(samples: FloatArray) -> list[FloatArray]:
    """Cut a wave [n] into equal pieces of at most LONGEST samples."""
    return np.array_split(samples, max(1, math.ceil(len(samples) / LONGEST)))


def _together(answers: Sequence[tuple[Utterance, Ballot | Abstention]]) -> Ballot | Abstention:
    """Give one answer for the pieces of a clip, weighted by their length."""
    parts = [(a, max(1.0, float(len(u.samples)))) for u, a in answers if isinstance(a, Ballot)]
    if parts:
        return whole(parts)
    return next(a for _, a in answers if isinstance(a, Abstention))


def write_predictions(path: Path, card: Card, answers: Iterable[Answer]) -> Counter[str]:
    """Write what `read_predictions` reads; a clip without an answer is left out, and counted.

    Returns reasons and how many clips were left out for each. A half-written file never has the
    name.

    Raises:
        OSError: it cannot be written.

    """
    gone: Counter[str] = Counter()
    half = path.with_name(f"{path.name}.half")
    rows = []
    for answer in answers:
        if isinstance(answer.said, Abstention):
            gone[answer.said.reason] += 1
        else:
            rows.append((answer.clip, answer.said))
    scored = all(said.probabilities for _, said in rows)
    with half.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["id", "label", *(LABELS if scored else ()), "model", "version", "split"])
        for clip, said in rows:
            shares = [f"{p:.6f}" for p in said.probabilities or ()] if scored else []
            table.writerow([clip.id, said.label, *shares, card.model, card.version, clip.split])
    half.replace(path)
    return gone
