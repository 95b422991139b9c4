"""Writes recordings of any length from audio files, and finds the segments in a recording."""

from __future__ import annotations

import itertools
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
    left, silent = to_samples(seconds), 0
    pause = np.zeros(to_samples(PAUSE_S), np.int16)
    with _wave(target) as out:
        for number in itertools.count(first):
            before = left
            for piece in itertools.chain(_pcm(sources[number % len(sources)]), [pause]):
                out.writeframes(piece[:left].tobytes())
                left = max(0, left - len(piece))
            if not left:
                return
            silent = silent + 1 if before - left == len(pause) else 0
            if silent == len(sources):
                raise SourceError(str(sources[0]), "holds no audio")


def rotate(source: Path, start_s: float, seconds: float, target: Path) -> None:
    """Write `seconds` of one file, in a loop that begins at `start_s`.

    Raises SourceError: the file cannot be read, or contains no audio.
    """
    whole = np.concatenate([*_pcm(source), np.zeros(to_samples(PAUSE_S), np.int16)])
    if len(whole) <= to_samples(PAUSE_S):
        raise SourceError(str(source), "holds no audio")
    rolled = np.roll(whole, -to_samples(start_s))
    with _wave(target) as out:
        out.writeframes(np.resize(rolled, to_samples(seconds)).tobytes())


def write(samples: npt.NDArray[np.float32], target: Path) -> None:
    """Write samples [n] as 16 kHz wav."""
    with _wave(target) as out:
        out.writeframes(pcm(samples).tobytes())


def duration_s(source: Path) -> float:
    """Return the length of a file in seconds, by decoding it."""
    return sum(len(piece) for piece in _pcm(source)) / SAMPLE_RATE


def spans(source: Path, vad: VadConfig) -> list[Span]:
    """Return the segments of a recording, which a run must report; found in this process."""
    opened = open_source(InputConfig(str(source)))
    try:
        speech = Speech(vad, opened, [""], ())
        return [(i.start, i.end) for i in speech.items() if isinstance(i, Segment | Gap)]
    finally:
        opened.close()


def pcm(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return samples as 16-bit integers."""
    return np.clip(samples * 32767, -32768, 32767).astype(np.int16)


def _wave(target: Path) -> wave.Wave_write:
    out = wave.open(str(target), "wb")  # noqa: SIM115 - the caller closes it
    out.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
    return out


def _pcm(source: Path) -> Iterator[npt.NDArray[np.int16]]:
    opened = open_source(InputConfig(str(source)))
    try:
        for chunk in opened.chunks():
            yield pcm(chunk.samples[:, 0])
    finally:
        opened.close()
