"""The network over several encoders: padding changes no score, whatever it is made of."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_checkpoints import shaken
from torch import Tensor

from abhinaya.models.errors import OptionsError
from abhinaya.models.published.fusion import Network, mixed
from abhinaya.models.published.specs import EncoderSpec, NetworkSpec

HEADS = {"primary": 8, "attributes": 3}
NECKS = ("linear", "linear_ln", "conv", "mlp", "bigru")
POOLS = ("mean", "attention", "asp", "cls")
FUSIONS = ("concat", "lstm", "gate", "time", "cross", "deep")


def network(members: list[EncoderSpec], levels: int = 0, **more: Any) -> Network:
    """A network over frozen encoders of the widths 6, 7, ..., with random weights."""
    spec = NetworkSpec(tuple(members), width=8, **{"hidden": (8, 8), **more})
    encoders: Any = [
        SimpleNamespace(spec=m, width=6 + i, levels=levels) for i, m in enumerate(members)
    ]
    made = shaken(Network(spec, encoders, HEADS))
    assert isinstance(made, Network)
    return made


def inputs(members: int, lengths: list[list[int]], *levels: int) -> list[tuple[Tensor, Tensor]]:
    """Frames of each member, with lively padding; `lengths` by item and member."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for i in range(members):
        n = torch.tensor([item[i] for item in lengths])
        x = torch.randn(len(n), int(n.max()), *levels, 6 + i, generator=generator)
        found.append((x, n))
    return found


@pytest.mark.parametrize(
    ("fuse", "neck", "pool"),
    [
        *product(FUSIONS, ("linear", "bigru"), ("asp",)),
        *(("concat", neck, pool) for neck, pool in product((*NECKS, "identity"), POOLS)),
    ],
)
def test_padding_changes_no_score(fuse: str, neck: str, pool: str) -> None:
    members = [EncoderSpec("x", neck=neck, pool=pool)] * 3
    made = network(members, fuse=fuse, input_norm=True, residual=True, head_hidden=4)
    lengths = [[9, 3, 1], [4, 5, 1], [2, 7, 1]]
    given = inputs(3, lengths)
    with torch.no_grad():
        together = made(given)
        assert together.shape == (3, 11)
        for b, item in enumerate(lengths):
            alone = [
                (x[b : b + 1, :k], torch.tensor([k])) for (x, _), k in zip(given, item, strict=True)
            ]
            torch.testing.assert_close(together[b : b + 1], made(alone), atol=1e-5, rtol=1e-4)


def test_learned_weights_begin_as_the_mean_of_the_layers() -> None:
    made = network([EncoderSpec("x", layers="learned")], levels=4)
    ((x, n),) = inputs(1, [[5], [3]], 4)
    plain = network([EncoderSpec("x")])
    weights = {k: t for k, t in made.state_dict().items() if "levels" not in k}
    plain.load_state_dict(weights)
    made.mixes[0].levels.data.zero_()
    torch.testing.assert_close(made([(x, n)]), plain([(x.mean(2), n)]))


def test_a_mixed_batch_has_the_scores_of_mixed_vectors() -> None:
    """MEDUSA mixes what a linear layer made: as good as mixing what goes into it."""
    mix = (torch.tensor([0.25, 1.0]), torch.tensor([1, 0]))
    x = torch.tensor([[4.0, 0.0], [0.0, 8.0]])
    assert mixed(x, mix).tolist() == [[1.0, 6.0], [0.0, 8.0]]
    linear = network([EncoderSpec("x")], hidden=())
    given = inputs(1, [[5], [3]])
    torch.testing.assert_close(linear(given, mix), mixed(linear(given), mix))


def test_a_frame_of_the_other_member_reaches_the_score() -> None:
    """Cross-attention and time fusion join members before they are pooled."""
    for fuse in ("time", "cross", "deep"):
        members = [EncoderSpec("x", neck="linear", pool="cls")] * 2
        made = network(members, fuse=fuse)
        given = inputs(2, [[4, 4]])
        before = made(given)
        given[1][0][0, 3] += 1.0  # cls would not see it
        assert not torch.allclose(before, made(given))


def test_members_of_different_widths_need_a_neck() -> None:
    with pytest.raises(OptionsError, match="widths of its members differ: 6, 7"):
        network([EncoderSpec("x")] * 2, fuse="cross")
