from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from abhinaya.train.errors import TrainingError
from abhinaya.train.tiny.loop import kept, key_of
from abhinaya.train.tiny.text_batches import TextPlan


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
    key = key_of(TextPlan(), 4, clips=["b", "a"])
    assert key == key_of(TextPlan(), 4, clips=["a", "b"])
    assert key != key_of(TextPlan(), 5, clips=["a", "b"])
    assert key != key_of(TextPlan(size=8), 4, clips=["a", "b"])
    assert key != key_of(TextPlan(), 4, clips=["a"])
