from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.tokens import encode
from abhinaya.train.compact_text import GROUPS, TEXT_LABELS, _loss
from abhinaya.train.data.texts import FINE, Sentence, read_goemotions
from abhinaya.train.export import SmallEmbedding
from abhinaya.train.text_batches import FINE_LABELS, TextBatches, TextPlan
from abhinaya.train.text_teachers import taught_by_others
from abhinaya.train.text_words import ByWord, Lexicon, rows_of
from abhinaya.train.towers import Grouped, Known, TextTower, grouped

DATA = Path(__file__).parents[3] / "shared" / "data"


def batches_of(sentences: list[Sentence], taught: FloatArray | None = None) -> TextBatches:
    plan = TextPlan(size=64, buckets=256)
    lexicon = Lexicon(sentences, plan.buckets, plan.hash_seed)
    return TextBatches(sentences, TEXT_LABELS, plan, 0, lexicon, taught)


def test_the_chance_of_a_group_is_that_of_its_members_together() -> None:
    logits = torch.randn(5, 4)
    groups = ((0, 2), (1,), (3,))
    chances, apart = grouped(logits, groups).softmax(1), logits.softmax(1)
    torch.testing.assert_close(chances[:, 0], apart[:, 0] + apart[:, 2])
    torch.testing.assert_close(chances[:, 1:], apart[:, [1, 3]])
    tower = Grouped(torch.nn.Identity(), groups)
    torch.testing.assert_close(tower(logits), grouped(logits, groups))


def test_every_fine_label_is_under_one_of_ours() -> None:
    assert len(set(FINE_LABELS)) == 28
    assert sorted(column for group in GROUPS for column in group) == list(range(28))
    assert set(FINE) == set(TEXT_LABELS)


def test_a_sentence_teaches_what_is_known_of_it_and_nothing_else() -> None:
    sentences = [
        Sentence("so kind", ("happy",), ("gratitude", "love")),
        Sentence("mine", ("happy",)),
    ]
    targets = batches_of(sentences).draw()[1]
    rows = {tuple(row) for row in targets.tolist()}
    assert len(rows) == 2
    for row in rows:
        coarse, fine = row[: len(TEXT_LABELS)], row[len(TEXT_LABELS) :]
        assert sum(row) == pytest.approx(1.0)
        if sum(fine):
            assert fine[FINE_LABELS.index("gratitude")] == fine[FINE_LABELS.index("love")] == 0.5
        else:
            assert coarse[TEXT_LABELS.index("happy")] == 1.0


def test_a_teacher_counts_as_much_as_the_plan_says() -> None:
    sentences = [Sentence("so kind", ("happy",), ("love",)), Sentence("mine", ("happy",))]
    taught = np.zeros((2, len(FINE_LABELS)), np.float32)
    taught[:, FINE_LABELS.index("pride")] = 1.0
    targets = batches_of(sentences, taught).draw()[1]
    share = TextPlan().taught
    fine = targets[:, len(TEXT_LABELS) :]
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 64)
    assert set(fine[:, FINE_LABELS.index("pride")].tolist()) == {share}
    assert set(fine[:, FINE_LABELS.index("love")].tolist()) == {0.0, 1.0 - share}
    assert set(targets[:, TEXT_LABELS.index("happy")].tolist()) == {0.0, 1.0 - share}


def test_a_batch_has_little_padding_and_the_draw_every_length() -> None:
    sentences = [Sentence("word " * n + "end", ("happy",)) for n in range(1, 40)]
    batches = batches_of(sentences)
    lengths = [(words > 0).sum(dim=1) for words, _ in (batches.draw() for _ in range(8))]
    assert max(int(of.max() - of.min()) for of in lengths) < 25
    assert min(int(of.min()) for of in lengths) < 5
    assert max(int(of.max()) for of in lengths) > 30


def test_each_is_taught_by_one_that_did_not_learn_from_it() -> None:
    sentences = [Sentence(f"word{n}", ("happy",)) for n in range(30)]
    lexicon = Lexicon(sentences, 256, 0)

    class Remembers(torch.nn.Module):
        """Says of what it learnt the first label, of all else the last."""

        def __init__(self, learnt: Sequence[Sentence]) -> None:
            super().__init__()
            self.learnt = torch.from_numpy(lexicon.encode([s.text for s in learnt]))

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            known = torch.isin(words[:, 0], self.learnt)
            first = torch.nn.functional.one_hot(torch.where(known, 0, 27), 28)
            return 100.0 * first.float()

    taught = taught_by_others(sentences, lexicon, 3, 0, lambda some, _: Remembers(some))
    np.testing.assert_allclose(taught[:, 27], 1.0)


def test_in_training_a_sentence_reads_as_in_service() -> None:
    sentences = [Sentence("a rather longish sentence", ("happy",)), Sentence("a word", ("sad",))]
    buckets = 64
    lexicon = Lexicon(sentences, buckets, 3)
    rows = rows_of(lexicon, buckets, 2)
    tower = TextTower(7, 1 + int(rows.max()), 8, 8, 0.1).eval()
    texts = [sentence.text for sentence in sentences]
    ids, mask = encode(texts, buckets, 3)
    there = Known(tower, rows)(torch.from_numpy(ids), torch.from_numpy(mask))
    here = ByWord(tower, rows.astype(np.int64)[lexicon.pieces])(
        torch.from_numpy(lexicon.encode(texts))
    )
    torch.testing.assert_close(here, there)


def test_what_training_seldom_met_has_no_row() -> None:
    sentences = [Sentence("oh oh oh no", ("sad",))]
    lexicon = Lexicon(sentences, 1 << 16, 0)
    rows = rows_of(lexicon, 1 << 16, 3)
    often, once = encode(["oh", "no"], 1 << 16, 0)[0]
    assert sorted(rows[often[often > 0]]) == list(range(1, int((often > 0).sum()) + 1))
    assert rows[once].max() == rows[0] == 0
    with pytest.raises(ValueError, match="raise `seldom`"):
        rows_of(_Full(), 1 << 16, 1)  # type: ignore[arg-type]


class _Full:
    """A lexicon whose one word has a piece in every bucket."""

    pieces = np.arange(1 << 16)[None, :]
    counts = np.ones(1, np.int64)


def test_a_coarse_label_leaves_open_which_fine_one_it_is() -> None:
    targets = torch.zeros(1, len(TEXT_LABELS) + 28)
    targets[0, TEXT_LABELS.index("happy")] = 1.0
    losses = []
    for name in ("joy", "pride", "grief"):
        logits = torch.zeros(1, 28)
        logits[0, FINE_LABELS.index(name)] = 5.0
        losses.append(_loss(logits, targets).item())
    assert losses[0] == pytest.approx(losses[1])
    assert losses[2] > losses[0] + 2.0


def test_eight_bits_lose_little_of_an_embedding() -> None:
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(50, 8)
    with torch.no_grad():
        embedding.weight *= torch.logspace(-3, 1, 50)[:, None]
    ids = torch.arange(50).reshape(5, 10)
    exact, small = embedding(ids), SmallEmbedding(embedding)(ids)
    largest = exact.abs().amax(dim=-1, keepdim=True)
    assert ((exact - small).abs() <= largest / 254 + 1e-7).all()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the development data is not at {DATA}")
def test_grouping_the_fine_labels_gives_the_coarse_ones_of_the_corpus() -> None:
    sentences = read_goemotions(DATA, "dev")
    under = {name: label for label, names in FINE.items() for name in names}
    assert all(sentence.fine for sentence in sentences)
    same = [{under[name] for name in s.fine} == set(s.labels) for s in sentences]
    assert np.mean(same) == 1.0
