"""Tokeniser of the text network: WordPiece (Wu et al., 2016), as in BERT (Devlin et al., 2019).

The first piece is the longest known beginning of a word, the next one the longest known
continuation, and so on. A misspelt word still shares pieces with the right one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

PADDING, UNKNOWN, FIRST, LAST = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CONTINUES: Final = "##"
"""Prefix of a piece that continues a word."""
PIECES_AT_MOST: Final = 96
"""Maximum L. 10 s of fast speech have under 50 words. Of longer texts the end is kept."""
PIECES_PER_WORD: Final = 12
"""The rest of a longer word is ignored."""
APOSTROPHES: Final = frozenset("'`\u2019\u00b4")


def normalise_text(text: str) -> str:
    """Return the text in lower case, without punctuation, as a speech recogniser writes.

    Apostrophes are removed (`don't` becomes `dont`); other marks become a space.
    """
    letters = []
    for letter in unicodedata.normalize("NFKC", text).lower():
        if letter in APOSTROPHES:
            continue
        letters.append(letter if letter.isalnum() else " ")
    return " ".join("".join(letters).split())


class WordPieces:
    """A vocabulary of word pieces. A piece's id is its index."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        """Index `vocabulary`, which must contain SPECIAL.

        Raises:
            ValueError: a special piece is missing.

        """
        self.vocabulary = tuple(vocabulary)
        self._ids = {piece: i for i, piece in enumerate(self.vocabulary)}
        if missing := [piece for piece in SPECIAL if piece not in self._ids]:
            raise ValueError(f"the vocabulary has no {', '.join(missing)}")
        self._padding, self._unknown, self._first, self._last = (self._ids[p] for p in SPECIAL)
        self._words: dict[str, tuple[int, ...]] = {}

    def of_word(self, word: str) -> tuple[int, ...]:
        """Return the pieces of one word without its accents, at most PIECES_PER_WORD."""
        if (known := self._words.get(word)) is None:
            apart = unicodedata.normalize("NFD", word)
            plain = "".join(letter for letter in apart if not unicodedata.combining(letter))
            known = tuple(self._split(plain)[:PIECES_PER_WORD])
            if len(self._words) < 50_000:  # limits memory; a speaker uses fewer words
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
        """Return pieces [B, L], from FIRST to LAST, and mask [B, L] of normalised texts."""
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
