"""Trains S1 and ST1: attentive and plain heads on frozen lower layers of Whisper's encoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor

from abhinaya.models.asr import carrier
from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.tiny.encoder import LEVELS, WIDTH, Encoder
from abhinaya.models.tiny.head import Head, combined_scores
from abhinaya.models.tiny.metadata import METADATA_KEY
from abhinaya.models.tiny.speech import JOINT, SPEECH, WORDS, Settings, measured
from abhinaya.models.tiny.voice import Voice
from abhinaya.train.command import Say
from abhinaya.train.data.clips import READERS, read_clips, read_readers
from abhinaya.train.metrics import Indices
from abhinaya.train.tiny.context import SHIPPED, Before, Pairing, Voices, Words, read_words
from abhinaya.train.tiny.loop import Schedule, fit
from abhinaya.train.tiny.network import Network, Plain
from abhinaya.train.tiny.sessions import Plan, Sessions, joined, sessions

VERSION: Final = "1"
SPEECH_LABELS: Final = tuple(label for label in LABELS if label != "contempt")
"""The speech corpora have no contempt."""
NEUTRAL: Final = SPEECH_LABELS.index("neutral")
PLANS: Final[Mapping[str, Plan]] = {
    "ravdess": Plan(crops=2),
    "nemo": Plan(crops=1),
    READERS: Plan(crops=1, pieces_s=(2.0, 6.0)),
}
POOL: Final = 8
"""Batches drawn at once. Sorting their items by length reduces the padding."""


@dataclass(frozen=True)
class SpeechRecipe:
    """All training settings of the heads, except the data."""

    seed: int = 0
    heads: int = 1
    """Number of attentive heads, and of plain heads. Each pair has its own seed."""
    words: bool = False
    """True for ST1, which also reads words."""
    renderings: int = 2
    """Copies of each clip through random channels, besides the original."""
    shares: Mapping[str, float] = field(
        default_factory=lambda: {"ravdess": 0.4, "nemo": 0.4, READERS: 0.2}
    )
    """Share of each corpus in a batch. Within a corpus, labels are equally frequent."""
    before: Before = field(default_factory=Before)
    pairing: Pairing = field(default_factory=Pairing)
    projected: int = 160
    hidden: int = 128
    dropout: float = 0.3
    smoothing: float = 0.05
    batch: int = 64
    settings: Settings = field(
        default_factory=lambda: Settings(temperature=1.0, neutral=0.7, enough_s=1.5, calm=0.8)
    )
    """Chosen on the tuning speakers (train/LOG.md); the temperature is fitted in each run."""
    step: int = 2
    """Training uses every `step`-th frame; the voter uses all frames."""
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=1_500, average=0.99))
    plain: Schedule = field(
        default_factory=lambda: Schedule(steps=1_000, average=0.99, weight_decay=0.2)
    )
    """Schedule of the plain heads. Strong weight decay helps with unknown voices."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Heads, with the mean and the unit of the frames."""

    heads: Sequence[Head]
    usual: FloatArray
    """[L, D] mean of all voices."""
    unit: FloatArray
    """[L, D] mean standard deviation within a clip."""

    def scores(self, levels: FloatArray, voice: Voice, words: FloatArray | None) -> FloatArray:
        """Return the logits [C'] of one clip, the mean of all heads; levels [T, L, D]."""
        frames = measured(levels.transpose(1, 0, 2), voice.measure(self.usual), self.unit)
        return combined_scores(self.heads, frames, words)


def read_sessions(data: Path, cache: Path, recipe: SpeechRecipe, say: Say = print) -> Sessions:
    """Return all training and tuning data, encoded or from the cache.

    Raises DataError: data is missing; ModelError: Whisper's encoder is missing.
    """
    renderings = range(recipe.renderings + 1)
    encoder = partial(Encoder, carrier.find("tiny.en"))
    found = []
    for corpus in recipe.shares:
        clips = read_readers(data, "train") if corpus == READERS else read_clips(data, [corpus])
        found.append(sessions(clips, data, cache, renderings, PLANS[corpus], encoder, say))
    return joined(found)


def train_heads(
    training: Sessions, recipe: SpeechRecipe, words: Words | None = None, say: Say = print
) -> Trained:
    """Train the heads on all items of `training`.

    Raises TrainingError: the loss is NaN or infinite.
    """
    usual, unit = _usual(training)
    batches = _Batches(training, recipe, usual, unit, words)
    sizes = len(LEVELS) * WIDTH, WORDS if recipe.words else 0, len(SPEECH_LABELS)
    loss = partial(torch.nn.functional.cross_entropy, label_smoothing=recipe.smoothing)
    heads = []
    for number in range(recipe.heads):
        torch.manual_seed(recipe.seed + 1_000 * number)
        rng = np.random.default_rng((recipe.seed, number))
        attentive = Network(*sizes, recipe.projected, recipe.hidden, recipe.dropout)
        for network, schedule in (
            (attentive, recipe.schedule),
            (Plain(*sizes, recipe.dropout), recipe.plain),
        ):
            trained = fit(network, batches.drawn(rng), loss, schedule, say)
            weights = {key: value.numpy() for key, value in trained.state_dict().items()}
            heads.append(Head(weights))
    return Trained(heads, usual, unit)


