"""Sounds for the tests of runs."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

SPOKEN_S = 9


@pytest.fixture(scope="session")
def speech(short_call: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the first seconds of the call, mixed."""
    with wave.open(str(short_call)) as file:
        frames = file.readframes(SPOKEN_S * file.getframerate())
        both = np.frombuffer(frames, "<i2").reshape(-1, file.getnchannels())
        rate = file.getframerate()
    path = tmp_path_factory.mktemp("cut") / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(both.mean(1).astype("<i2").tobytes())
    return path
