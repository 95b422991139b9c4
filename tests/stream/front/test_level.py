"""Why no speech was found: each reason is a sentence of its own, on which a person can act."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import source_fakes

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.front.level import Level
from abhinaya.stream.front.numbering import Speech
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources.array import open_arrays
from abhinaya.stream.wire.messages import End

TONE = source_fakes.tone(2.0, SAMPLE_RATE)
NOISE = np.random.default_rng(1).standard_normal((2 * SAMPLE_RATE, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (TONE[:0], "it holds no audio"),
        (0 * TONE, "it is silent"),
        (0 * TONE + 0.3, "it is silent"),  # a constant offset is no sound
        (NOISE * 2e-5, "it is silent"),
        (TONE * 1e-3, "it is very quiet (its peak is at -68 dB)"),
        (TONE * 1e-3 + 0.3, "it is very quiet (its peak is at -68 dB)"),
        (np.clip(9 * TONE, -1, 1), "of its samples); lower the recording level"),
        (TONE[:4000], "it has only 0.25 s"),
        (TONE, "it has sound (in 100% of its time, up to -8 dB), but none that resembles a voice"),
        (np.concatenate([TONE, 0 * TONE, 0 * TONE, 0 * TONE]), "it has sound (in 25% of its time"),
    ],
)
def test_each_reason_is_a_sentence_of_its_own(samples: Any, words: str) -> None:
    level = Level(2)
    for part in np.array_split(samples, 8):
        level.add(np.concatenate([part, 0 * part], axis=1))
    assert words in level.sound(0, False)
    assert "holds no audio" in level.sound(1, False) or "it is silent" in level.sound(1, False)


def test_the_end_of_a_stream_says_why_sound_was_found() -> None:
    both = np.concatenate([TONE, 0 * TONE], axis=1)
    source = open_arrays([both], SAMPLE_RATE, "call", "split", lambda _: None)
    ends = list(Speech(VadConfig(), source, ["call/1", "call/2"], ()).items())
    assert all(isinstance(item, End) for item in ends)
    assert "resembles a voice" in ends[0].sound  # type: ignore[union-attr]
    assert "it is silent" in ends[1].sound  # type: ignore[union-attr]


def test_speech_that_may_be_missed_is_said() -> None:
    for factor, words in ((1.0, ""), (1e-3, "it is very quiet"), (99.0, "it is clipped")):
        level = Level(1)
        level.add(np.clip(TONE * factor, -1, 1))
        assert level.sound(0, True).startswith(words)
        assert bool(level.sound(0, True)) == bool(words)
