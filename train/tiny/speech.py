"""Trains S1 and ST1: attentive and plain heads on frozen lower layers of Whisper's encoder.

The dev speakers of the index are never trained on. The figures of the shipped weights are of them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
from abhinaya.train.metrics import Flags, Indices, fit_temperature
from abhinaya.train.tiny.context import SHIPPED, Before, Pairing, Voices, Words
from abhinaya.train.tiny.loop import Schedule, fit
from abhinaya.train.tiny.network import Network
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
TUNE_SPEAKERS: Final = frozenset({"ravdess_15", "ravdess_16", "nemo_MK0", "nemo_MP0"})
"""A man and a woman each of RAVDESS and nEMO, from the training split. MK0 has no surprise; MP0 has
every class and the fewest clips, so that little training data is lost."""
TUNE_READERS: Final = 5
"""One of this many readers is left out for calibration."""
NEUTRAL_SHARE: Final = 0.5
"""Weight of neutral in the calibration; its share in acted corpora is not that of real speech."""


@dataclass(frozen=True)
class SpeechRecipe:
    """All training settings of the heads, except the data."""

    seed: int = 0
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


RECIPES: Final[Mapping[str, SpeechRecipe]] = {
    SPEECH: SpeechRecipe(),
    JOINT: SpeechRecipe(seed=11, words=True),
}


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


def train_and_write(
    name: str, data: Path, cache: Path, out: Path, recipe: SpeechRecipe, say: Say = print
) -> Path:
    """Train a voter and write `out`/`name`.safetensors; return its path.

    The voter trained without the tuning speakers determines the temperature, and stays in
    `held_out(cache)`. The vote rule is fitted on its votes on these speakers.

    Raises DataError: data is missing; ModelError: Whisper's encoder or the text network is missing;
    TrainingError: the loss is NaN or infinite.
    """
    items = read_sessions(data, cache, recipe, say)
    items = items.of(items.split != "dev")
    words = Words(data, SPEECH_LABELS, recipe.seed) if recipe.words else None
    tune = for_tuning(items)
    first = train_heads(items.of(~tune), recipe, words, say)
    settings = calibrate(first, items.of(tune), recipe, words)
    say(f"temperature {settings.temperature:.2f}")
    write(held_out(cache) / f"{name}.safetensors", name, first, settings)
    say("training again, with the tuning speakers")
    path = out / f"{name}.safetensors"
    write(path, name, train_heads(items, recipe, words, say), settings)
    return path


def held_out(cache: Path) -> Path:
    """Return the folder of voters trained without the tuning speakers."""
    return cache / "held-out"


def for_tuning(items: Sessions) -> Flags:
    """Return a mask [N] of the items of tuning speakers."""
    drawn = [zlib.crc32(name.encode()) % TUNE_READERS == 0 for name in items.speaker]
    readers = (items.corpus == READERS) & np.array(drawn)
    tune: Flags = np.isin(items.speaker, sorted(TUNE_SPEAKERS)) | readers
    return tune


def calibrate(
    trained: Trained, tuning: Sessions, recipe: SpeechRecipe, words: Words | None
) -> Settings:
    """Return the settings of a recipe with the temperature fitted on its tuning speakers."""
    label = _indices(tuning)
    rng = np.random.default_rng(recipe.seed)
    given = (lambda i: words.draw(int(label[i]), recipe.pairing, rng)[0]) if words else None
    scores = scores_of(trained, tuning, words=given)
    counts = np.bincount(label, minlength=len(SPEECH_LABELS))
    share = np.full(len(counts), (1 - NEUTRAL_SHARE) / (len(counts) - 1))
    share[NEUTRAL] = NEUTRAL_SHARE
    weights = (share / np.maximum(1, counts))[label].astype(np.float32)
    leaning = recipe.settings.neutral * np.eye(len(counts), dtype=np.float32)[NEUTRAL]
    return replace(recipe.settings, temperature=fit_temperature(scores + leaning, label, weights))


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
    """Train an attentive and a plain head on all items of `training`.

    Raises TrainingError: the loss is NaN or infinite.
    """
    some = np.random.default_rng(0).permutation(np.flatnonzero(training.whole))[:2_000]
    spread = np.stack([training.levels(int(item)).std(axis=0) for item in some])
    trained = Trained([], training.means[training.whole].mean(axis=0), spread.mean(axis=0))
    sizes = len(LEVELS) * WIDTH, WORDS if recipe.words else 0, len(SPEECH_LABELS)
    loss = partial(torch.nn.functional.cross_entropy, label_smoothing=recipe.smoothing)
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng((recipe.seed, 0))
    attentive = Network(*sizes, recipe.projected, recipe.hidden, recipe.dropout)
    plain = Network(*sizes, dropout=recipe.dropout)
    heads = []
    for network, schedule in ((attentive, recipe.schedule), (plain, recipe.plain)):
        batches = _batches(training, recipe, trained, words, rng)
        state = fit(network, partial(next, batches), loss, schedule, say).state_dict()
        heads.append(Head({key: value.numpy() for key, value in state.items()}))
    return replace(trained, heads=heads)


def _batches(
    training: Sessions,
    recipe: SpeechRecipe,
    scale: Trained,
    words: Words | None,
    rng: np.random.Generator,
) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches by the shares of the recipe, with earlier speech and words.

    `scale` has the mean and unit of the frames; `rng` alone determines the batches.
    """
    voices, labels = Voices(training, scale.usual), _indices(training)
    lengths = np.array([len(frames) for frames in training.frames])
    weights = np.zeros(len(labels))
    for corpus, share in recipe.shares.items():
        of = training.corpus == corpus
        for label in np.unique(labels[of]):
            some = of & (labels == label)
            weights[some] = share / len(np.unique(labels[of])) / some.sum()
    weights /= weights.sum()
    while True:
        items = rng.choice(len(weights), POOL * recipe.batch, p=weights)
        items = items[np.argsort(lengths[items], kind="stable")]
        waiting = np.split(items, POOL)
        rng.shuffle(waiting)
        for batch in reversed(waiting):
            frames, said, targets = [], [], []
            for item in map(int, batch):
                levels = training.levels(item)[int(rng.integers(recipe.step)) :: recipe.step]
                measure = voices.draw(item, recipe.before, rng).measure(scale.usual)
                frames.append(measured(levels.transpose(1, 0, 2), measure, scale.unit))
                features, target = np.zeros(0, np.float32), np.eye(len(SPEECH_LABELS))[labels[item]]
                if words is not None:
                    features, target = words.draw(int(labels[item]), recipe.pairing, rng)
                said.append(features)
                targets.append(target)
            padded = pad_sequence(list(map(torch.from_numpy, frames)), batch_first=True)
            mask = torch.arange(padded.shape[1]) < torch.tensor([[len(of)] for of in frames])
            numbers = np.stack(targets).astype(np.float32)
            yield padded, mask, torch.from_numpy(np.stack(said)), torch.from_numpy(numbers)


def _indices(items: Sessions) -> Indices:
    return np.array([SPEECH_LABELS.index(label) for label in items.label])


def scores_of(
    trained: Trained,
    items: Sessions,
    words: Callable[[int], FloatArray] | None = None,
) -> FloatArray:
    """Return logits [N, C'] of all items, each after 20 s of the voice's mostly neutral speech."""
    voices, rng = Voices(items, trained.usual), np.random.default_rng(0)
    found = []
    for item in range(len(items.label)):
        voice = voices.draw(item, SHIPPED, rng)
        given = words(item) if words else None
        found.append(trained.scores(items.levels(item), voice, given))
    return np.stack(found)


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
