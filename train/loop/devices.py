"""Sets up Accelerate for the devices that a run was started with.

Every recipe runs on one device, or on several with DDP. Language models also run with FSDP, where
each process holds a part of every layer. The result must not depend on which: autocast and the
types of weights and sums are the same.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, Final

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
)
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from abhinaya.models.published.specs import NetworkSpec
from abhinaya.train.errors import TrainingError
from abhinaya.train.recipes.learner_options import LlamaOptions, SalmonnOptions, WavlmOptions
from abhinaya.train.recipes.recipe import Recipe

_FSDP_ASKED: Final = "ACCELERATE_USE_FSDP"
"""Environment variable by which `accelerate launch` requests FSDP."""
_OTHERS: Final = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)


def accelerator_for(recipe: Recipe) -> Accelerator:
    """Return the accelerator of the devices that the processes were started with.

    Raises TrainingError: the trainer or this recipe does not support this way to start.
    """
    bf16 = _bf16(recipe.precision)
    # WavLM skips random layers in training; a stage may have no loss on a head
    drops = isinstance(recipe.options, WavlmOptions | NetworkSpec)
    unused = DistributedDataParallelKwargs(find_unused_parameters=drops)
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", kwargs_handlers=[unused])
    _shard_on_cpus(accelerator)
    if accelerator.distributed_type in _OTHERS:
        raise TrainingError(
            f"started for {accelerator.distributed_type.value}: the trainer runs on one device, by "
            "DDP (accelerate launch --multi_gpu), or by FSDP (--config_file, recipes/fsdp.yaml)"
        )
    if is_sharded(accelerator):
        _require_shardable(recipe, accelerator.state.fsdp_plugin)
        accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
    if accelerator.device.type == "cuda" or recipe.run.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=not recipe.run.deterministic)
        torch.backends.cudnn.benchmark = False
    return accelerator


def batch_advice(device: torch.device, batch: int) -> str:
    """Return how many clips a batch may have, by the memory of the steps so far; empty on a CPU."""
    if device.type != "cuda":
        return ""
    held, most = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    fits = fitting(batch, held, most, torch.cuda.get_device_properties(device).total_memory)
    return f"took {most / 1e9:.1f} GB: train.batch = {fits} fits (less accumulate is faster), "


def fitting(batch: int, held: int, most: int, memory: int) -> int:
    """Return what fits in 90 % of `memory`, if a step of `batch` clips raises `held` to `most`."""
    return max(1, int((0.9 * memory - held) * batch / max(1, most - held)))


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether each process holds a part of every layer (FSDP)."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def prepared(
    accelerator: Accelerator, module: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[Any, Any]:
    """Return module and optimiser, wrapped for the devices.

    Raises TrainingError: FSDP does not find the layers that it should divide.
    """
    if not is_sharded(accelerator):
        found: tuple[Any, Any] = accelerator.prepare(module, optimiser)
        return found
    _run_under_autocast(accelerator, module)  # accelerate does this for all but FSDP
    try:
        found = accelerator.prepare(module, optimiser)
    except ValueError as error:
        raise TrainingError(
            f"FSDP cannot divide the model ({error}); give the class of its layers as "
            "fsdp_transformer_layer_cls_to_wrap"
        ) from error
    return found


def _bf16(precision: str) -> bool:
    if precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return precision == "bf16"


def _shard_on_cpus(accelerator: Accelerator) -> None:
    """Turn on FSDP if requested: on CPUs accelerate silently runs DDP instead."""
    asked = os.environ.get(_FSDP_ASKED, "").lower() == "true"
    if asked and accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()


def _require_shardable(recipe: Recipe, plugin: FullyShardedDataParallelPlugin) -> None:
    faults = []
    if not isinstance(recipe.options, LlamaOptions | SalmonnOptions):
        faults.append(
            f"it is for language models, and {recipe.model.learner} fits on one device: use "
            "accelerate launch --multi_gpu"
        )
    if plugin.fsdp_version != 2:
        faults.append("fsdp_version must be 2: version 1 cannot keep the type of frozen weights")
    if plugin.cpu_ram_efficient_loading:
        faults.append("fsdp_cpu_ram_efficient_loading must be false")
    if plugin.activation_checkpointing:
        faults.append(
            "fsdp_activation_checkpointing must be false: --set model.options.checkpointing=true "
            "does the same"
        )
    if faults:
        raise TrainingError(f"FSDP: {'; '.join(faults)}. recipes/fsdp.yaml is a file that works")


def _run_under_autocast(accelerator: Accelerator, module: nn.Module) -> None:
    forward: Callable[..., Any] = module.forward

    @functools.wraps(forward)
    def cast(*given: Any, **named: Any) -> Any:
        with accelerator.autocast():
            return forward(*given, **named)

    module.forward = cast
