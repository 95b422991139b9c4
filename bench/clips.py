"""Recordings: those with known words, and any length of others; comparison of words."""

from __future__ import annotations

import functools
import json
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from abhinaya.models.asr import Audio
from abhinaya.stream.clock import SAMPLE_RATE, to_samples
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.numbering import Speech
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.wire.messages import Gap, Segment


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording and its words."""

    corpus: str
    path: Path
    text: str


def clips_in(data: Path) -> list[Clip]:
    """Return the read clips (fleurs, ljspeech, librispeech_clean) under `data`.

    Raises SourceError: no clips were found.
    """
    clips = [*_fleurs(data / "fleurs"), *_ljspeech(data / "ljspeech")]
    clips += _librispeech(data / "librispeech_clean")
    if not clips:
        raise SourceError(
            str(data),
            "has no fleurs, ljspeech or librispeech_clean with their texts",
            "give the folder that holds them with --data",
        )
    return clips


def long_clips_in(data: Path) -> list[Clip]:
    """Return the recordings of osr_harvard (telephone band) and podcasts under `data`."""
    return [*_harvard(data / "osr_harvard"), *_podcasts(data / "podcasts")]


def read(path: Path) -> Audio:
    """Return a recording as 16 kHz mono."""
    with closing(open_source(InputConfig(str(path)))) as source:
        return np.concatenate([chunk.samples[:, 0] for chunk in source.chunks()])


def words_of(text: str) -> list[str]:
    """Return the normalised words of an English text.

    Whisper's normaliser (Radford et al. 2022, appendix C) from transformers, without the table of
    British spellings: lower case, no punctuation, no fillers (`uh`), numbers in figures (`twenty
    five` -> `25`), contractions and titles written out (`it's` -> `it is`).
    """
    return _normaliser()(text.replace("\u2019", "'")).split()


def distance(reference: Sequence[str], found: Sequence[str]) -> int:
    """Return the minimum number of words to substitute, delete and insert (Levenshtein)."""
    row = list(range(len(found) + 1))
    for i, expected in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(found, start=1):
            changed = diagonal + (expected != word)
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, changed)
    return row[-1]


@functools.cache
def _normaliser() -> Callable[[str], str]:
    from transformers.models.whisper import english_normalizer

    untyped: Any = english_normalizer
    return cast("Callable[[str], str]", untyped.EnglishTextNormalizer({}))


def _fleurs(folder: Path) -> Iterator[Clip]:
    for text in sorted(folder.glob("*.txt")):
        if (audio := text.with_suffix(".ogg")).is_file():
            yield Clip("fleurs", audio, text.read_text("utf-8"))


def _ljspeech(folder: Path) -> Iterator[Clip]:
    metadata = folder / "metadata.csv"
    for line in metadata.read_text("utf-8").splitlines() if metadata.is_file() else ():
        name, _, spoken = line.split("|", 2)  # the third column has its numbers written out
        if (audio := folder / f"{name}.opus").is_file():
            yield Clip("ljspeech", audio, spoken)


def _librispeech(folder: Path) -> Iterator[Clip]:
    for texts in sorted(folder.glob("*.trans.txt")):
        for line in texts.read_text("utf-8").splitlines():
            name, _, spoken = line.partition(" ")
            if (audio := folder / f"{name}.flac").is_file():
                yield Clip("librispeech_clean", audio, spoken)


def _harvard(folder: Path) -> Iterator[Clip]:
    """Yield the recordings that `test_samples.json` lists with their ten sentences."""
    listed = folder / "test_samples.json"
    for sample in json.loads(listed.read_text("utf-8")) if listed.is_file() else ():
        if (audio := folder / Path(sample["filename"]).name).is_file():
            yield Clip("harvard, 8 kHz", audio, sample["transcription"])


def _podcasts(folder: Path) -> Iterator[Clip]:
    """Yield podcasts p01 to p06; their texts have lines `Speaker: words`."""
    for text in sorted(folder.glob("p0[1-6]_*.txt")):
        audio = text.with_suffix(".opus")
        if not audio.is_file() or text.stem.endswith("_fast"):
            continue
        _, _, body = text.read_text("utf-8").partition("[00:00]")
        turns = [line.partition(": ")[2] for line in body.splitlines() if ": " in line]
        yield Clip("podcasts", audio, " ".join(turns))


# --- recordings of any length, as wav -----------------------------------------------------------


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
    with closing(open_source(InputConfig(str(source)))) as opened:
        found = list(Speech(vad, opened, [""], ()).items())
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
    with closing(open_source(InputConfig(str(source)))) as opened:
        for chunk in opened.chunks():
            yield pcm(chunk.samples[:, 0])
