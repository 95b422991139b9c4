"""Writes recordings of any length from audio files, and finds the segments in a recording."""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import SAMPLE_RATE, to_samples
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.numbering import Speech
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.wire.messages import Gap, Segment

PAUSE_S: Final = 0.7
"""Silence between two files, so that no segment spans them."""
AUDIO: Final = (".opus", ".ogg", ".wav", ".flac", ".mp3", ".m4a")

Span = tuple[int, int]
"""First and last sample (exclusive) of a segment."""


def audio_under(folder: Path) -> list[Path]:
    """Return all audio files in a folder and its subfolders, sorted by name."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO)


def compose(sources: Sequence[Path], seconds: float, first: int, target: Path) -> None:
    """Write `seconds` of the files as 16 kHz mono wav, in a loop that begins with number `first`.

    Raises SourceError: a file cannot be read, or the files contain no audio.
    """
    wanted = to_samples(seconds)
    parts: list[npt.NDArray[np.int16]] = []
    for number in range(len(sources)):
        parts.append(_with_pause(sources[(first + number) % len(sources)]))
        if sum(map(len, parts)) >= wanted:
            break
    if sum(map(len, parts)) <= len(parts) * to_samples(PAUSE_S):
        raise SourceError(str(sources[0]), "holds no audio")
    _save(np.resize(np.concatenate(parts), wanted), target)


def rotate(source: Path, start_s: float, seconds: float, target: Path) -> None:
    """Write `seconds` of one file, in a loop that begins at `start_s`.

    Raises SourceError: the file cannot be read, or contains no audio.
    """
    whole = _with_pause(source)
    if len(whole) <= to_samples(PAUSE_S):
        raise SourceError(str(source), "holds no audio")
    _save(np.resize(np.roll(whole, -to_samples(start_s)), to_samples(seconds)), target)


def write(samples: npt.NDArray[np.float32], target: Path) -> None:
    """Write samples [n] as 16 kHz wav."""
    _save(pcm(samples), target)


def duration_s(source: Path) -> float:
    """Return the length of a file in seconds, by decoding it."""
    return sum(len(piece) for piece in _pcm(source)) / SAMPLE_RATE


def spans(source: Path, vad: VadConfig) -> list[Span]:
    """Return the segments of a recording, which a run must report; found in this process."""
    return [(item.start, item.end) for item in items(source, vad)]


def items(source: Path, vad: VadConfig) -> list[Segment | Gap]:
    """Return what a front would send of a recording, on one channel."""
    opened = open_source(InputConfig(str(source)))
    try:
        found = list(Speech(vad, opened, [""], ()).items())
    finally:
        opened.close()
    return [item for item in found if isinstance(item, Segment | Gap)]


def pcm(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return samples as 16-bit integers."""
    return np.clip(samples * 32767, -32768, 32767).astype(np.int16)


def _save(samples: npt.NDArray[np.int16], target: Path) -> None:
    with wave.open(str(target), "wb") as out:
        out.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        out.writeframes(samples.tobytes())


def _with_pause(source: Path) -> npt.NDArray[np.int16]:
    return np.concatenate([*_pcm(source), np.zeros(to_samples(PAUSE_S), np.int16)])


def _pcm(source: Path) -> Iterator[npt.NDArray[np.int16]]:
    opened = open_source(InputConfig(str(source)))
    try:
        for chunk in opened.chunks():
            yield pcm(chunk.samples[:, 0])
    finally:
        opened.close()
