"""Reading audio files of any format as 16 kHz mono."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import SAMPLE_RATE
from abhinaya.train.data.clips import DataError


def read_audio(path: Path | str) -> FloatArray:
    """All samples [n] of a file, 16 kHz mono, in [-1, 1].

    Raises:
        DataError: the file is missing, is no audio, or is empty.

    """
    try:
        with av.open(str(path)) as container:
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
