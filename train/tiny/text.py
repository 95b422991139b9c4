"""Trains T2: a small text network taught by a full encoder, calibrated, with 8-bit weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from abhinaya.models.base import FloatArray
from abhinaya.models.labels import LABELS
from abhinaya.models.tiny.text import NAME
from abhinaya.models.tiny.tokens import CONTINUES, SPECIAL, WordPieces
from abhinaya.train.command import Say
from abhinaya.train.data.texts import FINE, Sentence, read_emorynlp, read_goemotions, with_errors
from abhinaya.train.errors import TrainingError
from abhinaya.train.metrics import Indices, fit_temperature, macro_f1
from abhinaya.train.tiny.loop import Schedule, fit, kept, key_of
from abhinaya.train.tiny.text_batches import FINE_LABELS, TextBatches, TextPlan, common_words
from abhinaya.train.tiny.text_export import Calibrated, export, grouped, small
from abhinaya.train.tiny.text_tower import (
    Reader,
    TeacherRecipe,
    TextTower,
    chances,
    load_encoder,
    logits_of,
    smaller,
)

VERSION: Final = "5"
TEXT_LABELS: Final = tuple(label for label in LABELS if label != "contempt")
"""The text corpora have no contempt."""
GROUPS: Final = tuple(tuple(FINE_LABELS.index(n) for n in FINE[label]) for label in TEXT_LABELS)
"""Indices of the fine labels that each of our labels sums."""
TUNE_SENTENCES: Final = 3_000


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


@dataclass(frozen=True)
class TunedText:
    """A trained text network with its temperature."""

    network: Calibrated
    pieces: WordPieces
    temperature: float


def divide(sentences: Sequence[Sentence], seed: int = 5) -> tuple[list[Sentence], list[Sentence]]:
    """Return sentences to fit, and TUNE_SENTENCES (a tenth of a small corpus) to tune."""
    order = np.random.default_rng(seed).permutation(len(sentences))
    tune = min(TUNE_SENTENCES, len(sentences) // 10)
    return [sentences[i] for i in order[tune:]], [sentences[i] for i in order[:tune]]


def train_text(data: Path, cache: Path, recipe: TextRecipe, say: Say = print) -> TunedText:
    """Train a teacher on GoEmotions and EmoryNLP, then a small network on both; calibrate it.

    The teacher is kept in `cache` and used again for networks of other sizes.

    Raises DataError: a corpus is missing; ModelError: the pre-trained encoder is missing, or is not
    a BERT; TrainingError: the loss is NaN or infinite.
    """
    fitting, tuning = divide(read_goemotions(data, "train") + read_emorynlp(data, "train"))
    say(f"{len(fitting)} sentences to fit, {len(tuning)} to tune")
    words = common_words(fitting)
    teacher = taught_teacher(fitting, cache, recipe, say)
    _report("teacher", teacher, tuning, words, say)
    pupil = smaller_reader(teacher, fitting, recipe)
    taught = chances(teacher, [sentence.text for sentence in fitting])
    torch.manual_seed(recipe.seed)
    batches = TextBatches(fitting, TEXT_LABELS, recipe.plan, recipe.seed, pupil.pieces, taught)
    tower = fit(pupil.tower, batches.draw, _loss, recipe.schedule, say)
    assert isinstance(tower, TextTower)
    reader = Reader(small(tower), pupil.pieces)
    _report("tower", reader, tuning, words, say)
    temperature = fit_temperature(*text_scores(reader, tuning, words))
    bias = [recipe.neutral if label == "neutral" else 0.0 for label in TEXT_LABELS]
    network = Calibrated(reader.tower, GROUPS, temperature, bias).eval()
    return TunedText(network, reader.pieces, temperature)


def taught_teacher(
    sentences: Sequence[Sentence], cache: Path, recipe: TextRecipe, say: Say
) -> Reader:
    """Return the teacher, trained on `sentences` or from `cache`.

    Raises ModelError: the pre-trained encoder is unavailable, or is not a BERT; TrainingError: the
    loss is NaN or infinite.
    """
    torch.manual_seed(recipe.seed)
    reader = load_encoder(recipe.teacher, len(FINE_LABELS))

    def train() -> nn.Module:
        plan = recipe.teacher.plan
        batches = TextBatches(sentences, TEXT_LABELS, plan, recipe.seed, reader.pieces)
        return fit(reader.tower, batches.draw, _loss, recipe.teacher.schedule, say)

    texts = (sentence.text for sentence in sentences)
    key = key_of(recipe.teacher, recipe.seed, clips=texts)
    tower = kept(cache / "towers" / f"teacher-{key}.pt", reader.tower, train, say)
    assert isinstance(tower, TextTower)
    return Reader(tower, reader.pieces)


def smaller_reader(teacher: Reader, sentences: Sequence[Sentence], recipe: TextRecipe) -> Reader:
    """Return a small network with the teacher's first layers and most frequent pieces.

    The vocabulary has every letter, so that any word can be split.

    Raises TrainingError: the teacher has fewer layers than `depth`, or is narrower than `rank`.
    """
    has = teacher.tower.size
    if recipe.depth > has.depth or recipe.rank > has.width:
        raise TrainingError(
            f"depth = {recipe.depth}, rank = {recipe.rank}: {recipe.teacher.encoder} has "
            f"{has.depth} layers of width {has.width}; set values up to these"
        )
    texts = Counter(word for sentence in sentences for word in sentence.text.split())
    often: Counter[int] = Counter()
    for word, times in texts.items():
        for piece in teacher.pieces.of_word(word):
            often[piece] += times
    known = teacher.pieces.vocabulary
    always = [i for i, piece in enumerate(known) if piece in SPECIAL or _is_letter(piece)]
    others = [i for i, _ in often.most_common() if i not in set(always)]
    chosen = [*always, *others[: max(0, recipe.pieces - len(always))]]
    counts = torch.tensor([max(1, often[i]) for i in chosen])
    tower = smaller(teacher.tower, chosen, counts, recipe.rank, recipe.depth)
    return Reader(tower, WordPieces([known[i] for i in chosen]))


def _is_letter(piece: str) -> bool:
    letter = piece.removeprefix(CONTINUES)
    return len(letter) == 1 and letter.isascii() and letter.isalnum()


def _report(
    name: str, reader: Reader, sentences: Sequence[Sentence], words: Sequence[str], say: Say
) -> None:
    for rate in (0.0, 0.2):
        logits, truth = text_scores(reader, sentences, words, rate)
        f1 = macro_f1(truth, logits.argmax(axis=1), sorted(set(truth.tolist())))
        say(f"tune, {name}, {rate:.0%} word errors: macro-F1 {f1:.3f}")


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy over fine labels if they are known, else over coarse ones."""
    coarse, fine = targets[:, : len(TEXT_LABELS)], targets[:, len(TEXT_LABELS) :]
    of_coarse = (coarse * grouped(logits, GROUPS).log_softmax(dim=1)).sum(dim=1)
    of_fine = (fine * logits.log_softmax(dim=1)).sum(dim=1)
    return -(of_coarse + of_fine).mean()


