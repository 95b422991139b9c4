from __future__ import annotations

import numpy as np
import pytest

from abhinaya.models.compact.tokens import (
    PIECES_PER_WORD,
    WORDS_AT_MOST,
    encode,
    normalise_text,
    pieces,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don\u2019t STOP!", "dont stop"),
        ("well-known ... (really?)", "well known really"),
        ("  \n\t ", ""),
        ("?!…", ""),
        ("Zażółć gęślą", "zażółć gęślą"),
        ("ﬁne", "fine"),
    ],
)
def test_text_becomes_what_a_recogniser_would_write(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


def test_normalising_twice_changes_nothing() -> None:
    once = normalise_text("I'm... SO happy — you see?")
    assert normalise_text(once) == once


def test_pieces_are_stable_across_runs_and_never_padding() -> None:
    # planted: crc32 is fixed for all time, and shipped weights depend on it
    assert pieces("no", 1 << 15, 0) == (57, 26514, 4631, 2777)
    assert all(0 < piece < 64 for word in ("a", "happy", "x" * 50) for piece in pieces(word, 64, 3))


def test_a_misspelt_word_shares_pieces_with_the_right_one() -> None:
    right, wrong = set(pieces("terrified", 1 << 20, 0)), set(pieces("terified", 1 << 20, 0))
    assert len(right & wrong) >= 3


def test_encoding_pads_words_and_pieces() -> None:
    ids, mask = encode(["one two three", "one", ""], 1 << 15, 0)
    assert ids.shape == (3, 3, PIECES_PER_WORD)
    assert mask.sum(axis=1).tolist() == [3, 1, 0]
    np.testing.assert_array_equal(ids[0, 0], ids[1, 0])
    assert not ids[1, 1:].any()


def test_of_too_many_words_the_last_are_kept() -> None:
    many = [f"word{i}" for i in range(WORDS_AT_MOST + 5)]
    ids, mask = encode([" ".join(many), " ".join(many[5:])], 1 << 15, 0)
    assert mask.shape == (2, WORDS_AT_MOST)
    np.testing.assert_array_equal(ids[0], ids[1])
