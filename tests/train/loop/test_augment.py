from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from abhinaya.models.base import SAMPLE_RATE
from abhinaya.train.data.channels import Surroundings
from abhinaya.train.loop.examples import Sound, augment, crop, mix_pair
from abhinaya.train.recipes.tables import AugmentRecipe


def tone(hz: float, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def sound(label: int, *args: float) -> Sound:
    return Sound(tone(*args), np.eye(8, dtype=np.float32)[label], f"words {label}")


SOUNDS = [sound(0, 200, 3.0), sound(1, 400, 2.0), sound(2, 800, 0.5)]


NOWHERE = Surroundings((), ())


def changed(
    i: int,
    recipe: AugmentRecipe,
    around: Surroundings = NOWHERE,
    seed: int = 0,
    epoch: int = 0,
    crop_s: float | None = None,
) -> Sound:
    return augment(
        SOUNDS.__getitem__, np.cumsum([0.1, 0.1, 0.8]), i, recipe, crop_s, around, seed, epoch
    )


def test_a_plain_plan_changes_nothing() -> None:
    for i, before in enumerate(SOUNDS):
        np.testing.assert_array_equal(changed(i, AugmentRecipe()).samples, before.samples)


def test_the_same_seed_gives_the_same_samples_whatever_ran_before() -> None:
    plan = AugmentRecipe(channel=1.0, pair=0.5)
    alone = changed(1, plan, seed=7, crop_s=1.0)
    for i in (0, 2, 1):
        last = changed(i, plan, seed=7, crop_s=1.0)
    np.testing.assert_array_equal(last.samples, alone.samples)
    for other in (
        changed(1, plan, seed=8, crop_s=1.0),
        changed(1, plan, seed=7, epoch=1, crop_s=1.0),
    ):
        assert len(other.samples) != len(alone.samples) or (other.samples != alone.samples).any()


def test_a_crop_is_a_piece_of_the_clip() -> None:
    samples = np.arange(4 * SAMPLE_RATE, dtype=np.float32)
    starts = set()
    for seed in range(20):
        piece = crop(samples, 1.5, np.random.default_rng(seed))
        assert len(piece) == 1.5 * SAMPLE_RATE
        assert (np.diff(piece) == 1.0).all()
        starts.add(float(piece[0]))
    assert len(starts) > 15
    short = samples[:100]
    assert crop(short, 1.5, np.random.default_rng(0)) is short


def test_partners_are_drawn_by_their_weights_in_any_order_and_overlap_half_the_time() -> None:
    """As SAIL mixes: the target is the mean of both, rare classes are as likely as others."""
    plan = AugmentRecipe(pair=1.0, pair_s=0.25)
    made = [changed(0, plan, seed=s) for s in range(400)]
    shares = np.mean([of.targets for of in made], axis=0)
    # clip 0 itself in half of the target, and again as the partner in a tenth of the pairs
    assert shares[:3] == pytest.approx([0.55, 0.05, 0.4], abs=0.05)
    rare = [of for of in made if of.targets[2]]
    assert {len(of.samples) / SAMPLE_RATE > 3.5 for of in rare} == {True, False}
    longer = np.mean([len(of.samples) > 3.5 * SAMPLE_RATE for of in rare])
    assert longer == pytest.approx(0.5, abs=0.1)
    first = np.mean([np.abs(of.samples[: SAMPLE_RATE // 8]).argmax() > 10 for of in rare])
    assert 0.2 < first < 0.8


def test_a_pair_with_a_gap_by_hand() -> None:
    mixed = mix_pair(SOUNDS[1], SOUNDS[2], 0.25)
    assert len(mixed.samples) == 2.75 * SAMPLE_RATE
    np.testing.assert_array_equal(mixed.samples[: 2 * SAMPLE_RATE], SOUNDS[1].samples)
    assert not mixed.samples[2 * SAMPLE_RATE : int(2.25 * SAMPLE_RATE)].any()
    np.testing.assert_array_equal(mixed.samples[int(2.25 * SAMPLE_RATE) :], SOUNDS[2].samples)
    assert mixed.words == "words 1 words 2"
    assert mixed.targets.tolist() == [0, 0.5, 0.5, 0, 0, 0, 0, 0]


def test_a_pair_that_overlaps_is_the_sum_and_never_clips() -> None:
    mixed = mix_pair(SOUNDS[1], SOUNDS[2], -0.25)
    assert len(mixed.samples) == 2.25 * SAMPLE_RATE
    over = slice(int(1.75 * SAMPLE_RATE), 2 * SAMPLE_RATE)
    both = SOUNDS[1].samples[over] + SOUNDS[2].samples[: SAMPLE_RATE // 4]
    np.testing.assert_allclose(mixed.samples[over], both, atol=1e-7)
    loud = mix_pair(sound(0, 200, 1.0, 0.9), sound(1, 200, 1.0, 0.9), -1.0)
    assert np.abs(loud.samples).max() == pytest.approx(1.0)
    # an overlap longer than the shorter clip is cut to it: the pair is the longer one
    assert len(mix_pair(SOUNDS[0], SOUNDS[2], -9.0).samples) == 3.0 * SAMPLE_RATE


def test_a_channel_is_drawn_where_the_plan_says_so(tiny: Path) -> None:
    around, half = Surroundings.find(tiny), AugmentRecipe(channel=0.5)
    count = sum(
        not np.array_equal(changed(0, half, around, seed=s).samples, SOUNDS[0].samples)
        for s in range(40)
    )
    assert 10 <= count <= 30
