from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from places import DATA
from transformers import BertConfig, BertModel, BertTokenizer, RobertaModel

from abhinaya.models.base import Ballot, FloatArray, Utterance
from abhinaya.models.errors import KeysError
from abhinaya.models.registry import load
from abhinaya.models.tiny.text import TextTower as Served
from abhinaya.models.tiny.tokens import SPECIAL, WordPieces
from abhinaya.train.cli import main
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.texts import FINE, sentences
from abhinaya.train.errors import TrainingError
from abhinaya.train.tiny.text import GROUPS, TEXT_LABELS, TextRecipe, _loss, smaller_reader
from abhinaya.train.tiny.text_batches import FINE_LABELS, TextPlan, text_batches
from abhinaya.train.tiny.text_tower import (
    Calibrated,
    EightBits,
    TextTower,
    export,
    grouped,
    load_encoder,
    small,
    smaller,
)

VOCABULARY = (*SPECIAL, "so", "kind", "mine", "word", "end", "it", "goes", "well", "what", "day")
PIECES = WordPieces(VOCABULARY)


def sentence(text: str, label: str = "happy", *fine: str) -> Clip:
    secondary = dict.fromkeys(fine, 1.0)
    return Clip(text, "made up", votes={label: 1.0}, secondary=secondary, transcript=text)


def tower_of(classes: int = 7, size: int = 16) -> TextTower:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=size, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=128, attn_implementation="eager",
    )  # fmt: skip
    return TextTower(BertModel(config, add_pooling_layer=False), classes).eval()


def test_the_chance_of_a_group_is_that_of_its_members_together() -> None:
    logits = torch.randn(5, 4)
    groups = ((0, 2), (1,), (3,))
    chances, apart = grouped(logits, groups).softmax(1), logits.softmax(1)
    torch.testing.assert_close(chances[:, 0], apart[:, 0] + apart[:, 2])
    torch.testing.assert_close(chances[:, 1:], apart[:, [1, 3]])


def test_every_fine_label_is_under_one_of_ours() -> None:
    assert len(set(FINE_LABELS)) == 28
    assert sorted(column for group in GROUPS for column in group) == list(range(28))
    assert set(FINE) == set(TEXT_LABELS)


@pytest.mark.parametrize("taught", [False, True])
def test_a_sentence_teaches_what_is_known_of_it_and_the_teacher_its_share(taught: bool) -> None:
    clips = [sentence("so kind", "happy", "gratitude", "love"), sentence("mine")]
    given: FloatArray | None = None
    share = TextPlan().taught if taught else 0.0
    if taught:
        given = np.zeros((2, len(FINE_LABELS)), np.float32)
        given[:, FINE_LABELS.index("pride")] = 1.0
    plan = TextPlan(size=64)
    targets = next(text_batches(clips, TEXT_LABELS, plan, 0, PIECES, given))[-1]
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 64)
    fine = targets[:, len(TEXT_LABELS) :]
    assert set(fine[:, FINE_LABELS.index("pride")].tolist()) == {share}
    for name in ("gratitude", "love"):
        assert set(fine[:, FINE_LABELS.index(name)].tolist()) == {0.0, (1.0 - share) / 2}
    assert set(targets[:, TEXT_LABELS.index("happy")].tolist()) == {0.0, 1.0 - share}


def test_a_batch_has_little_padding_and_the_draw_every_length() -> None:
    clips = [sentence("word " * n + "end") for n in range(1, 40)]
    batches = text_batches(clips, TEXT_LABELS, TextPlan(size=64), 0, PIECES)
    lengths = [mask.sum(dim=1) for _, mask, _ in (next(batches) for _ in range(8))]
    assert max(int(of.max() - of.min()) for of in lengths) < 25
    assert min(int(of.min()) for of in lengths) < 7
    assert max(int(of.max()) for of in lengths) > 30


def test_a_smaller_tower_is_near_the_whole_one_and_has_every_letter(encoder: Path) -> None:
    teacher = load_encoder(str(encoder), 28)
    texts = ["joy and sadness", "so what 7"]
    every, clips = len(teacher.pieces.vocabulary), [sentence(text) for text in texts]
    same = smaller_reader(teacher, clips, TextRecipe(depth=3, rank=16, pieces=every))
    torch.testing.assert_close(same.logits(texts), teacher.logits(texts), atol=1e-4, rtol=1e-4)
    less = smaller_reader(teacher, clips, TextRecipe(depth=1, rank=4, pieces=4 + 36 + 36 + 1))
    assert not torch.allclose(less.logits(texts), teacher.logits(texts))
    assert set(less.pieces.vocabulary) >= {*SPECIAL, "q", "##q"}
    assert len(less.pieces.vocabulary) == 4 + 36 + 36 + 1
    with pytest.raises(TrainingError, match="has 3 layers of width 16"):
        smaller_reader(teacher, clips, TextRecipe(depth=4, rank=8))


