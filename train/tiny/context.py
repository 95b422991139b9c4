"""What the speech networks get besides a clip: earlier speech of the voice and, for ST1, words.

Both are drawn. Real speech is mostly neutral. If voices were measured from acted corpora, which
have all emotions in equal parts, a network would take a voice's mean for an emotion and call nine
of ten neutral segments emotional. So the seconds and the neutral share of earlier speech vary.

People rarely say what they feel. With words of the voice's own label only, a network would believe
the words. So some words agree with the voice, some are neutral, some contradict it,
and some are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abhinaya.models.base import FloatArray
from abhinaya.models.tiny.speech import WORDS, word_features
from abhinaya.models.tiny.text import TextTower
from abhinaya.models.tiny.voice import Voice
from abhinaya.train.data.texts import sentences, with_errors
from abhinaya.train.tiny.sessions import Sessions
from abhinaya.train.tiny.text import divided
from abhinaya.train.tiny.text_batches import common_words

SENTENCES = 16_000
"""Number of sentences drawn from the training corpora; more did not change the result."""
MOST_ERRORS = 0.15
"""Maximum word error rate of a sentence."""


@dataclass(frozen=True)
class Before:
    """Ranges of the length and of the neutral share of a voice's speech before an item."""

    seconds: tuple[float, float] = (2.0, 40.0)
    neutral: tuple[float, float] = (0.6, 1.0)
    none: float = 0.1
    """Share of items without earlier speech."""


SHIPPED = Before((20.0, 20.0), (0.8, 0.9), 0.0)
"""Setting of all figures: 20 s of the voice's mostly neutral speech."""


class Voices:
    """Draws the earlier speech of the items of sessions.

    Earlier speech is made of whole clips of the same session. `usual` [L, D] is the mean of all
    voices.
    """

    def __init__(self, items: Sessions, usual: FloatArray) -> None:
        self._items, self._usual, self._session = items, usual, items.session
        calm = items.label == "neutral"
        self._pools = {
            int(number): [np.flatnonzero(of & calm), np.flatnonzero(of & ~calm)]
            for number in np.unique(self._session)
            for of in [(self._session == number) & items.whole]
        }
        """Whole clips of each session, neutral and others."""

    def draw(self, item: int, before: Before, rng: np.random.Generator) -> Voice:
        """Return an item's voice after earlier speech drawn by `before`."""
        if rng.random() < before.none:
            return Voice(self._usual)
        seconds, share = rng.uniform(*before.seconds), rng.uniform(*before.neutral)
        earlier: list[int] = []
        pools = self._pools[int(self._session[item])]
        for pool, wanted in zip(pools, (seconds * share, seconds * (1.0 - share)), strict=True):
            got = 0.0
            for other in rng.permutation(pool):
                if got >= wanted or wanted < 0.5:
                    break
                if self._items.clip[other] != self._items.clip[item]:
                    earlier.append(int(other))
                    got += float(self._items.seconds[other])
        if not earlier:
            return Voice(self._usual)
        weights = self._items.seconds[earlier]
        mean = np.average(self._items.means[earlier], axis=0, weights=weights)
        return Voice(mean.astype(np.float32), float(weights.sum()))


@dataclass(frozen=True)
class Pairing:
    """Shares of items with words of each kind; the rest has no words."""

    alike: float = 0.25
    """Words of the voice's label."""
    calm: float = 0.45
    """Neutral words."""
    other: float = 0.1
    """Words of a random label."""
    believed: tuple[float, float] = (0.3, 0.5)
    """Share of contradicting words in the target, for an emotional and for a neutral voice."""


class Words:
    """Word features of the sentences of the training corpora, by label.

    `seed` is for their choice and the recognition errors. Raises DataError: a corpus is missing.
    """

    def __init__(self, data: Path, labels: Sequence[str], seed: int) -> None:
        # the sentences that T2 was tuned on are kept for the fit of the vote
        clips = [*divided(data)[0], *sentences(data, "reccon", "train")]
        rng = np.random.default_rng(seed)
        single = [clip for clip in clips if len(clip.votes) == 1 and clip.label in labels]
        chosen = [single[i] for i in rng.permutation(len(single))[:SENTENCES]]
        common, errors = common_words(chosen), (0, MOST_ERRORS)
        texts = [with_errors(c.transcript, rng.uniform(*errors), common, rng) for c in chosen]
        tower = TextTower()
        read = [word_features(tower.read(texts[i : i + 64])[1]) for i in range(0, len(texts), 64)]
        features = np.concatenate(read)
        label = np.array([labels.index(str(clip.label)) for clip in chosen])
        self._features = [features[label == c] for c in range(len(labels))]
        self._neutral = labels.index("neutral")

    def draw(
        self, label: int, pairing: Pairing, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Return word features [WORDS] for a voice of `label`, and the target [C']."""
        target = np.zeros(len(self._features), np.float32)
        target[label] = 1.0
        chance = rng.random()
        if chance < pairing.alike:
            spoken = label
        elif chance < pairing.alike + pairing.calm:
            spoken = self._neutral
        elif chance < pairing.alike + pairing.calm + pairing.other:
            spoken = int(rng.integers(len(self._features)))
            if spoken not in (label, self._neutral):
                believed = pairing.believed[int(label == self._neutral)]
                target[label], target[spoken] = 1.0 - believed, believed
        else:
            return np.zeros(WORDS, np.float32), target
        pool = self._features[spoken]
        return pool[int(rng.integers(len(pool)))], target
