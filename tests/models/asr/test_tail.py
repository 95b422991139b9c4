"""Words settled by partials, and loops of tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.asr import tail as module
from abhinaya.models.asr.base import Hearing
from abhinaya.models.asr.tail import Tail, Tails, agreed, bare, without_loop

WORDS = st.lists(st.sampled_from(["a", "A,", "b", "b.", "c"]), max_size=6)


class Words:
    """Every token is a word of its own."""

    def split_to_word_tokens(self, tokens):
        return [str(token) for token in tokens], [[token] for token in tokens]


def part(seed=0, seconds=1, stream="call", sequence=0):
    noise = np.random.default_rng(seed).standard_normal(160_000).astype(np.float32)
    return Hearing(noise[: seconds * 16_000], stream, sequence, final=False)


def grow(tails, hearing, written):
    tail = tails.of(hearing).grown(hearing.samples, written, Words())
    tails.keep(hearing, tail)
    return tail.settled, tail.open


def test_words_that_two_passes_agree_on_settle_and_the_next_pass_writes_on():
    tails = Tails()
    assert grow(tails, part(seconds=1), (1, 2)) == ((), (1, 2))
    assert grow(tails, part(seconds=2), (1, 2, 3)) == ((1, 2), (3,))
    assert grow(tails, part(seconds=3), (4, 5)) == ((1, 2), (4, 5))
    assert grow(tails, part(seconds=4), (4, 6)) == ((1, 2, 4), (6,))
    assert grow(tails, part(seconds=5), ()) == ((1, 2, 4), ())


def test_segments_do_not_share_what_was_said():
    tails = Tails()
    grow(tails, part(), (1,))
    for other in (part(sequence=1), part(stream="other")):
        assert tails.of(other).open == ()
    assert tails.of(part()).open == (1,)


@pytest.mark.parametrize("other", [part(seed=1, seconds=2), part(seconds=1)])
def test_what_begins_otherwise_or_is_shorter_is_followed_anew(other):
    tails = Tails()
    grow(tails, part(seconds=2), (1,))
    assert tails.of(other).open == ()


def test_after_its_end_nothing_is_kept():
    tails = Tails()
    grow(tails, part(), (1,))
    tails.drop("call", 0)
    tails.drop("call", 0)
    assert tails.of(part()) == Tail(part().samples[:1600].tobytes(), 0)


def test_of_segments_without_an_end_the_oldest_is_dropped(monkeypatch):
    monkeypatch.setattr(module, "MOST_FOLLOWED", 2)
    tails = Tails()
    for sequence in (1, 2, 1, 3):
        grow(tails, part(sequence=sequence), (sequence,))
    lengths = [tails.of(part(sequence=n)).length for n in (1, 2, 3)]
    assert lengths == [16_000, 0, 16_000]


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ("", ""),
        ("abcabc", "abcabc"),
        ("xabcabcabcy", "xabc"),
        ("nonono", "nonono"),
        ("nononononono", "no"),
        ("yesyesyes", "yes"),
        ("aaaa", "aaaa"),
        ("xaaaaay", "xa"),
        ("abcdefghijklmnop" * 3, "abcdefghijklmnop"),
    ],
)
def test_a_loop_is_cut_after_its_first_time(tokens, kept):
    assert "".join(map(chr, without_loop([ord(c) for c in tokens]))) == kept


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
    """Marks around a word are no part of it."""
    assert [bare(word) for word in ("", "...", '"Don\'t!"')] == ["", "", "don't"]
    count = agreed(before, now)
    assert count == agreed(now, before) <= min(len(before), len(now))
    assert [bare(w) for w in before[:count]] == [bare(w) for w in now[:count]]
    if count < min(len(before), len(now)):
        assert bare(before[count]) != bare(now[count])
