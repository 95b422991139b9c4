"""Local agreement of two hypotheses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.asr.agreement import agreed, bare

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
