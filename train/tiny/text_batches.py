"""Draws training batches for a text network, with simulated recognition errors."""

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
    """Settings of the batches."""

    size: int = 32
    most_errors: float = 0.5
    """Highest word error rate; the rate of each sentence is uniform between 0 and this."""
    clean: float = 0.2
    """Share of sentences left without errors."""
    balance: float = 0.35
    """0 draws classes as often as they occur, 1 equally often."""
    taught: float = 0.75
    """Weight of the teacher's probabilities in the targets; the labels have the rest."""


FINE_LABELS: Final = tuple(name for names in FINE.values() for name in names)
DRAWN_AT_ONCE: Final = 8
"""Batches drawn at once. Sorting their sentences by length reduces the padding."""


class TextBatches:
    """Draws batches of sentences; `seed` determines them.

    Targets have a column for each of `labels`, then one for each of FINE_LABELS. A sentence with
    fine labels has targets only there; other sentences only in `labels`. The teacher's
    probabilities are over FINE_LABELS.
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
        """`taught` [N, F] has the probabilities of a teacher."""
        self._sentences = sentences
        self._plan = plan
        self._rng = np.random.default_rng(seed)
        self._pieces = pieces
        coarse = shares_of([s.labels for s in sentences], labels)
        self._targets = labelled(coarse, shares_of([s.fine for s in sentences], FINE_LABELS))
        if taught is not None:
            taught_targets = np.concatenate([np.zeros_like(coarse), taught], axis=1)
            mixed = (1.0 - plan.taught) * self._targets + plan.taught * taught_targets
            self._targets = mixed.astype(np.float32)
        counts = coarse.sum(axis=0)
        per_class = np.where(counts > 0, np.maximum(counts, 1.0) ** -plan.balance, 0.0)
        chance = (coarse @ per_class).astype(np.float64)
        self._chance = chance / chance.sum()
        self._words = common_words(sentences)
        self._ready: list[tuple[Tensor, Tensor, Tensor]] = []

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return pieces [B, L], their mask [B, L] and targets [B, C + F]."""
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
    """Return targets [N, C + F] of [N, C] and [N, F]: fine labels if there are any, else coarse."""
    known = fine.sum(axis=1, keepdims=True) > 0.0
    return np.concatenate([np.where(known, 0.0, coarse), fine], axis=1).astype(np.float32)


def shares_of(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> FloatArray:
    """Return [N, C]: equal shares for the labels of each row; all 0 for a row without any."""
    targets = np.zeros((len(rows), len(labels)), np.float32)
    for target, row in zip(targets, rows, strict=True):
        for label in row:
            target[labels.index(label)] = 1.0 / len(row)
    return targets


def common_words(sentences: Sequence[Sentence], most: int = 5_000) -> list[str]:
    """Return the most frequent words, which simulated recognition errors insert."""
    counts = Counter(word for sentence in sentences for word in sentence.text.split())
    return [word for word, _ in counts.most_common(most)]
