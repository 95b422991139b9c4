"""Recipe of the compact text voter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.tokens import encode
from abhinaya.models.labels import LABELS
from abhinaya.train.calibration import fit_temperature
from abhinaya.train.data.texts import FINE, Sentence, read_emorynlp, read_goemotions
from abhinaya.train.data.word_errors import with_errors
from abhinaya.train.export import Calibrated, export, small
from abhinaya.train.loop import Schedule, fit
from abhinaya.train.metrics import Indices, macro_f1
from abhinaya.train.text_batches import FINE_LABELS, TextBatches, TextPlan, common_words
from abhinaya.train.text_teachers import taught_by_others
from abhinaya.train.text_words import ByWord, Lexicon, rows_of
from abhinaya.train.towers import Grouped, Known, Mean, TextTower, grouped

VERSION: Final = "4"
TEXT_LABELS: Final = tuple(label for label in LABELS if label != "contempt")
"""No text corpus here has contempt."""
GROUPS: Final = tuple(tuple(FINE_LABELS.index(n) for n in FINE[label]) for label in TEXT_LABELS)
"""Columns of the fine labels under each of ours."""
TUNE_SENTENCES: Final = 3_000


@dataclass(frozen=True)
class TextRecipe:
    """Everything that decides what the tower becomes, besides the data."""

    seed: int = 0
    towers: int = 1
    """Towers, each from another seed, whose logits are averaged."""
    folds: int = 4
    """Teachers, each of which leaves this part of the sentences out; 0 is none."""
    embedding: int = 96
    width: int = 256
    dropout: float = 0.4
    neutral: float = 0.8
    """Added to the score of neutral, in nats after the temperature."""
    plan: TextPlan = field(default_factory=TextPlan)
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=2_500, rate=3e-3, weight_decay=0.1)
    )


@dataclass(frozen=True)
class TunedText:
    """A trained tower with its temperature, and the sentences it was tuned on."""

    network: Calibrated
    temperature: float
    tune: tuple[Sentence, ...]


def divide(sentences: Sequence[Sentence], seed: int = 5) -> tuple[list[Sentence], list[Sentence]]:
    """Sentences to fit on, and TUNE_SENTENCES (a tenth of a small corpus) to tune on."""
    order = np.random.default_rng(seed).permutation(len(sentences))
    tune = min(TUNE_SENTENCES, len(sentences) // 10)
    return [sentences[i] for i in order[tune:]], [sentences[i] for i in order[:tune]]


def train_text(data: Path, recipe: TextRecipe, say: Callable[[str], None] = print) -> TunedText:
    """Train and calibrate a text tower on GoEmotions and EmoryNLP.

    Raises:
        DataError: a corpus is missing.
        TrainingError: the loss is no longer a number.

    """
    fitting, tuning = divide(read_goemotions(data, "train") + read_emorynlp(data, "train"))
    say(f"{len(fitting)} sentences to fit, {len(tuning)} to tune")
    plan = recipe.plan
    words = common_words(fitting)
    lexicon = Lexicon(fitting, plan.buckets, plan.hash_seed)
    rows = rows_of(lexicon, plan.buckets, plan.seldom)
    learner = Learner(recipe, lexicon, rows, say)
    taught = None
    if recipe.folds:
        seed = 1_000 + recipe.seed * 100
        taught = taught_by_others(fitting, lexicon, recipe.folds, seed, learner.learn)
    towers: list[nn.Module] = []
    for number in range(recipe.towers):
        tower = learner.learn(fitting, recipe.seed * 100 + number, taught).tower
        towers.append(Grouped(small(tower), GROUPS))
        for rate in (0.0, 0.2):
            logits, truth = text_scores(_together(towers, rows), tuning, plan, words, rate)
            f1 = macro_f1(truth, logits.argmax(axis=1), sorted(set(truth.tolist())))
            say(f"tune, towers 1 to {number + 1}, {rate:.0%} word errors: macro-F1 {f1:.3f}")
    together = _together(towers, rows)
    temperature = fit_temperature(*text_scores(together, tuning, plan, words))
    bias = [recipe.neutral if label == "neutral" else 0.0 for label in TEXT_LABELS]
    return TunedText(Calibrated(together, temperature, bias).eval(), temperature, tuple(tuning))


@dataclass(frozen=True)
class Learner:
    """Trains one tower, teacher or pupil."""

    recipe: TextRecipe
    lexicon: Lexicon
    rows: npt.NDArray[np.int16]
    """[U] row of each bucket's pieces."""
    say: Callable[[str], None]

    def learn(
        self, sentences: Sequence[Sentence], seed: int, taught: FloatArray | None = None
    ) -> ByWord:
        """Train on `sentences`, and on what teachers say of them, `taught` [N, F].

        Raises:
            TrainingError: the loss is no longer a number.

        """
        of, rows = self.recipe, self.rows.astype(np.int64)
        torch.manual_seed(seed)
        tower = TextTower(
            len(FINE_LABELS), 1 + int(self.rows.max()), of.embedding, of.width, of.dropout
        )
        batches = TextBatches(sentences, TEXT_LABELS, of.plan, seed, self.lexicon, taught)
        student = ByWord(tower, rows[self.lexicon.pieces])
        trained = fit(student, batches.draw, _loss, of.schedule, self.say)
        assert isinstance(trained, ByWord)
        return trained


def _together(towers: Sequence[nn.Module], rows: npt.NDArray[np.int16]) -> Known:
    return Known(Mean(towers), rows).eval()


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the fine labels where they are known, else over the coarse ones."""
    coarse, fine = targets[:, : len(TEXT_LABELS)], targets[:, len(TEXT_LABELS) :]
    of_coarse = (coarse * grouped(logits, GROUPS).log_softmax(dim=1)).sum(dim=1)
    of_fine = (fine * logits.log_softmax(dim=1)).sum(dim=1)
    return -(of_coarse + of_fine).mean()


@torch.no_grad()
def text_scores(
    tower: torch.nn.Module,
    sentences: Sequence[Sentence],
    plan: TextPlan,
    words: Sequence[str],
    rate: float = 0.1,
) -> tuple[FloatArray, Indices]:
    """Logits [N, C] and labels [N] of the sentences with one label, at this rate of word errors."""
    clear = [sentence for sentence in sentences if len(sentence.labels) == 1]
    rng = np.random.default_rng(0)
    texts = [with_errors(sentence.text, rate, words, rng) for sentence in clear]
    ids, mask = encode(texts, plan.buckets, plan.hash_seed)
    logits = tower(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    truth = np.array([TEXT_LABELS.index(sentence.labels[0]) for sentence in clear], np.int64)
    return logits, truth


def train_compact_text(
    data: Path,
    out: Path,
    recipe: TextRecipe | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the voter and write `out`/compact-text.onnx."""
    recipe = recipe or TextRecipe()
    tuned = train_text(data, recipe, say)
    say(f"temperature {tuned.temperature:.2f}")
    path = out / "compact-text.onnx"
    settings = {
        "buckets": recipe.plan.buckets,
        "hash_seed": recipe.plan.hash_seed,
        "temperature": tuned.temperature,
    }
    export(tuned.network, path, "compact-text", VERSION, TEXT_LABELS, settings)
    return path
