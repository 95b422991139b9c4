"""Low-rank adapters (LoRA) of a transformers model: add, fill (every key is checked), merge.

peft adds them without wrapping the model, so key names begin at the model's layers:
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
"""Published alpha in W + alpha / rank * B A: a scale of 4 at rank 8."""
DROPOUT: Final = 0.1

_FACTOR: Final = re.compile(r"lora_[AB]\.default\.weight$")


def is_lora(key: str) -> bool:
    """Whether a key names a factor (A or B) of an adapter."""
    return _FACTOR.search(key) is not None


def add_lora(
    llm: nn.Module, rank: int, alpha: float = ALPHA, targets: Sequence[str] | None = None
) -> None:
    """Add adapters to a model and make only them trainable; peft chooses missing targets.

    The factors are always float32. In bfloat16, peft's choice for a bfloat16 model, a step of 1e-5
    rounds to zero and training makes no progress. Their product is added to the layer's output in
    the layer's type.
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
    """Add adapters with these weights; rank and targets are read from the weights.

    Raises:
        KeysError: the weights belong to another language model.

    """
    down = {k: t for k, t in tensors.items() if k.endswith("lora_A.default.weight")}
    ranks = {t.shape[0] for t in down.values()}
    if len(ranks) != 1:
        raise KeysError(
            subject,
            "it holds no LoRA weights" if not ranks else f"its LoRA ranks differ: {sorted(ranks)}",
            "use a checkpoint with the LoRA weights of this language model",
        )
    targets = sorted({k.rsplit(".lora_A", 1)[0].rsplit(".", 1)[-1] for k in down})
    try:
        add_lora(llm, ranks.pop(), alpha, targets)
    except ValueError as error:  # peft: no such modules
        raise KeysError(
            subject,
            f"the language model has no modules called {', '.join(targets)}",
            "use the language model that the adapter was trained with",
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
            "use the language model that the adapter was trained with",
        )
    check_finite(tensors, subject)
    with torch.no_grad():
        for key, parameter in expected.items():
            parameter.copy_(tensors[key])


def merge_lora(llm: nn.Module) -> None:
    """Add the adapters to the weights of their layers and remove them: faster, irreversible.

    The sum is computed in float32 and rounded once, which changes weights in bfloat16.

    Raises:
        OptionsError: an adapted layer is quantised or not linear.

    """
    for name, module in list(llm.named_modules()):
        if not isinstance(module, LoraLayer):
            continue
        layer: Any = module
        base = layer.base_layer
        if not isinstance(base, nn.Linear) or not base.weight.is_floating_point():
            raise OptionsError(
                name, "LoRA can be merged only into plain linear layers", "leave merge off"
            )
        up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
        delta = layer.scaling["default"] * up.float() @ down.float()
        with torch.no_grad():
            base.weight.copy_((base.weight.float() + delta).to(base.weight.dtype))
        parent, _, child = name.rpartition(".")
        setattr(llm.get_submodule(parent), child, base)
