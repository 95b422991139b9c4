"""What a model says of the clips of a manifest, offline; written as CSV that `eval` reads.

A voter gives labels, a checkpoint of attributes gives arousal, valence and dominance.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import numpy as np

from abhinaya.models.base import SAMPLE_RATE, Abstention, Ballot, Card, FloatArray, Utterance
from abhinaya.models.errors import LabelsError
from abhinaya.models.labels import LABELS
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import ATTRIBUTES, Clip
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.predictions import whole

LONGEST: Final = 10 * SAMPLE_RATE
"""Samples of the longest segment of the monitor: longer clips are cut into equal pieces."""
Said: TypeAlias = Ballot | FloatArray | Abstention
"""An answer: a label, or attributes [3] from 0 to 1, or neither."""


class Model(Protocol):
    """A voter, or what rates attributes."""

    @property
    def card(self) -> Card:
        """What it is, and what it needs."""
        ...

    def vote(self, batch: Sequence[Utterance]) -> Sequence[Said]:
        """Return one answer an utterance."""
        ...


class AttributeModel:
    """A checkpoint of S1's kind that hears arousal, valence and dominance.

    Args:
        checkpoint: folder that a run wrote.
        device, dtype: as voters have them.

    Raises:
        ModelError: it is missing, damaged, or its outputs are others.

    """

    def __init__(self, checkpoint: str, device: str = "auto", dtype: str = "auto") -> None:
        from torch import nn  # torch, only for who asks

        from abhinaya.models.inference import place
        from abhinaya.models.published.wavlm import load_s1

        self._place = place(device, dtype)
        self._model = load_s1(checkpoint).requires_grad_(False)
        names = self._model.config.labels
        if sorted(names) != sorted(ATTRIBUTES):
            raise LabelsError(
                checkpoint,
                f"its outputs are {', '.join(names)}, not {', '.join(ATTRIBUTES)}",
                "Give a checkpoint of the recipe attributes",
            )
        self._order = [names.index(name) for name in ATTRIBUTES]
        nn.Module.to(self._model.wavlm_model, self._place.device, self._place.dtype)
        self._model.head.to(self._place.device)
        version = Path(checkpoint).name
        self.card = Card("wavlm", version, frozenset({"audio"}), ATTRIBUTES, "")

    def vote(self, batch: Sequence[Utterance]) -> list[Said]:
        """Rate waves: arousal, valence, dominance [3] from 0 to 1 of each."""
        import torch

        from abhinaya.models.inference import moved
        from abhinaya.models.published.wavlm import SHORTEST
        from abhinaya.train.loop.objective import bounded

        heard = [u.samples for u in batch if len(u.samples) >= SHORTEST]
        found: Iterator[FloatArray] = iter(())
        if heard:
            with torch.inference_mode():
                padded, lengths = self._model.prepare(heard)
                scores = self._model(moved(padded, self._place), moved(lengths, self._place))
                found = iter(bounded(scores)[:, self._order].cpu().numpy())
        short = Abstention(f"the clip has fewer than {SHORTEST} samples")
        return [next(found) if len(u.samples) >= SHORTEST else short for u in batch]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says of a clip."""

    clip: Clip
    said: Said


def ask(model: Model, manifest: Manifest, batch: int = 8) -> Iterator[Answer]:
    """Ask about every clip, `batch` at a time.

    Each clip stands alone, as the first of a stream: of what a voter knows about a voice,
    `abhinaya bench quality` has the figures.

    Raises:
        DataError: audio cannot be read, or no clip has what the model needs.

    """
    card = model.card
    lacks = [_lack(clip, card) for clip in manifest.clips]
    usable = [clip for clip, lack in zip(manifest.clips, lacks, strict=True) if not lack]
    for clip, lack in zip(manifest.clips, lacks, strict=True):
        if lack:
            yield Answer(clip, Abstention(lack))
    if not usable:
        raise DataError(
            f"{manifest.root}: no clip has what {card.model} needs: "
            f"{' and '.join(sorted(card.needs))}; for transcripts see abhinaya data transcribe"
        )
    for start in range(0, len(usable), batch):
        few = usable[start : start + batch]
        pieces = [_pieces(manifest.root, clip, card) for clip in few]
        answers = iter(model.vote([piece for of in pieces for piece in of]))
        for clip, of in zip(few, pieces, strict=True):
            yield Answer(clip, _together([(next(answers), len(p.samples) or 1) for p in of]))


def _lack(clip: Clip, card: Card) -> str:
    """Return what the clip lacks that the model needs; empty if it has all."""
    if "audio" in card.needs and not clip.path:
        return "the clip has no audio"
    if "transcript" in card.needs and not clip.transcript.strip():
        return "the clip has no transcript"
    return ""


def _pieces(root: Path, clip: Clip, card: Card) -> list[Utterance]:
    """Cut a clip into equal pieces of at most LONGEST samples."""
    samples = read_clip(root, clip) if "audio" in card.needs else np.zeros(0, np.float32)
    parts = np.array_split(samples, max(1, math.ceil(len(samples) / LONGEST)))
    return [Utterance(part, transcript=clip.transcript) for part in parts]


def _together(answers: Sequence[tuple[Said, int]]) -> Said:
    """Return one answer for the pieces of a clip, weighted by their length."""
    rated = [(said, float(n)) for said, n in answers if isinstance(said, np.ndarray)]
    if rated:
        values, weights = zip(*rated, strict=True)
        mean: FloatArray = np.average(values, axis=0, weights=weights)
        return mean
    voted = [(said, float(n)) for said, n in answers if isinstance(said, Ballot)]
    return whole(voted) if voted else answers[0][0]


def write_predictions(path: Path, card: Card, answers: Iterable[Answer]) -> Counter[str]:
    """Write what `eval` reads; a clip without an answer is left out, and counted.

    Returns reasons and how many clips were left out for each. A half-written file never has the
    name. Raises OSError if it cannot be written.
    """
    gone: Counter[str] = Counter()
    rows: list[tuple[Clip, str | None, Sequence[float]]] = []
    for answer in answers:
        said = answer.said
        if isinstance(said, Abstention):
            gone[said.reason] += 1
        elif isinstance(said, Ballot):
            rows.append((answer.clip, said.label, said.probabilities or ()))
        else:
            rows.append((answer.clip, None, said.tolist()))
    rates = all(label is None for _, label, _ in rows)
    scored = all(values for _, _, values in rows)
    columns = ATTRIBUTES if rates else ("label", *(LABELS if scored else ()))
    half = path.with_name(f"{path.name}.half")
    with half.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["id", *columns, "model", "version", "split"])
        for clip, label, values in rows:
            shares = [f"{value:.6f}" for value in values] if scored else []
            said_label = [] if label is None else [label]
            table.writerow([clip.id, *said_label, *shares, card.model, card.version, clip.split])
    half.replace(path)
    return gone
