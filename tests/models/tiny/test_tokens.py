from __future__ import annotations

from pathlib import Path

import pytest
from transformers import BertTokenizer

from abhinaya.models.tiny.tokens import (
    PIECES_AT_MOST,
    PIECES_PER_WORD,
    SPECIAL,
    UNKNOWN,
    WordPieces,
    normalise_text,
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
    assert normalise_text(text) == normalise_text(expected) == expected


CONTINUED = ("##e", "##d", "##n", "##y", "##ness")
VOCABULARY = (*SPECIAL, *"abdehilnoprstuy", "happi", "happy", "un", *CONTINUED)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("happy", ["happy"]),
        ("happiness", ["happi", "##ness"]),
        ("unhappy", ["un", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "##y"]),  # no ##h, ##a, ##p
        ("bed", ["b", "##e", "##d"]),
        ("b\u00e9d", ["b", "##e", "##d"]),
        ("\u0142", [UNKNOWN]),
    ],
)
def test_a_word_is_its_longest_known_pieces(word: str, expected: list[str]) -> None:
    known = WordPieces(VOCABULARY)
    assert [known.vocabulary[i] for i in known.of_word(word)] == expected
    assert len(known.of_word("happi" + "y" * 500)) == PIECES_PER_WORD


def test_a_text_stands_between_its_marks_and_is_padded() -> None:
    known = WordPieces(VOCABULARY)
    ids, mask = known.encode(["happy bed", "", "happiness"])
    padding, unknown, first, last = (VOCABULARY.index(piece) for piece in SPECIAL)
    happy, b, e, d = (VOCABULARY.index(piece) for piece in ("happy", "b", "##e", "##d"))
    assert ids[0].tolist() == [first, happy, b, e, d, last]
    assert ids[1].tolist() == [first, last, *[padding] * 4]
    assert mask.sum(axis=1).tolist() == [6, 2, 4]
    assert unknown not in ids


def test_of_too_long_a_text_the_last_is_kept() -> None:
    known = WordPieces(VOCABULARY)
    (long,), mask = known.encode(["happy " * 500 + "bed"])
    assert mask.shape == (1, PIECES_AT_MOST)
    (short,), _ = known.encode(["happy bed"])
    assert long[-5:].tolist() == short[-5:].tolist()
    with pytest.raises(ValueError, match=r"has no \[UNK\]"):
        WordPieces([piece for piece in VOCABULARY if piece != UNKNOWN])


@pytest.mark.parametrize("text", ["happy happiness bed", "bedded bden b\u00e9d happiy", "un t", ""])
def test_words_are_split_as_transformers_does_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    theirs = BertTokenizer.from_pretrained(str(tmp_path))
    ours = WordPieces(VOCABULARY).encode([text])[0][0].tolist()
    assert ours == theirs(text)["input_ids"]
    assert VOCABULARY.index(UNKNOWN) not in ours
