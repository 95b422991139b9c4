"""What towers that never saw a sentence make of it: a second opinion beside its noisy labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from abhinaya.models.base import FloatArray
from abhinaya.train.data.texts import Sentence
from abhinaya.train.text_batches import FINE_LABELS
from abhinaya.train.text_words import Lexicon

AT_ONCE = 500
Learn = Callable[[Sequence[Sentence], int], nn.Module]
"""Trains a tower on sentences, by a seed."""


def taught_by_others(
    sentences: Sequence[Sentence], lexicon: Lexicon, folds: int, seed: int, learn: Learn
) -> FloatArray:
    """Chances [N, F] of the fine labels, of each sentence by the tower that learnt from the rest.

    The teacher reads a sentence without errors, the pupil with them: so that the pupil learns to
    be as sure as what is left allows. A teacher that had learnt the sentence would only repeat its
    labels.
    """
    fold = np.random.default_rng(seed).integers(folds, size=len(sentences))
    taught = np.zeros((len(sentences), len(FINE_LABELS)), np.float32)
    for k in range(folds):
        tower = learn([s for s, of in zip(sentences, fold, strict=True) if of != k], seed + k)
        mine = np.flatnonzero(fold == k)
        for start in range(0, len(mine), AT_ONCE):
            some = mine[start : start + AT_ONCE]
            taught[some] = _chances(tower, lexicon, [sentences[i].text for i in some])
    return taught


@torch.no_grad()
def _chances(tower: nn.Module, lexicon: Lexicon, texts: Sequence[str]) -> FloatArray:
    words = torch.from_numpy(lexicon.encode(texts))
    chances: FloatArray = tower.eval()(words).softmax(dim=1).numpy()
    return chances
