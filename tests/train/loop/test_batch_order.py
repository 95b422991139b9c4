from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abhinaya.train.errors import DataError
from abhinaya.train.loop.batches import epoch_steps, rate_factor, validation_batches
from abhinaya.train.recipes.tables import LossTerm, TrainRecipe

STAGE = TrainRecipe(batch=4, accumulate=2, losses=(LossTerm("ce"),))


def clips(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, n), rng.uniform(0.5, 10.0, n)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(8, 600),
    batch=st.integers(1, 5),
    accumulate=st.integers(1, 3),
    seed=st.integers(0),
)
def test_an_epoch_shows_a_clip_at_most_once_in_whole_steps(
    n: int, batch: int, accumulate: int, seed: int
) -> None:
    labels, lengths = clips(n)
    stage = replace(STAGE, batch=batch, accumulate=accumulate)
    if n < batch * accumulate:
        return
    steps = epoch_steps(labels, lengths, stage, (seed, 0))
    shown = [i for step in steps for one in step for i in one]
    assert all(len(step) == accumulate and {len(b) for b in step} == {batch} for step in steps)
    assert len(set(shown)) == len(shown)
    assert len(shown) > n - 64 * batch * accumulate  # what fills no batch of a pool, or no step


def test_batches_hold_clips_of_like_length() -> None:
    """Padding is what the longest clip of each batch costs the others."""
    labels, lengths = clips(2_000)
    steps = epoch_steps(labels, lengths, replace(STAGE, batch=8, accumulate=1), (0, 0))
    padded = sum(lengths[list(b)].max() * len(b) for step in steps for b in step)
    real = sum(lengths[list(b)].sum() for step in steps for b in step)
    shuffled = np.random.default_rng(0).permutation(2_000)[: len(steps) * 8].reshape(-1, 8)
    without = sum(lengths[b].max() * len(b) for b in shuffled) / lengths[shuffled].sum()
    assert padded / real < 1.1
    assert without > 1.5


def test_no_clip_is_always_left_out() -> None:
    labels, lengths = clips(11)
    shown = set()
    for epoch in range(30):
        steps = epoch_steps(labels, lengths, STAGE, (0, epoch))
        shown |= {i for step in steps for batch in step for i in batch}
    assert shown == set(range(11))


@pytest.mark.parametrize(
    ("sampler", "shares"),
    [
        ("undersample", (1 / 4, 1 / 4, 1 / 4, 1 / 4)),
        ("half_neutral", (0.4, 0.2, 0.2, 0.2)),
        ("shuffle", (0.4, 0.1, 0.1, 0.4)),
    ],
)
def test_clips_without_a_class_join_as_a_share(sampler: str, shares: Sequence[float]) -> None:
    """MEDUSA's second stage: balanced, and one clip of `other` for every so many."""
    labels = np.repeat([0, 1, 2, -1], [400, 100, 100, 400])
    others = {"undersample": 1 / 3, "half_neutral": 0.25}.get(sampler, 0.0)
    stage = TrainRecipe(batch=4, accumulate=1, sampler=sampler, others=others)
    steps = epoch_steps(labels, np.ones(len(labels)), stage, (0, 0), neutral=0)
    rows = [i for step in steps for batch in step for i in batch]
    found = [float(np.mean(labels[rows] == c)) for c in (0, 1, 2, -1)]
    assert found == pytest.approx(shares, abs=0.04)


def test_too_few_clips_for_a_step_say_what_to_lower() -> None:
    labels, lengths = clips(7)
    with pytest.raises(DataError, match=r"7 training clips fill no step of 2 batches of 4; lower"):
        epoch_steps(labels, lengths, STAGE, (0, 0))


def test_validation_sees_every_clip_once() -> None:
    _, lengths = clips(13)
    batches = validation_batches(lengths, 4)
    assert sorted(i for batch in batches for i in batch) == list(range(13))
    assert [len(b) for b in batches] == [4, 4, 4, 1]


def test_the_learning_rate_warms_up_and_falls() -> None:
    stage = TrainRecipe(rate=1.0, warmup=0.1, schedule="linear", losses=(LossTerm("ce"),))
    rates = [rate_factor(stage, k, 100) for k in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(1 / 90)
    cosine = replace(stage, schedule="cosine", warmup=0.0)
    assert rate_factor(cosine, 50, 100) == pytest.approx(0.5)
    assert rate_factor(replace(stage, schedule="constant", warmup=0.0), 73, 100) == 1.0
