"""Options of every torch voter for device, precision and speed.

    device, dtype   a GPU in bfloat16 if there is one, else the CPU in float32
    attention       transformers' default (SDPA if a model has it), or one by name
    compile         torch.compile: slower start; faster afterwards if kernels are small

An option that is impossible on this machine is an error at once. Code that does not compile runs
uncompiled, with a warning.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from abhinaya.models.base import Utterance, Voter
from abhinaya.models.errors import OptionsError
from abhinaya.models.trial import utterance

Attention = Literal["auto", "sdpa", "eager", "flash_attention_2"]

log: Final = logging.getLogger(__name__)
_DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_WARM_UP_S: Final[Sequence[Sequence[float]]] = ((1.0,), (1.0, 1.7), (2.3, 1.2))
"""Lengths of the warm-up batches: torch.compile sees one segment, then varying sizes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Device, precision and kernels of a model. Heads stay in float32."""

    device: torch.device
    dtype: torch.dtype
    attention: Attention = "auto"
    compile: bool = False

    @property
    def attention_of_transformers(self) -> str | None:
        """Value of `attn_implementation`; None: transformers' default."""
        return None if self.attention == "auto" else self.attention


def place(
    device: str = "auto", dtype: str = "auto", attention: str = "auto", compile: bool = False
) -> Place:
    """Return the place that a voter's options describe.

    Raises:
        OptionsError: the device, type or attention is unknown, or unavailable on this machine.

    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise OptionsError(f"device {device!r}", "unknown", "use cpu or cuda") from error
    if where.type == "cuda" and not torch.cuda.is_available():
        raise OptionsError(f"device {device!r}", "no GPU was found", "use cpu, or auto")
    if dtype == "auto":
        dtype = "bfloat16" if where.type == "cuda" else "float32"
    if dtype not in _DTYPES:
        raise OptionsError(f"dtype {dtype!r}", "unknown", f"use {', '.join(_DTYPES)}")
    _check_attention(attention, where, dtype)
    if not isinstance(compile, bool):
        raise OptionsError(f"compile {compile!r}", "is neither true nor false", "use one of them")
    return Place(where, _DTYPES[dtype], attention, compile)  # type: ignore[arg-type]


def _check_attention(attention: str, device: torch.device, dtype: str) -> None:
    names = get_args(Attention)
    if attention not in names:
        raise OptionsError(f"attention {attention!r}", "unknown", f"use {', '.join(names)}")
    if attention != "flash_attention_2":
        return
    remedy = "use auto: SDPA takes torch's own flash kernels where no padding stands in the way"
    if device.type != "cuda" or dtype == "float32":
        raise OptionsError(
            f"attention {attention!r}", "it needs a GPU, in bfloat16 or float16", remedy
        )
    if importlib.util.find_spec("flash_attn") is None:
        raise OptionsError(
            f"attention {attention!r}", "the package flash-attn is not installed", remedy
        )


def moved(tensor: Tensor, where: Place) -> Tensor:
    """Copy a tensor to the device; to a GPU asynchronously, from pinned memory."""
    if where.device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(where.device, non_blocking=True)
    return tensor.to(where.device)


def compile_if_asked(where: Place, *modules: nn.Module) -> None:
    """Compile the layers of modules at their first run, for batches of any size.

    Equal layers share their compiled code, so compiling layer by layer takes seconds instead of
    minutes. A module keeps its weights, names and type. If its code does not compile (no C++
    compiler, an operation unknown to torch), it runs uncompiled, with one warning.
    """
    for module in modules if where.compile else ():
        attempt = _Attempt(type(module).__name__)
        for layer in layers(module):
            compiled: Any = torch.compile(layer.forward, dynamic=True)
            layer.forward = partial(attempt, compiled, layer.forward)


def layers(module: nn.Module) -> Sequence[nn.Module]:
    """Return the repeated layers of a model: its largest list of modules, or else itself.

    Largest by parameters, because a speech model also has a list of convolutions.
    """
    # Subclasses do not count: torch keeps weight norm in one.
    lists = [part for part in module.modules() if type(part) is nn.ModuleList and len(part)]
    largest = max(lists, key=lambda part: weigh(part).parameters, default=None)
    return [module] if largest is None else list(largest)


class _Attempt:
    """Calls the compiled code of one model; after a failure, the uncompiled code."""

    def __init__(self, name: str) -> None:
        self._name, self._works = name, True

    def __call__(
        self,
        compiled: Callable[..., Any],
        plain: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if self._works:
            try:
                return compiled(*args, **kwargs)
            except torch.OutOfMemoryError:  # the caller halves the batch and retries
                raise
            except Exception as error:  # compilers raise many kinds of errors
                self._works = False
                log.warning(
                    "%s does not compile and runs as it is (%s: %s); set compile = false, or"
                    " install a C++ compiler if that is what is missing",
                    self._name,
                    type(error).__name__,
                    next(iter(str(error).splitlines()), ""),
                )
        return plain(*args, **kwargs)


def warm_up(voter: Voter, where: Place) -> None:
    """Run a compiled voter once before the first segment: compiling takes seconds to minutes."""
    for lengths_s in _WARM_UP_S if where.compile else ():
        batch: list[Utterance] = [utterance(seconds) for seconds in lengths_s]
        voter.vote(batch)


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a model, for its card."""

    tensors: int
    parameters: int
    memory_mb: float


def weigh(*modules: nn.Module) -> Size:
    """Return the size of modules; a weight that several of them share counts once."""
    # Buffers are not weights, but they use memory.
    weights = {id(p): p for module in modules for p in module.parameters()}
    buffers = {id(b): b for module in modules for b in module.buffers()}
    held = [*weights.values(), *buffers.values()]
    return Size(
        tensors=len(weights),
        parameters=sum(_numbers(p) for p in weights.values()),
        memory_mb=sum(t.numel() * t.element_size() for t in held) / 1e6,
    )


def _numbers(weight: nn.Parameter) -> int:
    # 4-bit weights are packed; bitsandbytes keeps the unpacked shape.
    packed = getattr(weight, "quant_state", None)
    return weight.numel() if packed is None else math.prod(packed.shape)