def text_scores(
    reader: Reader, sentences: Sequence[Sentence], words: Sequence[str], rate: float = 0.1
) -> tuple[FloatArray, Indices]:
    """Return logits [N, C] and labels [N] of sentences with one label, at a word error rate."""
    clear = [sentence for sentence in sentences if len(sentence.labels) == 1]
    rng = np.random.default_rng(0)
    texts = [with_errors(sentence.text, rate, words, rng) for sentence in clear]
    logits: FloatArray = grouped(logits_of(reader, texts), GROUPS).numpy()
    truth = np.array([TEXT_LABELS.index(sentence.labels[0]) for sentence in clear], np.int64)
    return logits, truth


def train_and_write(
    data: Path, cache: Path, out: Path, recipe: TextRecipe, say: Say = print
) -> Path:
    """Train the voter and write `out`/tiny-text.onnx.

    Raises DataError: a corpus is missing; ModelError: the pre-trained encoder is missing, or is not
    a BERT; TrainingError: the loss is NaN or infinite.
    """
    tuned = train_text(data, cache, recipe, say)
    say(f"temperature {tuned.temperature:.2f}")
    path = out / f"{NAME}.onnx"
    settings = {"vocabulary": list(tuned.pieces.vocabulary), "temperature": tuned.temperature}
    export(tuned.network, path, VERSION, TEXT_LABELS, settings)
    return path
