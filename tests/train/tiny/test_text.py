from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import DATA
from transformers import BertModel, BertTokenizer, RobertaModel

from abhinaya.models.base import FloatArray
from abhinaya.models.errors import KeysError
from abhinaya.models.tiny.tokens import SPECIAL, WordPieces
from abhinaya.train.cli import main
from abhinaya.train.data.texts import FINE, Sentence, read_goemotions
from abhinaya.train.errors import TrainingError
from abhinaya.train.tiny.loop import Schedule
from abhinaya.train.tiny.text import (
    GROUPS,
    TEXT_LABELS,
    TextRecipe,
    _loss,
    smaller_reader,
    taught_teacher,
)
from abhinaya.train.tiny.text_batches import FINE_LABELS, TextBatches, TextPlan
from abhinaya.train.tiny.text_export import Calibrated, EightBits, grouped
from abhinaya.train.tiny.text_tower import (
    Reader,
    TeacherRecipe,
    TextSize,
    TextTower,
    chances,
    load_encoder,
    logits_of,
    smaller,
)

PIECES = WordPieces([*SPECIAL, "so", "kind", "mine", "word", "end"])


def batches_of(sentences: list[Sentence], taught: FloatArray | None = None) -> TextBatches:
    return TextBatches(sentences, TEXT_LABELS, TextPlan(size=64), 0, PIECES, taught)


def test_the_chance_of_a_group_is_that_of_its_members_together() -> None:
    logits = torch.randn(5, 4)
    groups = ((0, 2), (1,), (3,))
    chances, apart = grouped(logits, groups).softmax(1), logits.softmax(1)
    torch.testing.assert_close(chances[:, 0], apart[:, 0] + apart[:, 2])
    torch.testing.assert_close(chances[:, 1:], apart[:, [1, 3]])
    network = Calibrated(torch.nn.Identity(), groups, 2.0, [0.0, 1.0, 0.0])
    calibrated, fine = network(logits)
    expected = grouped(logits, groups) / 2.0 + torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(calibrated, expected)
    torch.testing.assert_close(fine, logits)


def test_every_fine_label_is_under_one_of_ours() -> None:
    assert len(set(FINE_LABELS)) == 28
    assert sorted(column for group in GROUPS for column in group) == list(range(28))
    assert set(FINE) == set(TEXT_LABELS)


def test_a_sentence_teaches_what_is_known_of_it_and_nothing_else() -> None:
    sentences = [
        Sentence("so kind", ("happy",), ("gratitude", "love")),
        Sentence("mine", ("happy",)),
    ]
    targets = batches_of(sentences).draw()[-1]
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
    targets = batches_of(sentences, taught).draw()[-1]
    share = TextPlan().taught
    fine = targets[:, len(TEXT_LABELS) :]
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 64)
    assert set(fine[:, FINE_LABELS.index("pride")].tolist()) == {share}
    assert set(fine[:, FINE_LABELS.index("love")].tolist()) == {0.0, 1.0 - share}
    assert set(targets[:, TEXT_LABELS.index("happy")].tolist()) == {0.0, 1.0 - share}


def test_a_batch_has_little_padding_and_the_draw_every_length() -> None:
    sentences = [Sentence("word " * n + "end", ("happy",)) for n in range(1, 40)]
    batches = batches_of(sentences)
    lengths = [mask.sum(dim=1) for _, mask, _ in (batches.draw() for _ in range(8))]
    assert max(int(of.max() - of.min()) for of in lengths) < 25
    assert min(int(of.min()) for of in lengths) < 7
    assert max(int(of.max()) for of in lengths) > 30


def bert(encoder: Path) -> tuple[BertModel, Reader]:
    reader = load_encoder(TeacherRecipe(encoder=str(encoder)), 28)
    reader.tower.eval()
    return BertModel.from_pretrained(encoder).eval(), reader


def test_the_tower_reads_as_the_checkpoint_does_in_transformers(encoder: Path) -> None:
    theirs, ours = bert(encoder)
    ids, mask = map(torch.from_numpy, ours.pieces.encode(["joy and sadness", "joy"]))
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        found = ours.tower.read(ids, mask)
    torch.testing.assert_close(found[mask > 0.5], expected[mask > 0.5], atol=1e-5, rtol=1e-5)


def test_at_full_size_a_smaller_tower_is_the_whole_one(encoder: Path) -> None:
    _, teacher = bert(encoder)
    texts = ["joy and sadness", "so what 7"]
    every = len(teacher.pieces.vocabulary)
    sentences = [Sentence(text, ("happy",)) for text in texts]
    same = smaller_reader(teacher, sentences, TextRecipe(depth=3, rank=16, pieces=every))
    torch.testing.assert_close(logits_of(same, texts), logits_of(teacher, texts))
    less = smaller_reader(teacher, sentences, TextRecipe(depth=1, rank=4, pieces=0))
    assert len(less.tower.layers) == 1
    assert less.tower.pieces.weight.shape == (4 + 36 + 36, 4)
    assert not torch.allclose(logits_of(less, texts), logits_of(teacher, texts))


