"""The words of a corpus as numbers, and the pieces of them that a tower has rows for.

V words, B batch, W words of a sentence, K hashed pieces of a word, U buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from abhinaya.models.compact.tokens import PIECES_PER_WORD, WORDS_AT_MOST, pieces
from abhinaya.train.data.texts import Sentence
from abhinaya.train.towers import TextTower

MOST_ROWS: Final = np.iinfo(np.int16).max
Ids = npt.NDArray[np.int64]


class Lexicon:
    """Every word of some sentences, numbered from 1; 0 is no word."""

    def __init__(self, sentences: Sequence[Sentence], buckets: int, hash_seed: int) -> None:
        texts = [sentence.text.split() for sentence in sentences]
        self._ids = {word: i for i, word in enumerate(sorted({w for of in texts for w in of}), 1)}
        self.pieces: Ids = np.zeros((len(self._ids) + 1, PIECES_PER_WORD), np.int64)
        """[V + 1, K], hashed; row 0 has none."""
        for word, i in self._ids.items():
            found = pieces(word, buckets, hash_seed)
            self.pieces[i, : len(found)] = found
        self.counts = np.bincount([self._ids[w] for of in texts for w in of], minlength=len(self))
        """[V + 1] how often each occurs."""

    def __len__(self) -> int:
        return len(self._ids) + 1

    def encode(self, texts: Sequence[str]) -> Ids:
        """Words [B, W] of texts that have no others. Of a long text the last are kept."""
        words = [text.split()[-WORDS_AT_MOST:] for text in texts]
        ids = np.zeros((len(texts), max(len(of) for of in words)), np.int64)
        for b, of in enumerate(words):
            ids[b, : len(of)] = [self._ids[word] for word in of]
        return ids


def rows_of(lexicon: Lexicon, buckets: int, seldom: int) -> npt.NDArray[np.int16]:
    """[U] row of each bucket's embedding: from 1 on, 0 where its pieces occur less than `seldom`.

    A piece that training hardly met says nothing; with a row of another it would say something.

    Raises:
        ValueError: more rows than 16 bits can name.

    """
    counts = np.repeat(lexicon.counts, lexicon.pieces.shape[1])
    met = np.bincount(lexicon.pieces.ravel(), counts, minlength=buckets)
    known = met >= seldom
    known[0] = False
    if known.sum() > MOST_ROWS:
        raise ValueError(f"{known.sum()} pieces are known, {MOST_ROWS} at most; raise `seldom`")
    return np.where(known, np.cumsum(known), 0).astype(np.int16)


class ByWord(nn.Module):
    """A text tower in training: it sums the pieces of a word once, however often that occurs."""

    pieces: Tensor

    def __init__(self, tower: TextTower, pieces: Ids) -> None:
        """`pieces` [V + 1, K]: rows of the tower's embedding for each word of a lexicon."""
        super().__init__()
        self.tower = tower
        self.register_buffer("pieces", torch.from_numpy(pieces), persistent=False)

    def forward(self, words: Tensor) -> Tensor:
        """Words [B, W] (0 is no word) -> logits [B, C]."""
        different, places = torch.unique(words, return_inverse=True)
        summed = self.tower.summed(self.pieces[different])[places]
        logits: Tensor = self.tower.read(summed, (words > 0).to(summed.dtype))
        return logits
