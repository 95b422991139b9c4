"""Encodes clips in sessions: clips of one voice through one channel, like a monitored stream.

All corpora are sent through the same random channels (rooms, noise, bands, telephone, level), so
that a network cannot recognise a corpus by its channel. Short crops of each clip are added, with
the length of segments in real speech.

Shapes: N items, F frames of all items, L levels, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

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


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """Levels and metadata of N items."""

    clip: npt.NDArray[np.str_]
    """[N] id of the clip, or of the clip that the crop is from."""
    speaker: npt.NDArray[np.str_]
    corpus: npt.NDArray[np.str_]
    label: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]
    whole: Flags
    """[N] False for a crop."""
    seconds: npt.NDArray[np.float64]
    rendering: Indices
    """[N] 0 for the original clip, else the number of a random channel."""
    file: Indices
    """[N] index into `frames`; `start` and `end` are the frame range there."""
    start: Indices
    end: Indices
    means: FloatArray
    """[N, L, D] mean over the frames of an item."""
    frames: tuple[npt.NDArray[np.float16], ...]
    """[F, L, D] for each file, memory-mapped."""

    def levels(self, item: int) -> FloatArray:
        """Return the frames [T, L, D] of an item."""
        inside = self.frames[self.file[item]][self.start[item] : self.end[item]]
        return np.asarray(inside, np.float32)

    def of(self, chosen: Flags) -> Sessions:
        """Return the items where `chosen` [N] is true; `frames` is not copied."""
        fields = {name: getattr(self, name)[chosen] for name in self.__slots__ if name != "frames"}
        return replace(self, **fields)

    @property
    def session(self) -> Indices:
        """[N] number of the session of each item."""
        names = [f"{s} {r}" for s, r in zip(self.speaker, self.rendering, strict=True)]
        return np.unique(names, return_inverse=True)[1]


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
        path = cache / f"levels-{_key(clips, rendering, plan)}"
        if not path.with_suffix(".npz").is_file():
            cache.mkdir(parents=True, exist_ok=True)
            say(f"encoding {len(clips)} clips, rendering {rendering}")
            _store(path, _encode(clips, data, rendering, plan, encoder()))
        parts.append(path)
    return _load(parts)


def joined(parts: Sequence[Sessions]) -> Sessions:
    """Return the sessions of several corpora as one."""
    offsets = np.cumsum([0, *(len(part.frames) for part in parts[:-1])])
    fields = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Sessions.__slots__
        if name not in ("frames", "file")
    }
    file = np.concatenate([part.file + o for part, o in zip(parts, offsets, strict=True)])
    return Sessions(**fields, file=file, frames=tuple(f for part in parts for f in part.frames))


def spoken(samples: FloatArray) -> FloatArray:
    """Return the samples without silence at both ends, cut as in the monitor."""
    padded = np.pad(samples, (0, -len(samples) % VAD_FRAME))
    speech = np.flatnonzero(np.ravel(get_vad_model()(padded)) > VAD_THRESHOLD)
    if not len(speech):
        return samples
    start, end = speech[0] * VAD_FRAME - PAD, (speech[-1] + 1) * VAD_FRAME + PAD
    return samples[max(0, int(start)) : int(end)]


@dataclass(frozen=True, slots=True)
class _Item:
    clip: Clip
    whole: bool
    seconds: float
    levels: npt.NDArray[np.float16]


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
                yield _item(clip, arrived, True, encoder)
                for crop in _crops(arrived, plan.crops, rng):
                    yield _item(clip, crop, False, encoder)


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


def _item(clip: Clip, samples: FloatArray, whole: bool, encoder: Encoder) -> _Item:
    # the monitor sends segments with 16 bits a sample
    rounded = (np.clip(np.round(samples * 32768), -32768, 32767) / 32768).astype(np.float32)
    levels = encoder.encode(rounded).astype(np.float16)
    return _Item(clip, whole, len(samples) / SAMPLE_RATE, levels.transpose(1, 0, 2))


def _key(clips: Sequence[Clip], rendering: int, plan: Plan) -> str:
    content = "\n".join([repr((VERSION, rendering, plan)), *(clip.id for clip in clips)])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _store(path: Path, items: Iterator[_Item]) -> None:
    found = list(items)
    np.save(path.with_suffix(".npy"), np.concatenate([item.levels for item in found]))
    clips = [item.clip for item in found]
    half = path.with_suffix(".half.npz")
    np.savez(
        half,
        clip=[clip.id for clip in clips],
        speaker=[clip.speaker for clip in clips],
        corpus=[clip.corpus for clip in clips],
        label=labels_of(clips),
        split=[clip.split for clip in clips],
        whole=[item.whole for item in found],
        seconds=[item.seconds for item in found],
        length=[len(item.levels) for item in found],
        means=np.stack([item.levels.astype(np.float32).mean(axis=0) for item in found]),
    )
    half.replace(path.with_suffix(".npz"))  # written last: an interrupted run leaves no valid entry


def _load(paths: Sequence[Path]) -> Sessions:
    parts = []
    for rendering, path in enumerate(paths):
        with np.load(path.with_suffix(".npz")) as stored:
            rows = {name: stored[name] for name in stored.files}
        ends = np.cumsum(rows.pop("length"))
        frames = np.load(path.with_suffix(".npy"), mmap_mode="r")
        rows["rendering"] = np.full(len(ends), rendering)
        starts = np.concatenate([[0], ends[:-1]])
        parts.append(
            Sessions(
                **rows, file=np.zeros(len(ends), np.int64), start=starts, end=ends, frames=(frames,)
            )
        )
    return joined(parts)
