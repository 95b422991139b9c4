"""From a transcript to hashed pieces of words. NumPy and the standard library only.

A word is known by itself and by its letter n-grams (Bojanowski et al., 2017), each hashed into one
of a fixed number of buckets: no vocabulary to ship, and a word that a recogniser misspells still
shares most of its pieces with the right one.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

PIECES_PER_WORD: Final = 12
"""K: a word and its first n-grams; the rest of a very long word is not looked at."""
WORDS_AT_MOST: Final = 64
"""W: 10 s of fast speech are under 50 words. Of more, the last are kept."""
NGRAM_SIZES: Final = (3, 4)
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


@lru_cache(maxsize=50_000)
def pieces(word: str, buckets: int, seed: int) -> tuple[int, ...]:
    """Buckets (1 to `buckets` - 1; 0 is padding) of a word and its n-grams, at most K."""
    marked = f"<{word}>"
    ngrams = [
        marked[start : start + size]
        for size in NGRAM_SIZES
        for start in range(len(marked) - size + 1)
    ]
    named = [f"={word}", *ngrams][:PIECES_PER_WORD]
    return tuple(1 + zlib.crc32(name.encode(), seed) % (buckets - 1) for name in named)


def encode(
    texts: Sequence[str], buckets: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Pieces [B, W, K] and mask [B, W] of normalised texts. W is at least 1."""
    words = [text.split()[-WORDS_AT_MOST:] for text in texts]
    longest = max([1, *(len(of) for of in words)])
    ids = np.zeros((len(texts), longest, PIECES_PER_WORD), np.int64)
    mask = np.zeros((len(texts), longest), np.float32)
    for b, of in enumerate(words):
        mask[b, : len(of)] = 1.0
        for w, word in enumerate(of):
            found = pieces(word, buckets, seed)
            ids[b, w, : len(found)] = found
    return ids, mask