def test_what_the_embedding_keeps_is_what_is_often_met() -> None:
    whole = tower_of()
    often = torch.ones(40)
    often[:4] = 10_000.0
    made = smaller(whole, range(40), often, rank=5, depth=1)
    before, after = (t.bert.embeddings.word_embeddings(torch.arange(40)) for t in (whole, made))
    lost = (after - before).norm(dim=1)
    assert lost[:4].max() < 0.5 * lost[4:].mean()


SMALL = {
    "vocab_size": 200, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
    "intermediate_size": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (RobertaModel, {}, "it is a RobertaModel"),
        (BertModel, {"max_position_embeddings": 32}, "for texts of 32 pieces, .* at least 96"),
        (BertModel, {"vocab_size": 9}, "with 9 embeddings for the"),
    ],
)
def test_an_encoder_that_cannot_be_read_is_refused(
    kind: Any, changes: dict[str, object], message: str, encoder: Path, tmp_path: Path
) -> None:
    kind(kind.config_class(**SMALL | changes)).save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(encoder).save_pretrained(tmp_path)
    with pytest.raises(KeysError, match=message):
        load_encoder(str(tmp_path), 28)


@pytest.mark.parametrize(
    ("setting", "data", "said"),
    [
        ('teacher.encoder="/nowhere/bert"', True, "/nowhere/bert"),
        ("seed=1", False, "text/goemotions: no such folder"),
    ],
)
def test_what_is_missing_is_one_line(
    setting: str,
    data: bool,
    said: str,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(tiny if data else tmp_path)
    assert main(["tiny-text", "--data", folder, "--out", str(tmp_path), "--set", setting]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_without_onnx_training_does_not_even_begin(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["tiny-text", "--data", str(tiny)]) == 1
    said = capsys.readouterr()
    assert "abhinaya[train]" in said.err
    assert not said.out


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


def test_the_file_gives_what_torch_gives_for_any_length(tmp_path: Path) -> None:
    groups = [[0, 7], *([c] for c in range(1, 7))]
    often = torch.ones(len(VOCABULARY))
    tower = small(smaller(tower_of(8), range(len(VOCABULARY)), often, rank=8, depth=2)).eval()
    network = Calibrated(tower, groups, 0.8, [0.0] * 4 + [0.5, 0.0, 0.0]).eval()
    path = tmp_path / "tiny-text.onnx"
    settings = {"vocabulary": VOCABULARY}
    export(network, path, {"version": "0", "labels": TEXT_LABELS, "settings": settings})
    texts = ["well", "what a day it goes", "so " * 200]
    logits, fine = Served(str(path)).read(texts)
    ids, mask = PIECES.encode(texts)
    with torch.no_grad():
        expected = network(torch.from_numpy(ids), torch.from_numpy(mask))
    np.testing.assert_allclose(logits, expected[0], atol=1e-5)
    np.testing.assert_allclose(fine, expected[1], atol=1e-5)
    alone, _ = Served(str(path)).read(texts[:1])
    np.testing.assert_allclose(alone[0], logits[0], atol=1e-5)  # padding has no effect
    summed = np.logaddexp(fine[:, 0], fine[:, 7]) / 0.8
    np.testing.assert_allclose(logits[:, 0], summed, atol=1e-5)
    matrices = [x for x in onnx.load(path).graph.initializer if len(x.dims) == 2 and x.dims[1] > 1]
    assert len(matrices) == 4 + 2 * 6 + 1
    assert {x.data_type for x in matrices} == {onnx.TensorProto.INT8}


def test_two_steps_from_the_command_make_a_text_voter(
    tiny: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--data", str(tiny), "--out", str(tmp_path)]
    smaller = ["--set", f"teacher.encoder={json.dumps(str(encoder))}", "--set", "rank=8"]
    steps = ["--set", "schedule.steps=2", "--set", "teacher.schedule.steps=2"]
    assert main(["tiny-text", *folders, *steps, *smaller]) == 0
    path = tmp_path / "tiny-text.onnx"
    assert f"abhinaya train evaluate tiny-text --weights {path}" in capsys.readouterr().out
    (answer,) = load("tiny-text", {"weights": str(path)}).vote(
        [Utterance(np.zeros(0, np.float32), transcript="its joy")]
    )
    assert isinstance(answer, Ballot)
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["model"], card["licence"], card["figures"]) == ("tiny-text", "Apache-2.0", {})
    assert card["made_by"].startswith("abhinaya train tiny-text --set schedule.steps=2 --set teach")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the development data is not at {DATA}")
def test_grouping_the_fine_labels_gives_the_coarse_ones_of_the_corpus() -> None:
    under = {name: label for label, names in FINE.items() for name in names}
    clips = sentences(DATA, "goemotions", "dev")
    assert len(clips) > 5_000
    assert all({under[name] for name in c.secondary} == set(c.votes) for c in clips)
    table = (DATA / "text" / "goemotions" / "ekman_dev.tsv").read_text(encoding="utf-8")
    coarse = {line.split("\t")[2]: line.split("\t")[1].count(",") for line in table.splitlines()}
    assert all(len(c.votes) == 1 + coarse[c.id] for c in clips)
