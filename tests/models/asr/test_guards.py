"""What is not believed, and why."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.asr.guards import (
    SPHINX,
    WHISPER,
    Evidence,
    Guards,
    doubt,
    read_guards,
    repeats,
)
from abhinaya.stream.errors import ModelError

LOOSE = Guards(no_speech=1.0, most_compression=99.0, most_repeats=99, most_words_per_s=99.0)


def evidence(text="so it goes", seconds=2.0, **known):
    return Evidence(text, seconds, **known)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (evidence(), ""),
        (evidence(no_speech=0.9, logprob=-1.5), "no speech (probability 0.90)"),
        (evidence(no_speech=0.9, logprob=-0.5), ""),
        (evidence(no_speech=0.5, logprob=-1.5), ""),
        (evidence(no_speech=0.9), ""),
        (evidence("thank you " * 30, 10.0), "the recogniser repeated itself"),
        (evidence("no no no no no"), ""),
        (evidence("no no no no no no"), "the recogniser repeated itself"),
        (evidence("one two three four five six seven", 1.0), ""),
        (evidence("one two three four five six seven eight nine ten", 1.0), "more words than fit"),
        (evidence(confidence=0.0), ""),
        (evidence(spoken_s=9.0), ""),
    ],
)
def test_each_rule_says_why(given, reason):
    assert doubt(given, WHISPER).startswith(reason)
    assert bool(doubt(given, WHISPER)) == bool(reason)


@pytest.mark.parametrize(
    ("changed", "given"),
    [
        ({"no_speech": 0.6}, evidence(no_speech=0.7, logprob=-2.0)),
        ({"most_compression": 2.4}, evidence("na " * 60, 20.0)),
        ({"most_repeats": 2}, evidence("ha ha ha")),
        ({"most_words_per_s": 1.0}, evidence("a b c d", 1.0)),
        ({"least_confidence": 0.5}, evidence(confidence=0.4)),
        ({"least_letters_per_s": 7.0}, evidence("oh no", 1.0, spoken_s=0.8)),
    ],
)
def test_each_threshold_decides_alone(changed, given):
    assert doubt(given, LOOSE) == ""
    assert doubt(given, dataclasses.replace(LOOSE, **changed)) != ""


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("", 0),
        ("a", 1),
        ("a b a b", 2),
        ("a b c a b c a b c", 3),
        ("x a a a a y", 4),
        ("a b c d", 1),
        ("you know you know you know i", 3),
        ("a b a", 1),
    ],
)
def test_repeats_are_counted_in_a_row(text, times):
    assert repeats(text.split()) == times


@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4),
    st.integers(1, 6),
    st.lists(st.sampled_from("cd"), max_size=3),
)
def test_a_planted_loop_is_found(phrase, times, around):
    assert repeats([*around, *phrase * times, *around]) >= times


def test_a_profile_changes_what_it_names():
    assert read_guards(SPHINX, None) == SPHINX
    changed = read_guards(SPHINX, {"most_repeats": 9})
    assert changed == dataclasses.replace(SPHINX, most_repeats=9)


def test_every_fault_is_named_at_once():
    with pytest.raises(ModelError) as caught:
        read_guards(WHISPER, {"no_speach": 0.1, "most_repeats": 0})
    assert "did you mean 'no_speech'" in str(caught.value)
    assert "asr.options.guards.most_repeats = 0 is below 1" in str(caught.value)


def test_guards_are_a_table():
    with pytest.raises(ModelError, match="must be a table"):
        read_guards(WHISPER, 3)
