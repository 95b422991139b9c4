from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from abhinaya.train.compact_text import GROUPS, TEXT_LABELS, _loss
from abhinaya.train.data.texts import FINE, Sentence, read_goemotions
from abhinaya.train.export import SmallEmbedding
from abhinaya.train.text_batches import FINE_LABELS, TextBatches, TextPlan
from abhinaya.train.towers import Grouped, grouped

DATA = Path(__file__).parents[3] / "shared" / "data"


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
    targets = TextBatches(sentences, TEXT_LABELS, TextPlan(size=64), 0).draw()[2]
    rows = {tuple(row) for row in targets.tolist()}
    assert len(rows) == 2
    for row in rows:
        coarse, fine = row[: len(TEXT_LABELS)], row[len(TEXT_LABELS) :]
        assert sum(row) == pytest.approx(1.0)
        if sum(fine):
            assert fine[FINE_LABELS.index("gratitude")] == fine[FINE_LABELS.index("love")] == 0.5
        else:
            assert coarse[TEXT_LABELS.index("happy")] == 1.0


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
