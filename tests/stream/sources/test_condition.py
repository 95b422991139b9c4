from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import Block
from abhinaya.stream.sources.condition import Resampler, condition

RATES = st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 192000])


def noise(samples: int, channels: int = 1) -> Any:
    return np.random.default_rng(7).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


def cut(samples: Any, points: list[int]) -> list[Any]:
    return np.split(samples, sorted(point % (len(samples) + 1) for point in points))


@settings(max_examples=40, deadline=None)
@given(rate=RATES, points=st.lists(st.integers(0, 10**6), max_size=9), channels=st.integers(1, 3))
def test_resampling_in_pieces_equals_resampling_at_once(
    rate: int, points: list[int], channels: int
) -> None:
    samples = noise(rate // 7, channels)
    whole = Resampler(rate, channels)
    expected = np.concatenate([whole.feed(samples), whole.flush()])
    pieces = Resampler(rate, channels)
    for _ in range(2):  # a flush leaves nothing behind
        parts = [pieces.feed(part) for part in cut(samples, points)]
        assert np.array_equal(np.concatenate([*parts, pieces.flush()]), expected)
    assert abs(len(expected) - len(samples) * SAMPLE_RATE / rate) <= 1


@settings(max_examples=40, deadline=None)
@given(
    holes=st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 9000), RATES), min_size=1, max_size=6
    )
)
def test_every_sample_is_delivered_or_told_as_lost(holes: list[tuple[int, int, int]]) -> None:
    blocks = [Block(noise(n), rate, 0.0, lost) for n, lost, rate in holes]
    due = sum((n + lost) * SAMPLE_RATE / rate for n, lost, rate in holes)
    chunks = list(condition(iter(blocks), "mix", "x", print))
    given_ = sum(len(chunk.samples) + chunk.lost_samples for chunk in chunks)
    assert abs(given_ - due) <= 1 + len(holes)  # half a sample at each change of rate
    position = 0
    for chunk in chunks:
        position += chunk.lost_samples + len(chunk.samples)
        assert chunk.lost_samples >= 0


def test_a_hole_leaves_the_clock_exact() -> None:
    blocks = [Block(noise(4410), 44100, 0.0, 0 if number == 0 else 441) for number in range(50)]
    chunks = list(condition(iter(blocks), "mix", "x", print))
    total = sum(len(chunk.samples) + chunk.lost_samples for chunk in chunks)
    assert abs(total - (50 * 1600 + 49 * 160)) <= 1


def test_what_was_resampled_is_given_before_the_error() -> None:
    def breaking() -> Any:
        yield Block(noise(48000), 48000, 5.0)
        raise SourceError("x", "broke")

    parts = []
    with pytest.raises(SourceError, match="broke"):
        parts.extend(condition(breaking(), "mix", "x", print))
    assert sum(len(chunk.samples) for chunk in parts) == SAMPLE_RATE
    assert {chunk.captured_unix_s for chunk in parts} == {5.0}


def test_channels_that_change_are_mixed_but_cannot_be_split() -> None:
    blocks = [Block(noise(1600, 2), SAMPLE_RATE, 0.0), Block(noise(1600), SAMPLE_RATE, 0.0)]
    mixed = list(condition(iter(blocks), "mix", "x", print))
    assert sum(len(chunk.samples) for chunk in mixed) == 3200
    with pytest.raises(SourceError, match=r"has 1 channels instead of 2 from 0\.10 s on"):
        list(condition(iter(blocks), "split", "x", print))


def test_samples_without_scale_stay_finite_and_in_range() -> None:
    wild = np.full((4800, 2), 3e38, np.float32)
    wild[::7] = -np.inf
    chunks = list(condition(iter([Block(wild, 48000, 0.0)]), "mix", "x", print))
    heard = np.concatenate([chunk.samples for chunk in chunks])
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= 1.0
