"""Rejected texts with their reasons, and segments that are decoded again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.asr.guards import (
    OFF,
    Evidence,
    Guards,
    needs_retry,
    read_guards,
    rejection,
    repeats,
    speech_seconds,
)
from abhinaya.models.errors import OptionsError

LOOSE = read_guards(OFF)


def evidence(text="so it goes", seconds=2.0, **known):
    tokens = known.pop("tokens", len(text.split()) + 1)
    values = {
        "tokens": tokens,
        "different": tokens,
        "speech_s": 1.0,
        "no_speech": 0.1,
        "logprob": -0.3,
        "whole": False,
    }
    return Evidence(text, seconds=seconds, **values | known)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (evidence(), ""),
        (evidence(""), "no words recognised"),
        (evidence("... -"), "no words recognised"),
        (evidence(no_speech=0.9), "hardly speech (evidence -0.80 for the words)"),
        (evidence(no_speech=0.9, tokens=20), ""),
        (evidence(logprob=-0.95), "hardly speech"),
        (evidence(logprob=-0.85), "hardly speech"),
        (evidence(logprob=-0.85, whole=True), ""),
        (evidence("Oh, wow!", logprob=-0.6), "hardly speech"),
        (evidence("Oh, wow!", logprob=-0.6, whole=True), "hardly speech"),
        (evidence("Oh, wow!", logprob=-0.4), ""),
        (evidence("Oh, well!", logprob=-0.6), ""),
        (evidence(logprob=-0.95, tokens=20, different=4), "hardly speech"),
        (evidence(logprob=-0.95, tokens=20), ""),
        (evidence(logprob=-1.1, tokens=20), "not understood (log probability -1.10)"),
        (evidence("thank you " * 30, 10.0), "the recogniser repeated itself"),
        (evidence("no no no no no"), ""),
        (evidence("no no no no no no"), "the recogniser repeated itself"),
        (evidence("one two three four five six seven", 1.0), ""),
        (evidence("one two three four five six seven eight nine ten", 1.0), "more words than fit"),
    ],
)
def test_each_rule_says_why(given, reason):
    assert rejection(given, Guards()).startswith(reason)
    assert bool(rejection(given, Guards())) == bool(reason)


@pytest.mark.parametrize(
    ("changed", "given"),
    [
        ({"least_evidence": -0.53}, evidence(logprob=-1.0)),
        ({"least_evidence_30s": -0.53}, evidence(logprob=-1.0, whole=True)),
        ({"least_cry_evidence": -0.3}, evidence("Ha ha.", logprob=-0.6)),
        ({"least_logprob": -1.0}, evidence(logprob=-1.1, tokens=20)),
        ({"most_compression": 2.4}, evidence("na " * 60, 20.0)),
        ({"most_repeats": 2}, evidence("ha ha ha")),
        ({"most_words_per_s": 1.0}, evidence("a b c d", 1.0)),
    ],
)
def test_each_threshold_decides_alone(changed, given):
    assert rejection(given, LOOSE) == ""
    assert rejection(given, dataclasses.replace(LOOSE, **changed)) != ""


@pytest.mark.parametrize(
    ("given", "again"),
    [
        (evidence(), False),
        (evidence("and so on " * 20, 10.0), True),
        (evidence(logprob=-1.1, tokens=20), True),
        (evidence(logprob=-0.9), True),
        (evidence("Eleanor, welcome.", 8.0, tokens=5, speech_s=6.0), True),
        (evidence("Eleanor, welcome.", 8.0, tokens=5, speech_s=1.5), False),
    ],
)
def test_a_doubtful_text_is_decoded_again(given, again):
    assert needs_retry(given, Guards()) is again


@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=4),
    st.integers(1, 6),
    st.lists(st.sampled_from("cd"), max_size=3),
)
def test_repeats_are_counted_in_a_row(phrase, times, around):
    for text, expected in (("", 0), ("a", 1), ("a b c d", 1), ("a b a", 1), ("x a a y", 2)):
        assert repeats(text.split()) == expected
    assert repeats([*around, *phrase * times, *around]) >= times


def test_speech_is_what_is_nearly_as_loud_as_the_loudest():
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    noise[8_000:16_000] *= 0.001
    noise[24_000:] = 0.0
    assert speech_seconds(noise) == pytest.approx(1.0, abs=0.02)
    assert speech_seconds(noise * 1e-3) == pytest.approx(1.0, abs=0.02)
    assert speech_seconds(noise[:100]) == 0.0


def test_a_profile_changes_what_it_names_and_every_fault_is_named_at_once():
    assert read_guards(None) == Guards()
    assert read_guards({"most_repeats": 9}) == dataclasses.replace(Guards(), most_repeats=9)
    with pytest.raises(OptionsError) as caught:
        read_guards({"least_logprop": 0.1, "most_repeats": 0})
    assert "did you mean 'least_logprob'" in str(caught.value)
    assert "asr.options.guards.most_repeats = 0 is below 1" in str(caught.value)
    with pytest.raises(OptionsError, match="must be a table"):
        read_guards(3)
