"""The language of a stream, from its segments so far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.asr import voice
from abhinaya.models.asr.voice import HELD_S, Voice


def test_a_long_segment_counts_more_than_a_short_one():
    known = (
        Voice()
        .after_segment(0.5, {"cy": 0.9, "de": 0.1})
        .after_segment(4.0, {"de": 0.8, "nl": 0.2})
    )
    assert known.language == "de"
    assert known.probability == pytest.approx((0.5 * 0.1 + 4 * 0.8) / 4.5)


def test_a_language_is_held_after_enough_speech_and_of_many_the_likeliest_are_remembered():
    known = Voice().after_segment(HELD_S - 0.1, {"de": 0.9})
    assert not known.held
    assert known.after_segment(0.2, {"nl": 0.9}).held
    known = Voice().after_segment(1.0, {f"l{n:02}": n / 100 for n in range(99)})
    assert len(known.languages) == voice.REMEMBERED
    assert known.language == "l98"


def test_texts_that_do_not_fit_make_a_stream_foreign_and_those_that_do_take_it_back():
    known = Voice().after_text(2.0, -1.2, -0.9)
    assert not known.foreign, "too little was known"
    known = known.after_text(2.5, -1.2, -0.9)
    assert known.foreign
    assert known.after_text(1.0, -0.5, -0.9).foreign, "one good text is not enough"
    for _ in range(12):
        known = known.after_text(3.0, -0.3, -0.9)
    assert not known.foreign
    for logprob in (-0.2, -0.9, -0.4, -1.2, -0.3):  # plain English
        known = known.after_text(2.0, logprob, -0.9)
        assert not known.foreign


@given(
    st.floats(0, 30),
    st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 30), max_size=8),
    st.floats(-9, 0),
    st.booleans(),
)
def test_a_state_comes_back_as_it_was(seconds, languages, logprob, foreign):
    known = Voice(seconds, languages, logprob, foreign)
    assert voice.read(voice.write(known)) == known


@pytest.mark.parametrize("state", [b"", b"\xff", b"\x93\x01\x02\x03", b"not a state" * 9])
def test_a_state_of_another_version_counts_as_nothing_known(state):
    assert voice.read(state) == Voice()
    assert (Voice().language, Voice().probability) == ("", None)
