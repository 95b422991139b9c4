from __future__ import annotations

import json

import numpy as np
import pytest
from places import GOLDEN

from abhinaya.models.errors import LabelsError
from abhinaya.models.labels import CANONICAL_MAP, FOREIGN_ORDERS, LABELS, label_map, own_labels


def test_the_baselines_order_becomes_ours_by_the_published_permutation() -> None:
    found = label_map(FOREIGN_ORDERS["challenge-baseline"], "baseline")
    assert found.indices == (0, 6, 5, 4, 2, 7, 1, 3)
    path = GOLDEN / "wavlm_tiny" / "config.json"
    if not path.exists():
        pytest.skip(f"no golden values at {GOLDEN}")
    config = json.loads(path.read_text())["cat_ser"]
    names = [config["id2label"][str(i)] for i in range(config["num_classes"])]
    assert list(label_map(names, "golden").indices) == config["to_alphabetical_order"]


@pytest.mark.parametrize("name", FOREIGN_ORDERS)
def test_every_known_order_maps(name: str) -> None:
    found = label_map(FOREIGN_ORDERS[name], name)
    assert found.matrix.shape == (len(FOREIGN_ORDERS[name]), len(LABELS))
    assert set(found.matrix.sum(axis=1)) <= {0.0, 1.0}


def test_a_planted_class_comes_back_under_its_label() -> None:
    names = ("sadness", "joy", "anger", "other")
    probabilities = np.array([0.1, 0.2, 0.6, 0.1], np.float32) @ label_map(names, "x").matrix
    assert LABELS[int(probabilities.argmax())] == "angry"
    assert probabilities[LABELS.index("happy")] == pytest.approx(0.2)
    assert probabilities.sum() == pytest.approx(0.9)  # the tenth of "other" is nobody's


def test_labels_a_checkpoint_can_give() -> None:
    seven = tuple(label for label in LABELS if label != "contempt")
    given = dict.fromkeys(("ekman-7", "go-emotions-28", "emotion2vec-plus-9"), seven)
    given |= {"vox-profile-9": LABELS, "superb-4": ("angry", "happy", "neutral", "sad")}
    for order, labels in given.items():
        assert label_map(FOREIGN_ORDERS[order], order).labels == labels


def test_go_emotions_groups_are_all_used() -> None:
    found = label_map(FOREIGN_ORDERS["go-emotions-28"], "go")
    counts = dict(zip(LABELS, found.matrix.sum(axis=0).astype(int).tolist(), strict=True))
    assert counts == {
        "angry": 3, "contempt": 0, "disgust": 1, "fear": 2, "happy": 12, "neutral": 1, "sad": 5,
        "surprise": 4,
    }  # fmt: skip


def test_bilingual_names_case_and_overrides() -> None:
    found = label_map(("生气/angry", "NEU", " Sadness ", "<unk>"), "e2v")
    assert found.targets == ("angry", "neutral", "sad", None)
    found = label_map(("LABEL_1", "LABEL_0"), "m", {"LABEL_0": "sad", "LABEL_1": "fear"})
    assert found.targets == ("fear", "sad")


def test_names_that_do_not_map_are_all_named() -> None:
    with pytest.raises(LabelsError, match="LABEL_0, LABEL_1") as caught:
        label_map(("LABEL_0", "LABEL_1", "sad"), "some/model")
    assert caught.value.subject == "some/model"
    assert "option labels" in caught.value.remedy


@pytest.mark.parametrize(
    ("names", "overrides", "message"),
    [
        (("sad",), {"sab": "fear"}, "does not have: sab"),
        (("sad",), {"sad": "gloomy"}, "not labels: gloomy"),
        (("sad", "sad"), {}, "more than once: sad"),
        (("other", "unknown"), {}, "no emotion"),
    ],
)
def test_refusals(names: tuple[str, ...], overrides: dict[str, str], message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        label_map(names, "m", overrides)


def test_indices_refuse_anything_but_the_eight() -> None:
    assert np.array_equal(CANONICAL_MAP.matrix, np.eye(8))
    with pytest.raises(LabelsError, match="exactly once"):
        _ = label_map(FOREIGN_ORDERS["superb-4"], "superb").indices


def test_the_order_that_a_checkpoint_names_is_its_order() -> None:
    turned = LABELS[::-1]
    assert own_labels(None, None, "x") == LABELS
    assert own_labels(turned, None, "x") == turned
    assert own_labels(None, turned, "x") == turned
    assert own_labels(turned, turned, "x") == turned
    with pytest.raises(LabelsError, match=r"best: it was trained with .* surprise, sad, neutral"):
        own_labels(LABELS, LABELS[::-1], "best")


def test_a_known_order_stands_for_names_that_mean_nothing() -> None:
    nameless = [f"LABEL_{i}" for i in range(4)]
    assert label_map(nameless, "m", "superb-4") == label_map(FOREIGN_ORDERS["superb-4"], "m")
    assert own_labels("challenge-baseline", None, "m") == FOREIGN_ORDERS["challenge-baseline"]


@pytest.mark.parametrize(
    ("names", "order", "message"),
    [
        (("LABEL_0", "LABEL_1"), "superb-5", "an unknown order.*superb-4"),
        (("LABEL_0", "LABEL_1"), "superb-4", "has 2 classes, .* has 4"),
        (("ang", "hap", "neu", "sad"), "superb-4", "names of their own: ang, hap, neu, sad"),
    ],
)
def test_a_known_order_is_never_put_over_names(names, order, message) -> None:
    with pytest.raises(LabelsError, match=message):
        label_map(names, "m", order)
    with pytest.raises(LabelsError, match="an unknown order"):
        own_labels("alphabetical", None, "m")
