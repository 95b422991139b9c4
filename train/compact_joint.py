"""Recipe of the compact joint voter: two own towers, joined late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.tokens import encode
from abhinaya.train.compact_speech import (
    RENDERING_SEED,
    SpeechRecipe,
    feeds_of,
    held_out,
    scores,
    train_speech,
    truth_of,
)
from abhinaya.train.compact_text import TEXT_LABELS, TextRecipe, train_text
from abhinaya.train.data.clips import DataError, read_clips
from abhinaya.train.data.sessions import render
from abhinaya.train.data.texts import Sentence
from abhinaya.train.export import Joined, export
from abhinaya.train.metrics import Indices
from abhinaya.train.splits import select
from abhinaya.train.text_batches import TextPlan

VERSION: Final = "4"


def _speech() -> SpeechRecipe:
    # of other seeds than S1: what the two of them do not agree on is what one has overfitted
    return SpeechRecipe(seed=11)


def _text() -> TextRecipe:
    # one tower and no teachers: the file has room for no more, and the fusion hears it softly
    return TextRecipe(seed=11, towers=1, folds=0, plan=TextPlan(hash_seed=11))


@dataclass(frozen=True)
class JointRecipe:
    """Both towers, on purpose unlike those of the single voters, and how pairs are made."""

    speech: SpeechRecipe = field(default_factory=_speech)
    text: TextRecipe = field(default_factory=_text)
    neutral_words: float = 0.5
    """Share of pairs in which the words are neutral whatever the voice: people rarely say what
    they feel, and pairs made by label alone would teach the fusion to believe the words."""
    pairs_per_clip: int = 4
    pair_seed: int = 0


@dataclass(frozen=True)
class Pairs:
    """Scores of both towers for the same N made-up utterances."""

    speech: FloatArray
    text: FloatArray
    truth: Indices


def make_pairs(
    speech: FloatArray, truth: Indices, sentences: Sequence[Sentence], recipe: JointRecipe
) -> tuple[Indices, list[str]]:
    """Rows of `speech` [N, C] with a sentence each: of the row's label, or neutral."""
    rng = np.random.default_rng(recipe.pair_seed)
    by_label: dict[str, list[str]] = {label: [] for label in TEXT_LABELS}
    for sentence in sentences:
        if len(sentence.labels) == 1:
            by_label[sentence.labels[0]].append(sentence.text)
    rows = np.repeat(np.arange(len(speech)), recipe.pairs_per_clip)
    texts = []
    for row in rows:
        label = TEXT_LABELS[int(truth[row])]
        said = "neutral" if rng.random() < recipe.neutral_words else label
        if not by_label[said]:
            raise DataError(f"no tuning sentence is {said!r}: the text corpora are too small")
        texts.append(by_label[said][int(rng.integers(len(by_label[said])))])
    return rows, texts


def fit_fusion(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Scales [2] and bias [C] that minimise the negative log-likelihood of the pairs."""
    speech, text = torch.as_tensor(pairs.speech), torch.as_tensor(pairs.text)
    truth = torch.as_tensor(pairs.truth)
    scales = torch.ones(2, requires_grad=True)
    bias = torch.zeros(speech.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([scales, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        both = scales[0] * speech + scales[1] * text + bias
        # a bias is drawn to 0: how often a class occurs among the pairs says nothing about life
        value = torch.nn.functional.cross_entropy(both, truth) + 0.05 * bias.square().sum()
        torch.autograd.backward(value)
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return scales.detach(), bias.detach()


def train_compact_joint(
    data: Path,
    cache: Path,
    out: Path,
    recipe: JointRecipe | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train both towers, fit the fusion and write `out`/compact-joint.onnx.

    The one that has not met the tuning speakers goes to `cache`/held-out.

    Raises:
        DataError: the data is missing or broken.
        TrainingError: the loss is no longer a number.

    """
    recipe = recipe or JointRecipe()
    text = train_text(data, recipe.text, say)
    speech = train_speech(data, cache, recipe.speech, say)
    assert speech.labels == TEXT_LABELS
    clips = select(read_clips(data, ["ravdess", "nemo"]), "tune")
    tuning = render(clips, data, cache, 0, RENDERING_SEED)
    heard, truth = scores(speech.held_out, feeds_of(tuning)), truth_of(tuning)
    rows, texts = make_pairs(heard, truth, text.tune, recipe)
    ids, mask = encode(texts, recipe.text.plan.buckets, recipe.text.plan.hash_seed)
    with torch.no_grad():
        words = text.network.eval()(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    scales, bias = fit_fusion(Pairs(heard[rows], words, truth[rows]))
    say(f"fusion: speech {scales[0]:.2f}, text {scales[1]:.2f}")
    settings = {
        "buckets": recipe.text.plan.buckets,
        "hash_seed": recipe.text.plan.hash_seed,
        "scales": scales.tolist(),
    }
    path = out / "compact-joint.onnx"
    for heard_by, where in ((speech.network, path), (speech.held_out, held_out(cache) / path.name)):
        network = Joined(heard_by, text.network, scales, bias.tolist())
        export(network, where, "compact-joint", VERSION, speech.labels, settings)
    return path
