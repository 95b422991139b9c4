"""From a transcript to the word pieces that a text tower reads. NumPy and the standard library.

Pieces are WordPiece's (Wu et al., 2016), as BERT reads them (Devlin et al., 2019): the longest
known beginning of a word, then the longest known continuation of what is left, and so on. A word
that a recogniser misspells still shares some of its pieces with the right one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

PADDING, UNKNOWN, FIRST, LAST = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CONTINUES: Final = "##"
"""Before a piece that does not begin its word."""
PIECES_AT_MOST: Final = 96
"""L: 10 s of fast speech are under 50 words. Of more, the last are kept."""
PIECES_PER_WORD: Final = 12
"""Of a very long word the rest is not looked at."""
APOSTROPHES: Final = frozenset("'`\u2019\u00b4")


def normalise_text(text: str) -> str:
    """Lower case, no punctuation, single spaces: what a speech recogniser would have written.

    Apostrophes vanish inside a word (`don't` is `dont`), other marks part words.
    """
    letters = []
    for letter in unicodedata.normalize("NFKC", text).lower():
        if letter in APOSTROPHES:
            continue
        letters.append(letter if letter.isalnum() else " ")
    return " ".join("".join(letters).split())


class WordPieces:
    """A vocabulary of word pieces, each known by its place in it."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """`vocabulary` has the four of SPECIAL, wherever.

        Raises:
            ValueError: it lacks one of them.

        """
        self.vocabulary = tuple(vocabulary)
        self._ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        if missing := [piece for piece in SPECIAL if piece not in self._ids]:
            raise ValueError(f"a vocabulary of word pieces without {', '.join(missing)}")
        self._padding, self._unknown, self._first, self._last = (self._ids[p] for p in SPECIAL)
        self._words: dict[str, tuple[int, ...]] = {}

    def of_word(self, word: str) -> tuple[int, ...]:
        """Give the pieces of one word without its accents, at most PIECES_PER_WORD."""
        if (known := self._words.get(word)) is None:
            apart = unicodedata.normalize("NFD", word)
            plain = "".join(letter for letter in apart if not unicodedata.combining(letter))
            known = tuple(self._split(plain)[:PIECES_PER_WORD])
            if len(self._words) < 50_000:  # people who speak for days still know fewer words
                self._words[word] = known
        return known

    def _split(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word):
            before = CONTINUES if start else ""
            for end in range(len(word), start, -1):
                if (piece := self._ids.get(before + word[start:end])) is not None:
                    break
            else:
                piece, end = self._unknown, start + 1
            found.append(piece)
            start = end
        return found

    def encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Pieces [B, L] and mask [B, L] of normalised texts, between FIRST and LAST."""
        rows = []
        for text in texts:
            inside = [piece for word in text.split() for piece in self.of_word(word)]
            rows.append([self._first, *inside[-(PIECES_AT_MOST - 2) :], self._last])
        ids = np.full((len(rows), max(map(len, rows))), self._padding, np.int64)
        mask = np.zeros(ids.shape, np.float32)
        for b, row in enumerate(rows):
            ids[b, : len(row)] = row
            mask[b, : len(row)] = 1.0
        return ids, mask
