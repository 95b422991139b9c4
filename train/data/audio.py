"""Reads audio files of any format as 16 kHz mono."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from abhinaya.models.base import SAMPLE_RATE, FloatArray
from abhinaya.train.data.clips import LONGEST_S, Clip
from abhinaya.train.errors import DataError


def read_audio(path: Path | str | BinaryIO) -> FloatArray:
    """Return all samples [n] of a file, 16 kHz mono, in [-1, 1].

    Raises DataError: the file is missing, is not audio, or is empty.
    """
    try:
        with av.open(str(path) if isinstance(path, Path) else path, "r") as container:
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            pieces = [
                piece.to_ndarray()[0]
                for frame in container.decode(audio=0)
                for piece in resampler.resample(frame)
            ]
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError(f"{path}: cannot be read as audio: {error}") from error
    if not pieces:
        raise DataError(f"{path}: holds no audio")
    return np.concatenate(pieces).astype(np.float32)


def read_clip(root: Path, clip: Clip) -> FloatArray:
    """Return the samples [n] of a clip: the part of its file, below `root`, from start to end.

    Raises DataError: the file cannot be read, or ends before the clip begins.
    """
    samples = read_audio(root / clip.path)
    start = round((clip.start_s or 0.0) * SAMPLE_RATE)
    end = len(samples) if clip.end_s is None else round(clip.end_s * SAMPLE_RATE)
    if not len(part := samples[start:end]):
        raise DataError(f"{root / clip.path}: ends before clip {clip.id!r} begins; fetch it again")
    return part


def judged_part(samples: FloatArray, max_s: float = LONGEST_S) -> FloatArray:
    """Return what validation, evaluation and predictions judge of a clip [n]: its beginning."""
    return samples[: round(max_s * SAMPLE_RATE)]


def duration_s(path: Path) -> float:
    """Return the seconds of a file by its header; 0 if the header does not have them.

    Raises DataError: the file is missing or is not audio.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            if stream.duration is not None and stream.time_base is not None:
                return float(stream.duration * stream.time_base)
            return (container.duration or 0) / av.time_base
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError(f"{path}: cannot be read as audio: {error}") from error
