"""Training batches for a text tower, heard through a recogniser that errs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.tokens import encode
from abhinaya.train.data.texts import FINE, Sentence
from abhinaya.train.data.word_errors import with_errors


@dataclass(frozen=True)
class TextPlan:
    """How sentences become a batch."""

    size: int = 128
    buckets: int = 1 << 15
    hash_seed: int = 0
    most_errors: float = 0.25
    """Each sentence gets a word error rate drawn between 0 and this."""
    clean: float = 0.4
    """Share of sentences left without errors."""
    balance: float = 0.35
    """0 draws classes as often as they occur, 1 equally often."""


FINE_LABELS: Final = tuple(name for names in FINE.values() for name in names)


class TextBatches:
    """Draws batches of sentences, by seed.

    Targets have a column for each of `labels`, and after them one for each of FINE_LABELS; a
    sentence with fine labels has only those, another only the coarse ones.
    """

    def __init__(
        self, sentences: Sequence[Sentence], labels: tuple[str, ...], plan: TextPlan, seed: int
    ) -> None:
        self._sentences = sentences
        self._plan = plan
        self._rng = np.random.default_rng(seed)
        coarse = targets_of(sentences, labels)
        fine = fine_targets_of(sentences)
        known = fine.sum(axis=1, keepdims=True) > 0.0
        self._targets = np.concatenate([np.where(known, 0.0, coarse), fine], axis=1)
        self._targets = self._targets.astype(np.float32)
        counts = coarse.sum(axis=0)
        per_class = np.where(counts > 0, np.maximum(counts, 1.0) ** -plan.balance, 0.0)
        chance = (coarse @ per_class).astype(np.float64)
        self._chance = chance / chance.sum()
        self._words = common_words(sentences)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pieces [B, W, K], mask [B, W], targets [B, C + F]."""
        rng, plan = self._rng, self._plan
        chosen = rng.choice(len(self._sentences), size=plan.size, p=self._chance)
        texts = []
        for i in chosen:
            rate = 0.0 if rng.random() < plan.clean else rng.uniform(0.0, plan.most_errors)
            texts.append(with_errors(self._sentences[i].text, rate, self._words, rng))
        ids, mask = encode(texts, plan.buckets, plan.hash_seed)
        return (
            torch.from_numpy(ids),
            torch.from_numpy(mask),
            torch.from_numpy(self._targets[chosen]),
        )


def fine_targets_of(sentences: Sequence[Sentence]) -> FloatArray:
    """[N, F] equal shares of each sentence's fine labels; 0 where it has none."""
    targets = np.zeros((len(sentences), len(FINE_LABELS)), np.float32)
    for row, sentence in zip(targets, sentences, strict=True):
        for label in sentence.fine:
            row[FINE_LABELS.index(label)] = 1.0 / len(sentence.fine)
    return targets


def targets_of(sentences: Sequence[Sentence], labels: tuple[str, ...]) -> FloatArray:
    """[N, C] equal shares of each sentence's labels."""
    targets = np.zeros((len(sentences), len(labels)), np.float32)
    for row, sentence in zip(targets, sentences, strict=True):
        for label in sentence.labels:
            row[labels.index(label)] = 1.0 / len(sentence.labels)
    return targets


def common_words(sentences: Sequence[Sentence], most: int = 5_000) -> list[str]:
    """Words that occur most often: what a recogniser puts in the wrong place."""
    counts = Counter(word for sentence in sentences for word in sentence.text.split())
    return [word for word, _ in counts.most_common(most)]
