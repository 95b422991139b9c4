"""Training batches for a text tower, heard through a recogniser that errs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.tokens import encode
from abhinaya.train.data.texts import Sentence
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


class TextBatches:
    """Draws batches of sentences, by seed."""

    def __init__(
        self, sentences: Sequence[Sentence], labels: tuple[str, ...], plan: TextPlan, seed: int
    ) -> None:
        self._sentences = sentences
        self._plan = plan
        self._rng = np.random.default_rng(seed)
        self._targets = targets_of(sentences, labels)
        counts = self._targets.sum(axis=0)
        per_class = np.where(counts > 0, np.maximum(counts, 1.0) ** -plan.balance, 0.0)
        chance = (self._targets @ per_class).astype(np.float64)
        self._chance = chance / chance.sum()
        self._words = common_words(sentences)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pieces [B, W, K], mask [B, W], targets [B, C]."""
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
