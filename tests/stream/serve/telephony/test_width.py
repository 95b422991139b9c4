"""Audio that is not written as declared, on the speech of the demo call."""

from __future__ import annotations

import numpy as np
import pytest
from places import ROOT
from provider_messages import written

from abhinaya.stream.serve.telephony.width import WidthCheck
from abhinaya.stream.sources.base import InputConfig, SampleFormat
from abhinaya.stream.sources.file import open_file

KINDS: tuple[SampleFormat, ...] = ("s16le", "mulaw", "alaw", "f32le")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    opened = open_file(InputConfig(what=str(ROOT / "bench/demo/call.opus")), lambda _: None)
    return np.concatenate([chunk.samples[:, 0] for chunk in opened.chunks()])[::2].copy()


def warning(kind: SampleFormat, data: bytes) -> str:
    check = WidthCheck(kind)
    return "".join(check.feed(data[at : at + 160]) for at in range(0, len(data), 160))


@pytest.mark.parametrize("declared", KINDS)
@pytest.mark.parametrize("true", KINDS)
@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_a_wrong_width_is_noticed_and_a_right_one_never(
    speech: np.ndarray, declared: SampleFormat, true: SampleFormat, gain: float
) -> None:
    said = warning(declared, written(speech * gain, true))
    if (declared in ("mulaw", "alaw")) == (true in ("mulaw", "alaw")):
        assert not said
    else:
        seems = "two or more" if declared in ("mulaw", "alaw") else "one byte"
        assert said.startswith(f"declared as {declared}, but its samples seem to have {seems}")


@pytest.mark.parametrize("kind", KINDS)
def test_silence_tones_and_noise_are_left_alone(kind: SampleFormat) -> None:
    time = np.arange(80_000) / 8_000
    tone = (0.5 * np.sin(2 * np.pi * 1_000 * time)).astype(np.float32)
    hiss = np.random.default_rng(0).uniform(-1, 1, 80_000).astype(np.float32)
    for sound in (np.zeros(80_000, np.float32), tone, hiss):
        assert not warning(kind, written(sound, kind))
    assert not warning(kind, np.random.default_rng(0).bytes(200_000))
