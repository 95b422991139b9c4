"""What a checkpoint of attributes says of clips, offline; written as ratings that eval reads."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from abhinaya.models.base import FloatArray
from abhinaya.models.errors import LabelsError
from abhinaya.models.inference import moved, place
from abhinaya.models.published.wavlm import SHORTEST, load_s1
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import ATTRIBUTES, Clip, DataError
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.eval.predict import pieces_of
from abhinaya.train.loop.objective import bounded

MODEL: Final = "wavlm"
"""The one kind of model that learns attributes so far."""


@dataclass(frozen=True, slots=True)
class Rating:
    """What was said of a clip."""

    clip: Clip
    values: FloatArray | None
    """[3] arousal, valence, dominance from 0 to 1; None if it cannot be heard."""
    reason: str = ""
    """Why not."""


class AttributeModel:
    """A checkpoint that hears arousal, valence and dominance.

    Args:
        checkpoint: folder that a run wrote.
        device, dtype: as voters have them.

    Raises:
        ModelError: it is not there, damaged, or its outputs are others.

    """

    def __init__(self, checkpoint: str, device: str = "auto", dtype: str = "auto") -> None:
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

    def __call__(self, waves: Sequence[FloatArray]) -> FloatArray:
        """Rate waves [n] of at least SHORTEST samples at 16 kHz: [B, 3] from 0 to 1."""
        with torch.inference_mode():
            padded, lengths = self._model.prepare(waves)
            scores = self._model(moved(padded, self._place), moved(lengths, self._place))
            found: FloatArray = bounded(scores)[:, self._order].cpu().numpy()
        return found


def rate(model: AttributeModel, manifest: Manifest, batch: int = 8) -> Iterator[Rating]:
    """Rate every clip; of one above 10 s the mean over its pieces, weighted by their length.

    Raises:
        DataError: audio cannot be read, or no clip has any.

    """
    audible = [clip for clip in manifest.clips if clip.path]
    yield from (Rating(c, None, "the clip has no audio") for c in manifest.clips if not c.path)
    if not audible:
        raise DataError(f"{manifest.root}: no clip has audio, which attributes are heard from")
    for start in range(0, len(audible), batch):
        few = audible[start : start + batch]
        pieces = [pieces_of(read_clip(manifest.root, clip)) for clip in few]
        long = [[p for p in of if len(p) >= SHORTEST] for of in pieces]
        waves = [piece for of in long for piece in of]
        found = iter(model(waves) if waves else ())
        for clip, of in zip(few, long, strict=True):
            values = [next(found) for _ in of]
            if not values:
                yield Rating(clip, None, f"the clip has fewer than {SHORTEST} samples")
            else:
                weights = [len(piece) for piece in of]
                yield Rating(clip, np.average(values, axis=0, weights=weights))


def write_ratings(path: Path, version: str, ratings: Iterable[Rating]) -> Counter[str]:
    """Write what `read_ratings` reads; give reasons and how many clips were left out for each.

    Raises:
        OSError: it cannot be written; a half-written file never has the name.

    """
    gone: Counter[str] = Counter()
    rows = []
    for rating in ratings:
        if rating.values is None:
            gone[rating.reason] += 1
        else:
            values = [f"{v:.6f}" for v in rating.values]
            rows.append([rating.clip.id, *values, MODEL, version, rating.clip.split])
    half = path.with_name(f"{path.name}.half")
    with half.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(["id", *ATTRIBUTES, "model", "version", "split"])
        table.writerows(rows)
    half.replace(path)
    return gone
