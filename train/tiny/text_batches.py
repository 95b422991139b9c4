"""Draws training batches for a text network, with simulated recognition errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray
from abhinaya.models.tiny.tokens import WordPieces
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.texts import FINE, with_errors


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


def text_batches(
    sentences: Sequence[Clip],
    labels: tuple[str, ...],
    plan: TextPlan,
    seed: int,
    pieces: WordPieces,
    taught: FloatArray | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield pieces [B, L], their mask [B, L] and targets [B, C + F]; `seed` determines them.

    Targets have a column for each of `labels`, then one for each of FINE_LABELS. A sentence with
    fine labels has targets only there; other sentences only in `labels`. The teacher's
    probabilities `taught` [N, F] are over FINE_LABELS.
    """
    rng = np.random.default_rng(seed)
    coarse = _shares([s.votes for s in sentences], labels)
    fine = _shares([s.secondary for s in sentences], FINE_LABELS)
    known = fine.sum(axis=1, keepdims=True) > 0.0
    targets = np.concatenate([np.where(known, np.zeros_like(coarse), coarse), fine], axis=1)
    if taught is not None:
        given = np.concatenate([np.zeros_like(coarse), taught], axis=1)
        targets = (1.0 - plan.taught) * targets + plan.taught * given
    counts = coarse.sum(axis=0)
    per_class = np.where(counts > 0, np.maximum(counts, 1.0) ** -plan.balance, 0.0)
    chance = (coarse @ per_class).astype(np.float64)
    chance /= chance.sum()
    words = common_words(sentences)
    while True:
        chosen = rng.choice(len(sentences), size=DRAWN_AT_ONCE * plan.size, p=chance)
        texts = []
        for i in chosen:
            rate = 0.0 if rng.random() < plan.clean else rng.uniform(0.0, plan.most_errors)
            texts.append(with_errors(sentences[i].transcript, rate, words, rng))
        by_length = sorted(range(len(texts)), key=lambda n: len(texts[n].split()))
        for start in reversed(rng.permutation(DRAWN_AT_ONCE) * plan.size):
            batch = by_length[start : start + plan.size]
            ids, mask = pieces.encode([texts[n] for n in batch])
            wanted = torch.from_numpy(targets[chosen[batch]])
            yield torch.from_numpy(ids), torch.from_numpy(mask), wanted


def _shares(rows: Sequence[Collection[str]], labels: Sequence[str]) -> FloatArray:
    """Return [N, C]: equal shares for the labels of each row; all 0 for a row without any."""
    targets = np.zeros((len(rows), len(labels)), np.float32)
    for target, row in zip(targets, rows, strict=True):
        for label in row:
            target[labels.index(label)] = 1.0 / len(row)
    return targets


def common_words(sentences: Sequence[Clip], most: int = 5_000) -> list[str]:
    """Return the most frequent words, which simulated recognition errors insert."""
    counts = Counter(word for sentence in sentences for word in sentence.transcript.split())
    return [word for word, _ in counts.most_common(most)]
