from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abhinaya.models.compact.features import HOP_SAMPLES, SAMPLE_RATE, log_mel
from abhinaya.models.compact.manner import N_MANNER, manner, spoken
from abhinaya.models.compact.running import SpeechStatistics, Sums, heard_from
from abhinaya.models.compact.voice import (
    CEPSTRA,
    CONTEXT_FRAMES,
    MEL,
    MOTION,
    N_VALUES,
    PITCH,
    STRENGTH,
    VOICED,
    cosines,
    frame_values,
)

RELATIVE_PITCH = 100
"""Place of the utterance's log pitch against the one heard before."""


def buzz(hz: float, seconds: float = 0.5, gain: float = 0.1) -> np.ndarray:
    """A voice without a mouth: the first harmonics of a pitch."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (gain * sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 8))).astype(np.float32)


def hiss(seconds: float = 0.5, seed: int = 0, gain: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (gain * rng.standard_normal(int(seconds * SAMPLE_RATE))).astype(np.float32)


@pytest.mark.parametrize("hz", [75.0, 110.0, 200.0, 330.0, 480.0])
def test_the_pitch_of_a_buzz_is_found(hz: float) -> None:
    values = frame_values(buzz(hz))[CONTEXT_FRAMES:]
    assert (values[:, VOICED] == 1.0).all()
    assert np.exp(values[:, PITCH]).mean() == pytest.approx(hz, rel=0.01)


def test_hiss_and_silence_have_no_pitch() -> None:
    for samples in (hiss(), np.zeros(8_000, np.float32)):
        values = frame_values(samples)
        assert values[:, VOICED].mean() < 0.05
        assert np.isfinite(values).all()
        assert (values[values[:, VOICED] == 0.0, PITCH] == 0.0).all()


def test_pitch_is_as_strong_as_the_voice_over_the_noise() -> None:
    clear, noisy = buzz(150), buzz(150) + hiss()
    strengths = [frame_values(samples)[5:, STRENGTH].mean() for samples in (clear, noisy, hiss())]
    assert strengths[0] > 0.98 > strengths[1] > strengths[2]


def test_the_cepstrum_is_the_spectrum_in_other_coordinates() -> None:
    transform = cosines()
    np.testing.assert_allclose(transform.T @ transform, np.eye(transform.shape[1]), atol=1e-5)
    values = frame_values(buzz(150) + hiss())
    np.testing.assert_array_equal(values[:, MEL], log_mel(buzz(150) + hiss()))
    np.testing.assert_allclose(values[:, CEPSTRA], values[:, MEL] @ transform, atol=1e-4)
    moved = values[5, CEPSTRA] - values[3, CEPSTRA]
    np.testing.assert_allclose(values[5, MOTION], moved, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 30), seed=st.integers(0, 3))
def test_a_frame_depends_on_its_context_and_on_nothing_else(start: int, seed: int) -> None:
    samples = hiss(seed=seed) + buzz(140)
    later = frame_values(samples[start * HOP_SAMPLES :])[CONTEXT_FRAMES:]
    whole = frame_values(samples)[start + CONTEXT_FRAMES :]
    np.testing.assert_allclose(later, whole, atol=1e-4)
    assert later.shape[1] == N_VALUES


def test_what_was_heard_of_the_same_voice_says_that_nothing_is_new() -> None:
    syllables = [buzz(hz, 0.3, gain) for hz in (120, 160, 200) for gain in (0.1, 0.02)]
    values = frame_values(np.concatenate(syllables) + hiss(1.8, gain=0.01))
    same = manner(spoken(values), heard_from(Sums.of(np.tile(values, (200, 1)))))
    np.testing.assert_allclose(same[:60], 0.0, atol=0.05)
    np.testing.assert_allclose(same[RELATIVE_PITCH : RELATIVE_PITCH + 6], 0.0, atol=0.05)


def test_a_voice_that_rises_is_told_from_one_that_is_high() -> None:
    def told(before_hz: float, now_hz: float) -> float:
        statistics = SpeechStatistics()
        statistics.update(buzz(before_hz, 30.0))
        now = buzz(now_hz, 1.0)
        statistics.update(now)
        found = manner(spoken(frame_values(now)), statistics.heard())
        return float(found[RELATIVE_PITCH])

    rise = np.log(1.5)
    assert told(120, 180) == pytest.approx(rise, rel=0.15)
    assert told(180, 120) == pytest.approx(-rise, rel=0.15)
    assert told(180, 180) == pytest.approx(0.0, abs=0.02)


def test_gain_never_changes_the_manner() -> None:
    samples = buzz(150, 2.0, 0.2) + hiss(2.0, gain=0.05)
    found = []
    for gain in (1.0, 0.1):
        statistics = SpeechStatistics()
        statistics.update(gain * samples)
        found.append(manner(spoken(frame_values(gain * samples)), statistics.heard()))
    np.testing.assert_allclose(found[0], found[1], atol=0.02)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(8_000, np.float32), hiss(0.026), buzz(200, 0.03), hiss(1.0, gain=1e-6)],
)
def test_whatever_comes_in_the_manner_is_finite(samples: np.ndarray) -> None:
    statistics = SpeechStatistics()
    statistics.update(samples)
    found = manner(spoken(frame_values(samples)), statistics.heard())
    assert found.shape == (N_MANNER,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
