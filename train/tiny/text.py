"""Trains T2: a small text network taught by a full encoder, calibrated, with 8-bit weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Final

import numpy as np
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.tiny.text import NAME
from abhinaya.models.tiny.tokens import CONTINUES, SPECIAL, WordPieces
from abhinaya.train.command import Say
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.texts import FINE, sentences, with_errors
from abhinaya.train.errors import TrainingError
from abhinaya.train.metrics import fit_temperature, macro_f1
from abhinaya.train.tiny.loop import Schedule, fit
from abhinaya.train.tiny.text_batches import FINE_LABELS, TextPlan, common_words, text_batches
from abhinaya.train.tiny.text_tower import (
    Calibrated,
    Reader,
    export,
    grouped,
    load_encoder,
    small,
    smaller,
)

VERSION: Final = "5"
TEXT_LABELS: Final = tuple(label for label in LABELS if label != "contempt")
"""The text corpora have no contempt."""
GROUPS: Final = tuple(tuple(FINE_LABELS.index(n) for n in FINE[label]) for label in TEXT_LABELS)
"""Indices of the fine labels that each of our labels sums."""
TUNE_SENTENCES: Final = 3_000


@dataclass(frozen=True)
class TeacherRecipe:
    """Training settings of the teacher."""

    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A BERT (Wang et al., 2020): folder, or name on the Hugging Face Hub."""
    plan: TextPlan = field(default_factory=TextPlan)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=4_000, rate=1e-4, weight_decay=0.01, threads=2)
    )
    """A network of this size gains from a second thread."""


@dataclass(frozen=True)
class TextRecipe:
    """All training settings of the text network, except the data."""

    seed: int = 0
    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    depth: int = 2
    """Number of layers, initialised from the teacher's first ones."""
    pieces: int = 8_000
    """Size of the vocabulary: the most frequent word pieces."""
    rank: int = 128
    """Width of the stored embedding of a piece."""
    neutral: float = 0.8
    """Bias added to the logit of neutral, after the temperature."""
    plan: TextPlan = field(default_factory=lambda: TextPlan(clean=0.0, most_errors=0.6))
    """The monitor reads transcripts of speech, so every sentence may have errors."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=8_000, rate=3e-4, weight_decay=0.01)
    )


def divided(data: Path) -> tuple[list[Clip], list[Clip]]:
    """Return sentences to fit, and TUNE_SENTENCES (a tenth of a small corpus) to tune.

    Raises DataError: a corpus is missing.
    """
    found = sentences(data, "goemotions", "train") + sentences(data, "emorynlp", "train")
    order = np.random.default_rng(5).permutation(len(found))
    tune = min(TUNE_SENTENCES, len(found) // 10)
    return [found[i] for i in order[tune:]], [found[i] for i in order[:tune]]


def train_and_write(data: Path, out: Path, recipe: TextRecipe, say: Say = print) -> Path:
    """Train a teacher on GoEmotions and EmoryNLP, then a small network on both; write the voter.

    Raises DataError: a corpus is missing; ModelError: the pre-trained encoder is missing, or is not
    a BERT; TrainingError: the loss is NaN or infinite.
    """
    fitting, tuning = divided(data)
    say(f"{len(fitting)} sentences to fit, {len(tuning)} to tune")
    torch.manual_seed(recipe.seed)
    teacher = load_encoder(recipe.teacher.encoder, len(FINE_LABELS))
    batches = text_batches(fitting, TEXT_LABELS, recipe.teacher.plan, recipe.seed, teacher.pieces)
    tower = fit(teacher.tower, partial(next, batches), _loss, recipe.teacher.schedule, say)
    teacher = Reader(tower, teacher.pieces)
    pupil = smaller_reader(teacher, fitting, recipe)
    pieces, words = pupil.pieces, common_words(fitting)
    taught = teacher.logits([s.transcript for s in fitting]).softmax(dim=1).numpy()
    torch.manual_seed(recipe.seed)
    batches = text_batches(fitting, TEXT_LABELS, recipe.plan, recipe.seed, pieces, taught)
    tower = small(fit(pupil.tower, partial(next, batches), _loss, recipe.schedule, say))
    clear = [clip for clip in tuning if len(clip.votes) == 1]
    rng = np.random.default_rng(0)
    texts = [with_errors(clip.transcript, 0.1, words, rng) for clip in clear]
    logits: FloatArray = grouped(Reader(tower, pieces).logits(texts), GROUPS).numpy()
    truth = np.array([TEXT_LABELS.index(str(clip.label)) for clip in clear], np.int64)
    f1 = macro_f1(truth, logits.argmax(axis=1), sorted(set(truth.tolist())))
    temperature = fit_temperature(logits, truth)
    say(f"tuning sentences, 10 % word errors: macro-F1 {f1:.3f}; temperature {temperature:.2f}")
    bias = [recipe.neutral if label == "neutral" else 0.0 for label in TEXT_LABELS]
    settings = {"vocabulary": pieces.vocabulary, "temperature": temperature}
    metadata = {"version": VERSION, "labels": TEXT_LABELS, "settings": settings}
    path = out / f"{NAME}.onnx"
    export(Calibrated(tower, GROUPS, temperature, bias), path, metadata)
    return path


def smaller_reader(teacher: Reader, fitting: Sequence[Clip], recipe: TextRecipe) -> Reader:
    """Return a small network with the teacher's first layers and most frequent pieces.

    The vocabulary has every letter, so that any word can be split.

    Raises TrainingError: the teacher has fewer layers than `depth`, or is narrower than `rank`.
    """
    has = teacher.tower.bert.config
    if recipe.depth > has.num_hidden_layers or recipe.rank > has.hidden_size:
        raise TrainingError(
            f"depth = {recipe.depth}, rank = {recipe.rank}: {recipe.teacher.encoder} has "
            f"{has.num_hidden_layers} layers of width {has.hidden_size}; set values up to these"
        )
    often: Counter[int] = Counter()
    for word, times in Counter(w for s in fitting for w in s.transcript.split()).items():
        for piece in teacher.pieces.of_word(word):
            often[piece] += times
    known = teacher.pieces.vocabulary
    letters = {*ascii_lowercase, *digits}
    always = [
        i for i, p in enumerate(known) if p in SPECIAL or p.removeprefix(CONTINUES) in letters
    ]
    others = [i for i, _ in often.most_common() if i not in set(always)]
    chosen = [*always, *others[: max(0, recipe.pieces - len(always))]]
    counts = torch.tensor([max(1, often[i]) for i in chosen])
    tower = smaller(teacher.tower, chosen, counts, recipe.rank, recipe.depth)
    return Reader(tower, WordPieces([known[i] for i in chosen]))


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy over fine labels if they are known, else over coarse ones."""
    coarse, fine = targets[:, : len(TEXT_LABELS)], targets[:, len(TEXT_LABELS) :]
    of_coarse = (coarse * grouped(logits, GROUPS).log_softmax(dim=1)).sum(dim=1)
    of_fine = (fine * logits.log_softmax(dim=1)).sum(dim=1)
    return -(of_coarse + of_fine).mean()