def test_pieces_that_occur_often_stay_and_every_letter(encoder: Path) -> None:
    _, teacher = bert(encoder)
    sentences = [Sentence("sad sad joy sadness", ("sad",))]
    recipe = TextRecipe(depth=1, rank=8, pieces=4 + 36 + 36 + 1)
    known = smaller_reader(teacher, sentences, recipe).pieces.vocabulary
    assert set(known) >= {*SPECIAL, "q", "##q", "sad"}
    assert "joy" not in known


def test_what_the_embedding_keeps_is_what_is_often_met() -> None:
    torch.manual_seed(0)
    whole = TextTower(TextSize(40, 16, 16, 2, 8, 1), 7, 0.0)
    often = torch.ones(40)
    often[:4] = 10_000.0
    made = smaller(whole, range(40), often, rank=5, depth=1)
    lost = (made.widen(made.pieces.weight) - whole.pieces.weight).norm(dim=1)
    assert lost[:4].max() < 0.1 < lost[4:].mean()


@pytest.mark.parametrize(("setting", "value"), [("depth", 4), ("rank", 17)])
def test_a_tower_larger_than_its_teacher_is_refused(
    setting: str, value: int, encoder: Path
) -> None:
    _, teacher = bert(encoder)
    recipe = replace(TextRecipe(depth=1, rank=8), **{setting: value})
    with pytest.raises(TrainingError, match="has 3 layers of width 16"):
        smaller_reader(teacher, [Sentence("joy", ("happy",))], recipe)


SMALL = {
    "vocab_size": 200, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "intermediate_size": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (RobertaModel, {}, "it is a RobertaModel, not a BertModel"),
        (BertModel, {"max_position_embeddings": 32}, "it reads 32 pieces, and 96 are needed"),
        (BertModel, {"hidden_act": "relu"}, "is relu"),
        (BertModel, {"vocab_size": 9}, "weights 9"),
    ],
)
def test_an_encoder_that_cannot_be_read_is_refused(
    kind: Any, changes: dict[str, object], message: str, encoder: Path, tmp_path: Path
) -> None:
    kind(kind.config_class(**SMALL | changes)).save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(encoder).save_pretrained(tmp_path)
    with pytest.raises(KeysError, match=message):
        load_encoder(TeacherRecipe(encoder=str(tmp_path)), 28)


def test_an_encoder_that_is_not_there_is_one_line(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--out", str(tmp_path), "--cache", str(tmp_path)]
    assert main(["tiny-text", *folders, "--set", 'teacher.encoder="/nowhere/bert"']) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "/nowhere/bert" in said


def test_a_teacher_is_trained_once(encoder: Path, tmp_path: Path) -> None:
    sentences = [Sentence(f"{word} {n}", (label,)) for n in range(4) for word, label in WORDS]
    schedule = Schedule(steps=2, average=0.1)
    recipe = TextRecipe(teacher=TeacherRecipe(encoder=str(encoder), schedule=schedule))
    said: list[str] = []
    texts = [sentence.text for sentence in sentences]
    first = chances(taught_teacher(sentences, tmp_path, recipe, said.append), texts)
    assert not any("kept" in line for line in said)
    again = chances(taught_teacher(sentences, tmp_path, recipe, said.append), texts)
    assert any("kept" in line for line in said)
    np.testing.assert_array_equal(first, again)
    other = replace(recipe, seed=1)
    assert np.abs(first - chances(taught_teacher(sentences, tmp_path, other, print), texts)).max()


WORDS = (("joy", "happy"), ("sad", "sad"))


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


def test_eight_bits_lose_little_of_a_matrix() -> None:
    torch.manual_seed(0)
    weight = torch.randn(50, 8) * torch.logspace(-3, 1, 50)[:, None]
    bits = EightBits()
    kept, scale = bits.right_inverse(weight)
    assert kept.dtype == torch.int8
    largest = weight.abs().amax(dim=1, keepdim=True)
    assert ((bits(kept, scale) - weight).abs() <= largest / 254 + 1e-7).all()


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the development data is not at {DATA}")
def test_grouping_the_fine_labels_gives_the_coarse_ones_of_the_corpus() -> None:
    sentences = read_goemotions(DATA, "dev")
    under = {name: label for label, names in FINE.items() for name in names}
    assert all(sentence.fine for sentence in sentences)
    same = [{under[name] for name in s.fine} == set(s.labels) for s in sentences]
    assert np.mean(same) == 1.0
