from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abhinaya.models.compact.features import (
    FRAME_SAMPLES,
    HOP_SAMPLES,
    N_MELS,
    SAMPLE_RATE,
    frame_count,
    log_mel,
    mel_filters,
    speech_frames,
)
from abhinaya.models.compact.moments import PRIOR_STD, SMALLEST_STD, Sums, heard_from
from abhinaya.models.compact.prior import PRIOR_SHAPE
from abhinaya.models.compact.running import SpeechStatistics
from abhinaya.models.compact.voice import MEL, frame_values


def voice(seconds: float, seed: int = 0, gain: float = 0.1) -> np.ndarray:
    """Noise in syllables: loud and soft by turns."""
    rng = np.random.default_rng(seed)
    n = int(seconds * SAMPLE_RATE)
    loudness = 0.05 + np.abs(np.sin(np.arange(n) * (2 * np.pi * 2.0 / SAMPLE_RATE)))
    return (gain * loudness * rng.standard_normal(n)).astype(np.float32)


@pytest.mark.parametrize(
    ("n", "frames"),
    [(0, 0), (FRAME_SAMPLES - 1, 0), (FRAME_SAMPLES, 1), (FRAME_SAMPLES + HOP_SAMPLES, 2)],
)
def test_only_whole_frames_count(n: int, frames: int) -> None:
    assert frame_count(n) == frames
    assert log_mel(np.ones(n, np.float32)).shape == (frames, N_MELS)


def test_a_tone_lights_the_bin_whose_filter_it_is_in() -> None:
    hz = 1_000.0
    tone = np.sin(2 * np.pi * hz * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    bin_of_tone = int(np.argmax(mel_filters()[round(hz / SAMPLE_RATE * 512)]))
    assert set(log_mel(tone).argmax(axis=1)) == {bin_of_tone}


def test_ten_times_louder_is_log_of_a_hundred_more() -> None:
    quiet, loud = log_mel(voice(1, gain=0.01)), log_mel(voice(1, gain=0.1))
    assert np.allclose(loud - quiet, np.log(100.0), atol=0.02)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 3 * SAMPLE_RATE), max_size=8), seed=st.integers(0, 5))
def test_fed_in_pieces_equals_fed_whole(cuts: list[int], seed: int) -> None:
    samples = voice(3, seed)
    whole, pieces = SpeechStatistics(), SpeechStatistics()
    whole.update(samples)
    for piece in np.split(samples, sorted(cuts)):
        pieces.update(piece)
    a, b = whole.heard(), pieces.heard()
    assert a.frames == b.frames
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-5)
    np.testing.assert_allclose(a.std, b.std, atol=1e-5)


def test_long_speech_gives_its_own_mean_and_deviation() -> None:
    samples = voice(30)
    statistics = SpeechStatistics(memory_s=1e9)
    statistics.update(samples)
    values = frame_values(samples)
    speech = values[speech_frames(values[:, MEL])[0]]
    loud = speech[:, MEL]
    heard = statistics.heard()
    assert heard.frames == len(loud)
    trust = len(loud) / (len(loud) + 100.0)
    level = loud.mean()
    expected = level + trust * (loud.mean(axis=0) - level) + (1 - trust) * PRIOR_SHAPE
    np.testing.assert_allclose(heard.mean[MEL], expected, atol=1e-3)
    expected_std = np.sqrt(trust * speech.var(axis=0) + (1 - trust) * PRIOR_STD**2)
    np.testing.assert_allclose(heard.std, np.maximum(expected_std, SMALLEST_STD), rtol=1e-3)


def test_a_changed_channel_takes_over() -> None:
    statistics, fresh = SpeechStatistics(memory_s=5.0), SpeechStatistics(memory_s=5.0)
    statistics.update(voice(30, gain=0.001))
    statistics.update(voice(30, seed=1))
    fresh.update(voice(30, seed=1))
    assert np.abs(statistics.heard().mean - fresh.heard().mean)[MEL].max() < 0.1


def test_frames_behind_the_statistics_stay_within_the_memory() -> None:
    statistics = SpeechStatistics(memory_s=5.0)
    for seed in range(6):
        statistics.update(voice(10, seed))
    assert statistics.heard().frames <= 5.0 * SAMPLE_RATE / HOP_SAMPLES + 1


def test_silence_and_broken_samples_are_not_heard() -> None:
    statistics = SpeechStatistics()
    statistics.update(np.zeros(SAMPLE_RATE, np.float32))
    statistics.update(np.full(SAMPLE_RATE, np.nan, np.float32))
    heard = statistics.heard()
    assert heard.frames == 0
    np.testing.assert_array_equal(heard.mean[MEL], PRIOR_SHAPE)


def test_a_pause_after_speech_is_not_heard() -> None:
    statistics = SpeechStatistics()
    statistics.update(voice(2))
    before = statistics.heard()
    rng = np.random.default_rng(3)
    statistics.update((1e-5 * rng.standard_normal(2 * SAMPLE_RATE)).astype(np.float32))
    assert statistics.heard().frames <= before.frames + 3  # the frames across the edge


def test_preview_tells_what_update_would_and_changes_nothing() -> None:
    statistics, other = SpeechStatistics(), SpeechStatistics()
    for one in (statistics, other):
        one.update(voice(1))
    before = statistics.heard()
    preview = statistics.preview(voice(1, seed=1))
    np.testing.assert_array_equal(statistics.heard().mean, before.mean)
    other.update(voice(1, seed=1))
    np.testing.assert_array_equal(preview.mean, other.heard().mean)


def test_reset_forgets_everything() -> None:
    statistics, new = SpeechStatistics(), SpeechStatistics()
    statistics.update(voice(3))
    statistics.reset()
    for one in (statistics, new):
        one.update(voice(1, seed=1))
    np.testing.assert_array_equal(statistics.heard().mean, new.heard().mean)


def test_sums_add_up() -> None:
    a, b = frame_values(voice(1)), frame_values(voice(1, seed=1))
    whole, parts = heard_from(Sums.of(np.concatenate([a, b]))), heard_from(Sums.of(a) + Sums.of(b))
    np.testing.assert_allclose(whole.mean, parts.mean, atol=1e-5)
    np.testing.assert_allclose(whole.std, parts.std, atol=1e-5)


@pytest.mark.parametrize("memory_s", [0.0, -1.0, float("nan")])
def test_memory_must_be_over_zero(memory_s: float) -> None:
    with pytest.raises(ValueError, match="over 0 seconds"):
        SpeechStatistics(memory_s)
