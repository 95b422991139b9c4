from __future__ import annotations

import struct

import numpy as np

from abhinaya.models.tiny.voice import MEMORY_S, TRUST_S, Voice

SHAPE = (2, 4)
USUAL = np.full(SHAPE, 0.25, np.float32)


def levels(value: float, frames: int = 10) -> np.ndarray:
    return np.full((SHAPE[0], frames, SHAPE[1]), value, np.float32)


def test_a_state_brings_back_what_was_packed() -> None:
    voice = Voice.of(b"", USUAL).after(levels(1.0), 4.0).after(levels(2.0), 4.0)
    again = Voice.of(voice.pack(), USUAL)
    assert again.seconds == voice.seconds == 8.0
    np.testing.assert_allclose(again.mean, voice.mean, rtol=1e-3)  # half precision travels
    np.testing.assert_allclose(again.mean, np.full(SHAPE, 1.5), rtol=1e-3)
    assert Voice.of(again.pack(), USUAL).pack() == again.pack()
    assert voice.after(levels(9.0, frames=0), 1.0) is voice, "without frames nothing changes"
    assert voice.after(levels(9.0), 0.0).pack() == voice.pack()


def test_the_usual_counts_until_enough_was_heard() -> None:
    new = Voice.of(b"", USUAL)
    np.testing.assert_array_equal(new.measure(USUAL), USUAL)
    half = new.after(levels(1.25), TRUST_S)
    np.testing.assert_allclose(half.measure(USUAL), np.full(SHAPE, 0.75))
    long = new.after(levels(1.25), 11 * TRUST_S)
    np.testing.assert_allclose(long.measure(USUAL), np.full(SHAPE, 0.25 + 11 / 12))


def test_older_speech_fades() -> None:
    voice = Voice.of(b"", USUAL)
    for _ in range(20):
        voice = voice.after(levels(1.0), 6.0)
    assert voice.seconds == MEMORY_S
    other = voice.after(levels(3.0), MEMORY_S / 4)
    np.testing.assert_allclose(other.mean, np.full(SHAPE, 1.5))
    assert other.seconds == MEMORY_S
    for _ in range(30):
        other = other.after(levels(3.0), MEMORY_S / 4)
    np.testing.assert_allclose(other.mean, np.full(SHAPE, 3.0), rtol=1e-3)


def test_a_foreign_or_damaged_state_begins_anew() -> None:
    def state(seconds: float, value: float = 1.0) -> bytes:
        return struct.pack("<f", seconds) + np.full(SHAPE, value, "<f2").tobytes()

    whole, inf, nan = state(3.0), float("inf"), float("nan")
    assert Voice.of(whole, USUAL).seconds == 3.0
    odd = [state(x) for x in (-1.0, MEMORY_S + 1, nan)] + [state(3.0, inf), state(3.0, nan)]
    for damaged in (b"x", whole[:-1], whole + b"x", *odd):
        voice = Voice.of(damaged, USUAL)
        assert voice.seconds == 0.0
        np.testing.assert_array_equal(voice.mean, USUAL)
