"""Local agreement of two hypotheses, and who follows which segment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.asr.agreement import agreed, bare
from abhinaya.models.asr.pool import STALE_S, Pool

WORDS = st.lists(st.sampled_from(["a", "A,", "b", "b.", "c"]), max_size=6)


@pytest.mark.parametrize(
    ("before", "now", "count"),
    [
        ("", "", 0),
        ("", "the cat", 0),
        ("the cat", "the cat sat", 2),
        ("the cap", "the cat sat", 1),
        ("a cat sat", "the cat sat", 0),
        ("the cat sat", "the cat", 2),
        ("The cat.", "the cat, sat", 2),
        ("it's", "its", 0),
        ("- the", "\u2014 the", 2),
    ],
)
def test_what_two_passes_have_in_common_from_the_start_is_settled(before, now, count):
    assert agreed(before.split(), now.split()) == count


@given(WORDS, WORDS)
def test_agreement_is_the_longest_common_beginning(before, now):
    count = agreed(before, now)
    assert count == agreed(now, before) <= min(len(before), len(now))
    assert [bare(w) for w in before[:count]] == [bare(w) for w in now[:count]]
    if count < min(len(before), len(now)):
        assert bare(before[count]) != bare(now[count])


@pytest.mark.parametrize(("word", "inside"), [("", ""), ("...", ""), ('"Don\'t!"', "don't")])
def test_marks_around_a_word_are_no_part_of_it(word, inside):
    assert bare(word) == inside


class Helper:
    made = 0

    def __init__(self):
        Helper.made += 1


def pool(size):
    Helper.made = 0
    return Pool(Helper(), Helper, size)


def test_helpers_are_made_when_needed_and_used_again():
    helpers = pool(2)
    assert Helper.made == 1
    first = helpers.lend(0.0, ("a", 1))
    assert helpers.find(1.0, ("a", 1)) is first
    assert helpers.find(1.0, ("a", 2)) is None
    assert helpers.lend(1.0, ("b", 1)) is not first
    assert helpers.lend(2.0, ("c", 1)) is None, "both are at work"
    helpers.take_back(("a", 1))
    helpers.take_back(("a", 1))
    assert helpers.lend(3.0, ("c", 1)) is first
    assert (Helper.made, len(helpers)) == (2, 2)


def test_what_is_beyond_the_limit_has_one_of_its_own():
    helpers = pool(1)
    first = helpers.spare()
    assert helpers.lend(0.0, ("a", 1)) is first, "it was free"
    beyond = helpers.spare()
    assert beyond is not first
    assert helpers.spare() is beyond
    assert helpers.lend(0.0, ("b", 1)) is None, "the limit is of those that follow a segment"
    helpers.take_back(("a", 1))
    assert helpers.lend(1.0, ("b", 1)) in (first, beyond)
    assert Helper.made == 2


def test_nobody_is_lent_where_there_are_none():
    assert pool(0).lend(0.0, ("a", 1)) is None


def test_a_later_segment_of_a_stream_ends_the_one_before():
    helpers = pool(1)
    first = helpers.lend(0.0, ("a", 1))
    assert helpers.lend(1.0, ("a", 2)) is first
    assert helpers.find(1.0, ("a", 1)) is None
    assert helpers.lend(1.0, ("b", 9)) is None, "another stream must wait"
    assert helpers.lend(1.0, ("a", 1)) is None, "and so must an earlier one of the same"


def test_a_segment_that_was_silent_for_long_lost_its_end():
    helpers = pool(2)
    silent, busy = helpers.lend(0.0, ("a", 1)), helpers.lend(0.0, ("b", 1))
    assert helpers.find(STALE_S - 1, ("b", 1)) is busy
    assert helpers.lend(STALE_S, ("c", 1)) is None
    assert helpers.lend(STALE_S + 1, ("c", 1)) is silent
    assert helpers.find(STALE_S + 1, ("b", 1)) is busy
    assert len(helpers) == 2


@given(
    st.lists(
        st.tuples(st.sampled_from("lfr"), st.sampled_from("abc"), st.integers(0, 3)), max_size=40
    )
)
def test_nobody_helps_two_at_once(steps):
    helpers, now, held = pool(2), 0.0, {}
    for what, *key in steps:
        now, key = now + 7, tuple(key)
        if what == "r":
            helpers.take_back(key)
            held.pop(key, None)
        elif helper := helpers.find(now, key) or (what == "l" and helpers.lend(now, key)):
            held[key] = helper
        known = {k: helpers.find(now, k) for k in held}
        helping = [id(helper) for helper in known.values() if helper]
        assert len(set(helping)) == len(helping) <= 2
