"""The weights of an encoder that are trained: none, all but convolutions, last layers, or LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import nn

from abhinaya.models.errors import OptionsError
from abhinaya.models.inference import layers
from abhinaya.models.published.lora import add_lora
from abhinaya.models.published.specs import EncoderSpec

_STILL: Final = ("feature_extractor", "conv1", "conv2", "embed_positions")
"""Parts of speech encoders that stay as they are when the rest is trained."""
_ADAPTED: Final = (
    ("q_proj", "v_proj"),
    ("query", "value"),
    ("query_proj", "value_proj"),
    ("q", "v"),
    ("Wqkv",),
)
"""Names of the linear layers that LoRA adapts by default: queries and values of attention."""
_WAVLM: Final = ("intermediate_dense", "output_dense")
"""The same for WavLM: its attention reads the weights past its linear layers."""


def choose_trained(spec: EncoderSpec, model: nn.Module, family: str) -> None:
    """Freeze all weights of a model but those that the spec trains; add LoRA.

    Raises:
        OptionsError: the model has no such layers.

    """
    model.requires_grad_(False)
    if spec.train == "tuned":
        model.requires_grad_(True)
        for name, part in model.named_children():
            part.requires_grad_(name not in _STILL)
    elif spec.train == "lora":
        add_lora(model, spec.rank, spec.alpha, _adapted(spec, model, family))
    elif spec.top:
        every = layers(model)
        if spec.top > len(every):
            raise OptionsError(
                spec.name, f"it has {len(every)} layers, not {spec.top}", "lower K of train = top:K"
            )
        for layer in every[-spec.top :]:
            layer.requires_grad_(True)


def _adapted(spec: EncoderSpec, model: nn.Module, family: str) -> Sequence[str]:
    """Return the names of the linear layers that get LoRA."""
    named = (
        k.rpartition(".")[2] for k, part in model.named_modules() if isinstance(part, nn.Linear)
    )
    known = {name for name in named if family != "wavlm" or not name.endswith("_proj")}
    default = next((names for names in _ADAPTED if known.issuperset(names)), _WAVLM)
    targets = spec.targets or default
    if not known.issuperset(targets):
        raise OptionsError(
            f"{spec.name}: targets = {list(targets)}",
            "LoRA has no effect there",
            f"choose among {', '.join(sorted(known))}",
        )
    return targets
