"""EMOJUDGE as a system: what tells it from the others. That its recipes train: test_trainer.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from abhinaya.models.published.fusion import Network
from abhinaya.models.published.specs import EncoderSpec, NetworkSpec
from abhinaya.train.loop.objective import Objective
from abhinaya.train.loop.session import Outputs
from abhinaya.train.recipes.system import load_system


class _Encoder:
    """Frames of width 4; the network asks no more of an encoder whose frames are given."""

    width, levels = 4, 0

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec


def test_the_attention_matrix_is_penalised_and_the_second_layer_is_residual() -> None:
    system = load_system("emojudge")
    recipe = system.recipes["audio"]
    spec = recipe.options
    assert isinstance(spec, NetworkSpec)
    small = NetworkSpec(
        (EncoderSpec("x", pool=spec.members[0].pool),),
        hidden=(6,) * len(spec.hidden),
        residual=spec.residual,
    )
    network = Network(small, [_Encoder(small.members[0])], {"primary": 8}).eval()  # type: ignore[list-item]
    outputs = Outputs({"primary": tuple(map(str, range(8)))})
    objective = Objective(recipe.train.losses, (1,) * 8, outputs)
    matrix = dict(network.named_parameters())["fuse.pool.each.0.sap_linear.weight"]
    assert matrix.shape == (4, 4)
    assert objective.penalty(network).item() == pytest.approx(1e-4 * matrix.square().sum().item())
    last = network.hidden[-1][0]
    assert isinstance(last, nn.Linear)
    frames = torch.randn(2, 5, 4), torch.tensor([5, 3])
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        there = network([frames])
        del network.hidden[-1]  # it adds nothing now, so it passes its input on
        assert torch.allclose(there, network([frames]), atol=1e-6)


def test_its_fusion_and_its_attributes_are_fitted() -> None:
    system = load_system("emojudge")
    assert system.ensemble.method == "logistic"
    assert system.attributes.method == "ridge"
    assert {name: of.heads for name, of in system.recipes.items()} == {
        "audio": ("primary",), "text": ("primary",),
        "audio-attributes": ("attributes",), "text-attributes": ("attributes",),
    }  # fmt: skip
    assert system.data.balanced == 295
