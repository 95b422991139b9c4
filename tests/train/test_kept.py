from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from abhinaya.train.compact_speech import excess_of_neutral
from abhinaya.train.data.readers import READERS
from abhinaya.train.errors import TrainingError
from abhinaya.train.kept import kept, key_of
from abhinaya.train.speech_batches import BatchPlan


def trained(value: float) -> nn.Module:
    network = nn.Linear(2, 1)
    nn.init.constant_(network.weight, value)
    return network


def test_a_network_is_trained_once(tmp_path: Path) -> None:
    path, said = tmp_path / "towers" / "a.pt", list[str]()
    first = kept(path, nn.Linear(2, 1), lambda: trained(3.0), said.append)
    assert not said

    def never() -> nn.Module:
        raise AssertionError("trained again")

    again = kept(path, nn.Linear(2, 1), never, said.append)
    assert said == [f"kept from an earlier run: {path}"]
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_what_is_damaged_or_of_another_shape_is_named_with_the_remedy(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.pt"
    if content is None:
        torch.save(nn.Linear(5, 5).state_dict(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"a\.pt: does not hold this network.*delete it"):
        kept(path, nn.Linear(2, 1), lambda: trained(1.0), print)


def test_a_training_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> nn.Module:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        kept(tmp_path / "a.pt", nn.Linear(2, 1), fail, print)
    assert not list(tmp_path.iterdir())


def test_a_name_says_all_that_went_in_and_not_its_order() -> None:
    key = key_of(BatchPlan(), 4, clips=["b", "a"])
    assert key == key_of(BatchPlan(), 4, clips=["a", "b"])
    assert key != key_of(BatchPlan(), 5, clips=["a", "b"])
    assert key != key_of(BatchPlan(size=8), 4, clips=["a", "b"])
    assert key != key_of(BatchPlan(), 4, clips=["a"])


def test_readers_teach_how_neutral_sounds_and_not_how_often_it_occurs() -> None:
    # two corpora of equal shares: of 100 clips 45/7 + 45/6 are acted neutral, 10 are read
    plan = BatchPlan(shares={"ravdess": 0.45, "nemo": 0.45, READERS: 0.1})
    acted = 0.45 / 7 + 0.45 / 6
    assert np.exp(-excess_of_neutral(plan)) * (acted + 0.1) == pytest.approx(acted)
    assert excess_of_neutral(BatchPlan(shares={"ravdess": 0.5, "nemo": 0.5})) == 0.0