def _usual(training: Sessions) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(0)
    some = rng.permutation(np.flatnonzero(training.whole))[:2_000]
    spread = np.stack([training.levels(int(item)).std(axis=0) for item in some])
    return training.means[training.whole].mean(axis=0), spread.mean(axis=0)


class _Batches:
    """Draws batches by the shares of the recipe, with earlier speech and words."""

    def __init__(
        self,
        training: Sessions,
        recipe: SpeechRecipe,
        usual: FloatArray,
        unit: FloatArray,
        words: Words | None,
    ) -> None:
        self._training, self._recipe, self._words = training, recipe, words
        self._usual, self._unit = usual, unit
        self._voices = Voices(training, usual)
        self._label = np.array([SPEECH_LABELS.index(label) for label in training.label])
        self._length = training.end - training.start
        weights = np.zeros(len(self._label))
        for corpus, share in recipe.shares.items():
            of = training.corpus == corpus
            for label in np.unique(self._label[of]):
                some = of & (self._label == label)
                weights[some] = share / len(np.unique(self._label[of])) / some.sum()
        self._weights = weights / weights.sum()

    def drawn(self, rng: np.random.Generator) -> Callable[[], tuple[Tensor, ...]]:
        """Return a function that draws the next batch; `rng` alone determines the batches."""
        waiting: list[Indices] = []

        def draw() -> tuple[Tensor, ...]:
            if not waiting:
                size = POOL * self._recipe.batch
                items = rng.choice(len(self._weights), size, p=self._weights)
                items = items[np.argsort(self._length[items], kind="stable")]
                waiting.extend(np.split(items, POOL))
                rng.shuffle(waiting)
            return self._batch(waiting.pop(), rng)

        return draw

    def _batch(self, items: Indices, rng: np.random.Generator) -> tuple[Tensor, ...]:
        frames, words, targets = [], [], []
        for item in items:
            label = int(self._label[item])
            levels = self._training.levels(int(item))
            levels = levels[int(rng.integers(self._recipe.step)) :: self._recipe.step]
            measure = self._voices.draw(int(item), self._recipe.before, rng).measure(self._usual)
            frames.append(measured(levels.transpose(1, 0, 2), measure, self._unit))
            if self._words is None:
                features, target = np.zeros(0, np.float32), np.eye(len(SPEECH_LABELS))[label]
            else:
                features, target = self._words.draw(label, self._recipe.pairing, rng)
            words.append(features)
            targets.append(target)
        longest = max(map(len, frames))
        padded = np.zeros((len(items), longest, frames[0].shape[1]), np.float32)
        mask = np.zeros((len(items), longest), np.bool_)
        for row, of in enumerate(frames):
            padded[row, : len(of)], mask[row, : len(of)] = of, True
        numbers = np.stack(targets).astype(np.float32)
        return tuple(map(torch.from_numpy, (padded, mask, np.stack(words), numbers)))


def scores_of(
    trained: Trained,
    items: Sessions,
    before: Before = SHIPPED,
    seed: int = 0,
    words: Callable[[int], FloatArray] | None = None,
) -> FloatArray:
    """Return logits [N, C'] of all items, each after earlier speech drawn by `before`."""
    voices, rng = Voices(items, trained.usual), np.random.default_rng(seed)
    return np.stack(
        [
            trained.scores(
                items.levels(item), voices.draw(item, before, rng), words(item) if words else None
            )
            for item in range(len(items.label))
        ]
    )


def write(path: Path, name: str, trained: Trained, settings: Settings) -> None:
    """Write heads as a file for `models.tiny.speech`."""
    tensors = {"usual": trained.usual, "unit": trained.unit}
    for number, head in enumerate(trained.heads):
        for key, value in head.weights.items():
            tensors[f"{number}/{key}"] = value.astype(np.float16)
    metadata = {
        "model": name,
        "version": VERSION,
        "labels": SPEECH_LABELS,
        "settings": {slot: getattr(settings, slot) for slot in Settings.__slots__},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {METADATA_KEY: json.dumps(metadata)})


def words_of(data: Path, recipe: SpeechRecipe) -> Words | None:
    """Return the sentences to pair with voices; None for S1."""
    return read_words(data, SPEECH_LABELS, recipe.seed) if recipe.words else None


RECIPES: Final[Mapping[str, SpeechRecipe]] = {
    SPEECH: SpeechRecipe(),
    JOINT: SpeechRecipe(seed=11, words=True),
}
