"""Sentences for ST1's pairs: what a voice may be saying, as the text tower reads it.

People rarely say what they feel. Pairs made by label alone would teach a network to believe the
words; so some agree with the voice, some are calm, some contradict it, and some are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.tiny.speech import WORDS, word_features
from abhinaya.models.tiny.text import TextTower
from abhinaya.train.data.texts import (
    Sentence,
    read_emorynlp,
    read_goemotions,
    read_reccon,
    with_errors,
)
from abhinaya.train.tiny.text import divide
from abhinaya.train.tiny.text_batches import common_words

SENTENCES = 16_000
"""Of the training corpora, drawn; reading them all changes nothing."""
MOST_ERRORS = 0.15
"""Share of words that the transcriber mistakes, at most."""


@dataclass(frozen=True)
class Pairing:
    """How often which words; the rest of the items have none."""

    alike: float = 0.25
    calm: float = 0.45
    other: float = 0.1
    """Of another label, drawn."""
    believed: tuple[float, float] = (0.3, 0.5)
    """Share of the target that contradicting words get beside a voice that feels something, and
    beside a calm one."""


class Words:
    """Sentences by label, read once.

    Args:
        sentences: with one label each; others are left out.
        labels: [C'] of the network.
        seed: of the recognition errors.

    """

    def __init__(self, sentences: Sequence[Sentence], labels: Sequence[str], seed: int) -> None:
        rng = np.random.default_rng(seed)
        single = [s for s in sentences if len(s.labels) == 1 and s.labels[0] in labels]
        chosen = [single[i] for i in rng.permutation(len(single))[:SENTENCES]]
        common = common_words(chosen)
        texts = [with_errors(s.text, rng.uniform(0, MOST_ERRORS), common, rng) for s in chosen]
        tower = TextTower()
        read = [word_features(tower.read(texts[i : i + 64])[1]) for i in range(0, len(texts), 64)]
        features = np.concatenate(read)
        label = np.array([labels.index(s.labels[0]) for s in chosen])
        self._features = [features[label == c] for c in range(len(labels))]
        self._labels = tuple(labels)
        self._neutral = labels.index("neutral")

    def draw(
        self, label: int, pairing: Pairing, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Return words [WORDS] for a voice of some label, and the target [C'] of the pair."""
        target = np.zeros(len(self._labels), np.float32)
        target[label] = 1.0
        chance = rng.random()
        if chance < pairing.alike:
            said = label
        elif chance < pairing.alike + pairing.calm:
            said = self._neutral
        elif chance < pairing.alike + pairing.calm + pairing.other:
            said = int(rng.integers(len(self._labels)))
            if said not in (label, self._neutral):
                believed = pairing.believed[int(label == self._neutral)]
                target[label], target[said] = 1.0 - believed, believed
        else:
            return np.zeros(WORDS, np.float32), target
        pool = self._features[said]
        return pool[int(rng.integers(len(pool)))], target


def read_words(data: Path, labels: Sequence[str], seed: int) -> Words:
    """Read the sentences of the training corpora.

    Raises:
        DataError: a corpus is missing.

    """
    # the sentences that T2 was tuned on are left for the vote
    fitting, _ = divide(read_goemotions(data, "train") + read_emorynlp(data, "train"))
    return Words([*fitting, *read_reccon(data, "train")], labels, seed)
