from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import buzz, hiss

from abhinaya.models.compact.features import HOP_SAMPLES, log_mel
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
