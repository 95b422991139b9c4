"""Low-rank adapters in a transformers model: put in, filled with every key accounted for, merged.

peft puts them in place without wrapping the model, so the names below start at its layers:
`layers.0.self_attn.q_proj.lora_A.default.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from abhinaya.models.checkpoint import Tensors, check_finite
from abhinaya.models.errors import KeysError, OptionsError, listed

ALPHA: Final = 32.0
"""Published numerator of the scale: W + alpha / rank * B A, a scale of 4 at rank 8."""
DROPOUT: Final = 0.1

_FACTOR: Final = re.compile(r"lora_[AB]\.default\.weight$")


def is_lora(key: str) -> bool:
    """Whether a key is a factor of an adapter."""
    return _FACTOR.search(key) is not None


def add_lora(
    llm: nn.Module, rank: int, alpha: float = ALPHA, targets: Sequence[str] | None = None
) -> None:
    """Put adapters into a model and leave only them trainable; targets by peft's default.

    The factors are float32 whatever the model is in. In bfloat16, where peft puts them when the
    model is, a step of 1e-5 rounds to nothing and training stands still. Their product is added to
    what the layer below gives, in its type.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=DROPOUT,
        target_modules=list(targets) if targets else None,
    )
    llm.requires_grad_(False)
    inject_adapter_in_model(config, llm)
    for factor in lora_tensors(llm).values():
        factor.data = factor.data.float()


def lora_tensors(llm: nn.Module) -> Tensors:
    """Return the factors of all adapters by name."""
    return {k: v for k, v in llm.named_parameters() if is_lora(k)}


def fill_lora(
    llm: nn.Module, tensors: Mapping[str, Tensor], subject: object, alpha: float = ALPHA
) -> None:
    """Put in adapters that fit `tensors` (rank and targets are read from them) and fill them.

    Raises:
        KeysError: the adapters belong to another model.

    """
    down = {k: t for k, t in tensors.items() if k.endswith("lora_A.default.weight")}
    ranks = {t.shape[0] for t in down.values()}
    if len(ranks) != 1:
        raise KeysError(
            subject,
            "it holds no LoRA weights" if not ranks else f"its LoRA ranks differ: {sorted(ranks)}",
            "Use a checkpoint with the LoRA weights of this language model",
        )
    targets = sorted({k.rsplit(".lora_A", 1)[0].rsplit(".", 1)[-1] for k in down})
    try:
        add_lora(llm, ranks.pop(), alpha, targets)
    except ValueError as error:  # peft: no such modules
        raise KeysError(
            subject,
            f"the language model has no modules called {', '.join(targets)}",
            "Use the language model that the adapter was trained with",
        ) from error
    expected = lora_tensors(llm)
    missing, spare = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    wrong = {k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape}
    if missing or spare or wrong:
        raise KeysError(
            subject,
            "its LoRA weights belong to another language model:"
            f" {len(missing)} missing ({listed(missing, 2)}), {len(spare)} too many"
            f" ({listed(spare, 2)}), {len(wrong)} of another shape ({listed(wrong, 2)})",
            "Use the language model that the adapter was trained with",
        )
    check_finite(tensors, subject)
    with torch.no_grad():
        for key, parameter in expected.items():
            parameter.copy_(tensors[key])


def merge_lora(llm: nn.Module) -> None:
    """Add the adapters to the weights below them and take them out: faster, and final.

    The sum is made in float32 and rounded once; in bfloat16 that rounding changes the weights.

    Raises:
        OptionsError: what is below is quantised, or no linear layer.

    """
    for name, module in list(llm.named_modules()):
        if not isinstance(module, LoraLayer):
            continue
        layer: Any = module
        base = layer.base_layer
        if not isinstance(base, nn.Linear) or not base.weight.is_floating_point():
            raise OptionsError(
                name, "LoRA can be merged only into plain linear layers", "Leave merge off"
            )
        up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        delta = layer.scaling["default"] * up.float() @ down.float()
        with torch.no_grad():
            base.weight.copy_((base.weight.float() + delta).to(base.weight.dtype))
        parent, _, child = name.rpartition(".")
        setattr(llm.get_submodule(parent), child, base)
