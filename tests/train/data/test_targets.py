from __future__ import annotations

import numpy as np
import pytest

from abhinaya.train.errors import DataError
from abhinaya.train.loop.batches import balanced_draw, undersample
from abhinaya.train.loop.examples import class_counts, drop_votes

SKEWED = np.repeat([0, 1, 2, -1], [900, 90, 10, 50])


def test_dropped_votes_are_of_the_leader_and_one_stays() -> None:
    rng = np.random.default_rng(0)
    votes = {"sad": 3.0, "fear": 1.0}
    left = [drop_votes(votes, 0.2, rng) for _ in range(4_000)]
    assert all(of["fear"] == 1.0 for of in left)
    assert np.mean([of.get("sad", 0.0) for of in left]) == pytest.approx(2.4, abs=0.05)
    assert drop_votes({"sad": 5.0}, 1.0, rng) == {"sad": 1.0}
    assert drop_votes({"sad": 1.0, "fear": 1.0}, 1.0, rng) == {"sad": 1.0}
    assert drop_votes({"sad": 0.5, "fear": 0.5}, 1.0, rng) == {"sad": 0.5, "fear": 0.5}
    assert drop_votes(votes, 0.0, rng) == votes
    assert drop_votes({}, 0.5, rng) == {}


def test_samplers_have_the_shares_they_promise() -> None:
    rng = np.random.default_rng(0)
    rows = undersample(SKEWED, 50, rng)
    assert [int((SKEWED[rows] == c).sum()) for c in (0, 1, 2, -1)] == [50, 50, 10, 0]
    assert len(set(rows.tolist())) == len(rows)
    drawn = SKEWED[balanced_draw(SKEWED, 9_000, rng)]
    assert [np.mean(drawn == c) for c in (0, 1, 2)] == pytest.approx([1 / 3] * 3, abs=0.02)
    assert (drawn >= 0).all()
    assert len(undersample(np.array([-1, -1]), 5, rng)) == 0
    assert len(undersample(SKEWED, 0, rng)) == 3 * 10  # as the rarest
    with pytest.raises(DataError, match="no clip has a label"):
        balanced_draw(np.array([-1]), 5, rng)


def test_an_empty_class_is_named() -> None:
    assert class_counts(SKEWED, ("x", "y", "z")) == (900, 90, 10)
    with pytest.raises(DataError, match="contempt, disgust; add a corpus"):
        class_counts(np.array([0, 3, 4, 5, 6, 7]))
