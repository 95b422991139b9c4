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
from abhinaya.train.data.texts import (
    Sentence,
    read_emorynlp,
    read_goemotions,
    read_reccon,
    with_errors,
)
from abhinaya.train.metrics import Indices
from abhinaya.train.tiny.sessions import Sessions
from abhinaya.train.tiny.text import divide
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

    def __init__(self, sessions: Sessions, usual: FloatArray) -> None:
        self._sessions, self._usual = sessions, usual
        session = sessions.session
        calm = sessions.label == "neutral"
        self._session = session
        self._calm: dict[int, Indices] = {}
        self._other: dict[int, Indices] = {}
        for number in np.unique(session):
            of = (session == number) & sessions.whole
            self._calm[int(number)] = np.flatnonzero(of & calm)
            self._other[int(number)] = np.flatnonzero(of & ~calm)

    def draw(self, item: int, before: Before, rng: np.random.Generator) -> Voice:
        """Return an item's voice after earlier speech drawn by `before`."""
        if rng.random() < before.none:
            return Voice(self._usual)
        seconds, share = rng.uniform(*before.seconds), rng.uniform(*before.neutral)
        session = int(self._session[item])
        earlier = [
            *self._some(self._calm[session], item, seconds * share, rng),
            *self._some(self._other[session], item, seconds * (1.0 - share), rng),
        ]
        if not earlier:
            return Voice(self._usual)
        weights = self._sessions.seconds[earlier]
        mean = np.average(self._sessions.means[earlier], axis=0, weights=weights)
        return Voice(mean.astype(np.float32), float(weights.sum()))

    def _some(
        self, pool: Indices, item: int, seconds: float, rng: np.random.Generator
    ) -> list[int]:
        """Return random clips of a pool, except the item's own, of about `seconds` together."""
        chosen: list[int] = []
        got = 0.0
        for other in rng.permutation(pool):
            if got >= seconds or seconds < 0.5:
                break
            if self._sessions.clip[other] != self._sessions.clip[item]:
                chosen.append(int(other))
                got += float(self._sessions.seconds[other])
        return chosen


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
    """Word features of sentences, by label.

    Only sentences with one label are used. `seed` is for their choice and the recognition errors.
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
        """Return word features [WORDS] for a voice of `label`, and the target [C']."""
        target = np.zeros(len(self._labels), np.float32)
        target[label] = 1.0
        chance = rng.random()
        if chance < pairing.alike:
            spoken = label
        elif chance < pairing.alike + pairing.calm:
            spoken = self._neutral
        elif chance < pairing.alike + pairing.calm + pairing.other:
            spoken = int(rng.integers(len(self._labels)))
            if spoken not in (label, self._neutral):
                believed = pairing.believed[int(label == self._neutral)]
                target[label], target[spoken] = 1.0 - believed, believed
        else:
            return np.zeros(WORDS, np.float32), target
        pool = self._features[spoken]
        return pool[int(rng.integers(len(pool)))], target


def read_words(data: Path, labels: Sequence[str], seed: int) -> Words:
    """Return the words of the training corpora.

    Raises DataError: a corpus is missing.
    """
    # the sentences that T2 was tuned on are kept for the fit of the vote
    fitting, _ = divide(read_goemotions(data, "train") + read_emorynlp(data, "train"))
    return Words([*fitting, *read_reccon(data, "train")], labels, seed)
