"""Recipe of the compact joint voter: two own towers, joined late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from abhinaya.models.base import FloatArray
from abhinaya.train.compact_manner import MannerRecipe
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
from abhinaya.train.export import Fusion, Joined, export
from abhinaya.train.metrics import Indices
from abhinaya.train.splits import select
from abhinaya.train.text_batches import TextPlan

VERSION: Final = "6"


def _speech() -> SpeechRecipe:
    # of other seeds than S1: what the two of them do not agree on is what one has overfitted
    # and fewer towers: its file has room for no more
    return SpeechRecipe(seed=11, sounds=1, manner=MannerRecipe(seeds=2))


def _text() -> TextRecipe:
    # of the same teacher as T2, but the file has room for one layer
    alone = TextRecipe()
    schedule = replace(alone.schedule, steps=5_000)
    return replace(alone, depth=1, pieces=5_000, plan=TextPlan(), schedule=schedule)


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


def fit_fusion(pairs: Pairs, neutral: int, share: float) -> Fusion:
    """Fusion that minimises the negative log-likelihood of the pairs.

    `neutral` is that column. `share` is stated, as the pairs were made: fitted on them it comes out
    at .11, for a text tower that is never sure, and then a plain sentence silences a loud voice.
    """
    speech, text = torch.as_tensor(pairs.speech), torch.as_tensor(pairs.text)
    truth = torch.as_tensor(pairs.truth)
    fusion = Fusion(speech.shape[1], neutral, share)
    parameters = list(fusion.parameters())
    solver = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        # a bias is drawn to 0: how often a class occurs among the pairs says nothing about life
        value = torch.nn.functional.cross_entropy(fusion(speech, text), truth)
        value = value + 0.05 * fusion.bias.square().sum()
        torch.autograd.backward(value)
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return fusion.requires_grad_(False)


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
    text = train_text(data, cache, recipe.text, say)
    speech = train_speech(data, cache, recipe.speech, say)
    assert speech.labels == TEXT_LABELS
    clips = select(read_clips(data, ["ravdess", "nemo"]), "tune")
    tuning = render(clips, data, cache, 0, RENDERING_SEED)
    heard, truth = scores(speech.held_out, feeds_of(tuning)), truth_of(tuning)
    rows, texts = make_pairs(heard, truth, text.tune, recipe)
    ids, mask = text.pieces.encode(texts)
    with torch.no_grad():
        words = text.network.eval()(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    neutral = TEXT_LABELS.index("neutral")
    fusion = fit_fusion(Pairs(heard[rows], words, truth[rows]), neutral, recipe.neutral_words)
    of_speech, of_text = fusion.scales.tolist()
    say(f"fusion: speech {of_speech:.2f}, text {of_text:.2f}")
    settings = {
        "vocabulary": list(text.pieces.vocabulary),
        "scales": [of_speech, of_text],
        "neutral_words": recipe.neutral_words,
    }
    path = out / "compact-joint.onnx"
    for heard_by, where in ((speech.network, path), (speech.held_out, held_out(cache) / path.name)):
        network = Joined(heard_by, text.network, fusion)
        export(network, where, "compact-joint", VERSION, speech.labels, settings)
    return path
