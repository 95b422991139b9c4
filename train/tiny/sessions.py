"""Encodes clips in sessions: clips of one voice through one channel, like a monitored stream.

All corpora are sent through the same random channels (rooms, noise, bands, telephone, level), so
that a network cannot recognise a corpus by its channel. Short crops of each clip are added, with
the length of segments in real speech.

Shapes: N items, T frames of an item, L levels, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from faster_whisper.vad import get_vad_model

from abhinaya.models.base import SAMPLE_RATE, FloatArray
from abhinaya.models.tiny.encoder import Encoder
from abhinaya.train.command import Say
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.channels import Channel, Surroundings, draw_channel, send_through
from abhinaya.train.data.clips import Clip, labels_of
from abhinaya.train.metrics import Flags, Indices

VERSION: Final = 1
"""Increase it when levels, channels or crops change; cached files of other versions are ignored."""
LONGEST: Final = 10 * SAMPLE_RATE
CROP_S: Final = (0.7, 2.5)
CROP_AT_MOST: Final = 0.85
"""Maximum length of a crop, as a share of its clip."""
VAD_FRAME: Final = 512
VAD_THRESHOLD: Final = 0.4
PAD: Final = 2_400
"""Samples kept before and after speech, as in the monitor's segmenter."""
Names = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """Levels and metadata of N items, each field [N]. A crop has the id of its clip."""

    clip: Names
    speaker: Names
    corpus: Names
    label: Names
    split: Names
    whole: Flags
    """False for a crop."""
    seconds: npt.NDArray[np.float64]
    rendering: Indices
    """0 for the original clip, else the number of a random channel."""
    means: FloatArray
    """[N, L, D] mean over the frames of an item."""
    frames: npt.NDArray[np.object_]
    """Arrays [T, L, D], memory-mapped."""

    def levels(self, item: int) -> FloatArray:
        """Return the frames [T, L, D] of an item."""
        return np.asarray(self.frames[item], np.float32)

    def of(self, chosen: Flags) -> Sessions:
        """Return the items where `chosen` [N] is true."""
        return Sessions(*(getattr(self, name)[chosen] for name in self.__slots__))

    @property
    def session(self) -> Indices:
        """[N] number of the session of each item."""
        names = [f"{s} {r}" for s, r in zip(self.speaker, self.rendering, strict=True)]
        return np.unique(names, return_inverse=True)[1]


def joined(parts: Sequence[Sessions]) -> Sessions:
    """Return the items of several sessions as one."""
    columns = ([getattr(part, name) for part in parts] for name in Sessions.__slots__)
    return Sessions(*map(np.concatenate, columns))


@dataclass(frozen=True, slots=True)
class Plan:
    """Items to make of each clip."""

    crops: int
    """Number of crops of each clip in each rendering."""
    pieces_s: tuple[float, float] | None = None
    """Shortest and longest piece that long clips are first cut into; None: not cut."""


def sessions(
    clips: Sequence[Clip],
    data: Path,
    cache: Path,
    renderings: Sequence[int],
    plan: Plan,
    encoder: Callable[[], Encoder],
    say: Say = print,
) -> Sessions:
    """Return the encoded clips in each rendering, from the folder `cache` if possible.

    Raises DataError: a file cannot be read, or a clip has no label.
    """
    parts = []
    for rendering in renderings:
        made_of = [repr((VERSION, rendering, plan)), *(clip.id for clip in clips)]
        key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
        path = cache / f"levels-{key}.npz"
        if not path.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            say(f"encoding {len(clips)} clips, rendering {rendering}")
            _store(path, list(_encode(clips, data, rendering, plan, encoder())))
        with np.load(path) as stored:
            rows: dict[str, Any] = dict(stored)
        frames = np.asarray(np.load(path.with_suffix(".npy"), mmap_mode="r"))
        apart = np.split(frames, np.cumsum(rows.pop("length"))[:-1])
        rows["rendering"] = np.full(len(apart), rendering)
        parts.append(Sessions(**rows, frames=np.fromiter(apart, np.object_, len(apart))))
    return joined(parts)


def spoken(samples: FloatArray) -> FloatArray:
    """Return the samples without silence at both ends, cut as in the monitor."""
    padded = np.pad(samples, (0, -len(samples) % VAD_FRAME))
    speech = np.flatnonzero(np.ravel(get_vad_model()(padded)) > VAD_THRESHOLD)
    if not len(speech):
        return samples
    start, end = speech[0] * VAD_FRAME - PAD, (speech[-1] + 1) * VAD_FRAME + PAD
    return samples[max(0, int(start)) : int(end)]


_Item = tuple[Clip, bool, float, npt.NDArray[np.float16]]
"""Clip, whole or a crop, seconds, levels [T, L, D]."""


def _encode(
    clips: Sequence[Clip], data: Path, rendering: int, plan: Plan, encoder: Encoder
) -> Iterator[_Item]:
    around = Surroundings.find(data)
    speakers: dict[str, list[Clip]] = {}
    for clip in clips:
        speakers.setdefault(clip.speaker, []).append(clip)
    for number, speaker in enumerate(sorted(speakers)):
        rng = np.random.default_rng((rendering, number))
        channel = draw_channel(rng, around) if rendering else Channel()
        for clip in speakers[speaker]:
            for piece in _pieces(spoken(read_clip(Path(), clip)), plan, rng):
                arrived = send_through(piece, channel, rng)
                for samples in (arrived, *_crops(arrived, plan.crops, rng)):
                    # the monitor sends segments with 16 bits a sample
                    rounded = np.clip(np.round(samples * 32768), -32768, 32767) / 32768
                    levels = encoder.encode(rounded.astype(np.float32)).astype(np.float16)
                    seconds = len(samples) / SAMPLE_RATE
                    yield clip, samples is arrived, seconds, levels.transpose(1, 0, 2)


def _pieces(samples: FloatArray, plan: Plan, rng: np.random.Generator) -> Iterator[FloatArray]:
    if plan.pieces_s is None:
        yield samples[:LONGEST]
        return
    start, shortest = 0, int(plan.pieces_s[0] * SAMPLE_RATE)
    while len(samples) - start >= shortest:
        length = int(rng.uniform(*plan.pieces_s) * SAMPLE_RATE)
        yield samples[start : start + length]
        start += length


def _crops(samples: FloatArray, count: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    for _ in range(count):
        length = int(rng.uniform(*CROP_S) * SAMPLE_RATE)
        if length < CROP_AT_MOST * len(samples):
            start = int(rng.integers(len(samples) - length + 1))
            yield samples[start : start + length]


def _store(path: Path, items: Sequence[_Item]) -> None:
    clips, whole, seconds, levels = zip(*items, strict=True)
    np.save(path.with_suffix(".npy"), np.concatenate(levels))
    half = path.with_suffix(".half.npz")
    np.savez(
        half,
        clip=[clip.id for clip in clips],
        label=labels_of(clips),
        whole=whole,
        seconds=seconds,
        length=[len(of) for of in levels],
        means=np.stack([of.astype(np.float32).mean(axis=0) for of in levels]),
        speaker=[clip.speaker for clip in clips],
        corpus=[clip.corpus for clip in clips],
        split=[clip.split for clip in clips],
    )
    half.replace(path)  # written last: an interrupted run leaves no valid entry
