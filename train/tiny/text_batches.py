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
from abhinaya.models.tiny.tokens import WordPieces
from abhinaya.train.data.texts import FINE, Sentence, with_errors


@dataclass(frozen=True)
class TextPlan:
    """How sentences become a batch."""

    size: int = 32
    most_errors: float = 0.5
    """Each sentence gets a word error rate drawn between 0 and this."""
    clean: float = 0.2
    """Share of sentences left without errors."""
    balance: float = 0.35
    """0 draws classes as often as they occur, 1 equally often."""
    taught: float = 0.75
    """What the teacher counts beside the labels, where there is one."""


FINE_LABELS: Final = tuple(name for names in FINE.values() for name in names)
DRAWN_AT_ONCE: Final = 8
"""Batches, sorted by length among them: a batch of like lengths has little padding."""


class TextBatches:
    """Draws batches of sentences, by seed.

    Targets have a column for each of `labels`, and after them one for each of FINE_LABELS; a
    sentence with fine labels has only those, another only the coarse ones. What a teacher says
    of a sentence is over the fine ones.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        labels: tuple[str, ...],
        plan: TextPlan,
        seed: int,
        pieces: WordPieces,
        taught: FloatArray | None = None,
    ) -> None:
        """`taught` [N, F] is a teacher's chances."""
        self._sentences = sentences
        self._plan = plan
        self._rng = np.random.default_rng(seed)
        self._pieces = pieces
        coarse = targets_of(sentences, labels)
        self._targets = labelled(coarse, fine_targets_of(sentences))
        if taught is not None:
            said = np.concatenate([np.zeros_like(coarse), taught], axis=1)
            mixed = (1.0 - plan.taught) * self._targets + plan.taught * said
            self._targets = mixed.astype(np.float32)
        counts = coarse.sum(axis=0)
        per_class = np.where(counts > 0, np.maximum(counts, 1.0) ** -plan.balance, 0.0)
        chance = (coarse @ per_class).astype(np.float64)
        self._chance = chance / chance.sum()
        self._words = common_words(sentences)
        self._ready: list[tuple[Tensor, Tensor, Tensor]] = []

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pieces [B, L], their mask [B, L], targets [B, C + F]."""
        if not self._ready:
            self._ready = self._some()
        return self._ready.pop()

    def _some(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        rng, plan = self._rng, self._plan
        chosen = rng.choice(len(self._sentences), size=DRAWN_AT_ONCE * plan.size, p=self._chance)
        texts = []
        for i in chosen:
            rate = 0.0 if rng.random() < plan.clean else rng.uniform(0.0, plan.most_errors)
            texts.append(with_errors(self._sentences[i].text, rate, self._words, rng))
        by_length = sorted(range(len(texts)), key=lambda n: len(texts[n].split()))
        found = []
        for start in rng.permutation(DRAWN_AT_ONCE) * plan.size:
            batch = by_length[start : start + plan.size]
            ids, mask = self._pieces.encode([texts[n] for n in batch])
            targets = torch.from_numpy(self._targets[chosen[batch]])
            found.append((torch.from_numpy(ids), torch.from_numpy(mask), targets))
        return found


def labelled(coarse: FloatArray, fine: FloatArray) -> FloatArray:
    """[N, C] and [N, F] -> [N, C + F]: the fine labels where there are any, else the coarse."""
    known = fine.sum(axis=1, keepdims=True) > 0.0
    return np.concatenate([np.where(known, 0.0, coarse), fine], axis=1).astype(np.float32)


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
