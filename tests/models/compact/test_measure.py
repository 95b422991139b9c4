from __future__ import annotations

import numpy as np
import pytest
from sounds import buzz, hiss

from abhinaya.models.compact.features import N_MELS, SAMPLE_RATE
from abhinaya.models.compact.measure import N_FEATURES, SEEN, TONE_UNIT, normalised
from abhinaya.models.compact.running import SpeechStatistics
from abhinaya.models.compact.voice import CONTEXT_FRAMES, frame_values


def after(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Features of `now` by the measure of `before` and itself."""
    statistics = SpeechStatistics()
    statistics.update(before)
    statistics.update(now)
    return normalised(frame_values(now)[:, SEEN], statistics.heard())


def test_gain_never_changes_what_a_voter_sees_not_even_at_the_start() -> None:
    # noise without pauses stays far above the floor at both gains
    samples = hiss()
    quiet, loud = (after(samples[:0], gain * samples) for gain in (0.1, 1.0))
    np.testing.assert_allclose(quiet, loud, atol=0.01)


def test_a_pitch_is_told_by_how_far_it_is_from_the_usual_one() -> None:
    seen = after(buzz(120, 60.0), buzz(180, 1.0))[CONTEXT_FRAMES:]
    voiced, _, absolute, relative = seen[:, N_MELS:].T
    assert (voiced == 1.0).all()
    assert absolute.mean() == pytest.approx(np.log(1.5) / TONE_UNIT, rel=0.05)
    # a voice that never moved has a small deviation, so that any step is a large one
    assert (relative > absolute).all()
    assert after(buzz(180, 60.0), buzz(180, 1.0))[5:, N_MELS + 2].max() < 0.1


def test_what_has_no_pitch_has_none() -> None:
    seen = after(buzz(120, 10.0), hiss(1.0))
    mute = seen[:, N_MELS] == 0.0
    assert mute.mean() > 0.9
    assert (seen[mute, N_MELS + 2 :] == 0.0).all()


def test_features_are_bounded_and_of_single_precision() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[8_000] = 1.0
    seen = after(hiss(1.0, gain=1e-3), click)
    assert seen.shape[1] == N_FEATURES
    assert seen.dtype == np.float32
    assert np.abs(seen).max() <= 5.0
