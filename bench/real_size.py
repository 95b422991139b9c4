"""The parts of a voter at their real size, on a machine that is too small for the whole voter.

Parameters, memory and FLOPs are those of the whole network, built on the meta device, which holds
no weights. The time is an estimate: a copy of each part with one layer of full size runs here, and
its time is multiplied by the FLOPs of the whole part over those of the copy.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from abhinaya.bench.random_voters import AFTER, BEFORE, TEXT, TOKENS_A_SECOND, RandomVoters
from abhinaya.models.base import SAMPLE_RATE
from abhinaya.models.inference import Place, weigh
from abhinaya.models.published.beats import token_count


def parts(name: str, seconds: float, where: Place, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of each part of a voter for one clip, then their sum.

    A name with `+` stands for several voters.
    """
    meta = RandomVoters("real", replace(where, device=torch.device("meta"), compile=False))
    copies = RandomVoters("layer", where)
    for voter in name.split("+"):
        total = {"parameters": 0, "memory_mb": 0.0, "gflop": 0.0, "estimate_s": 0.0}
        copy = copies.build(voter)
        for part, whole in meta.build(voter).parts.items():
            size, flops, _ = weigh(whole), *_run(part, voter, seconds, whole)
            runs = [_run(part, voter, seconds, copy.parts[part]) for _ in range(1 + repeats)]
            estimate_s = min(took_s for _, took_s in runs[1:]) * flops / runs[0][0]
            figures = (size.parameters, size.memory_mb, flops / 1e9, estimate_s)
            found = dict(zip(total, figures, strict=True))
            total = {key: total[key] + found[key] for key in total}
            yield {"voter": voter, "part": part, **found}
        yield {"voter": voter, "part": "all", **total}


def _run(part: str, voter: str, seconds: float, module: nn.Module) -> tuple[int, float]:
    """Run a part on one clip; return its FLOPs (a product is two) and its seconds."""
    inputs = _inputs(part, voter, seconds, module)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        begun = time.perf_counter()
        module(*inputs)
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        return counter.get_total_flops(), time.perf_counter() - begun


def _inputs(part: str, voter: str, seconds: float, module: nn.Module) -> tuple[Tensor, ...]:
    """Return the inputs of a part for one clip, on the module's device."""
    some: Any = module
    samples, words = round(seconds * SAMPLE_RATE), round(seconds * TOKENS_A_SECOND)
    positions = {"S1": samples // 320, "T2": words}.get(voter, BEFORE + 88 + AFTER + TEXT)
    positions += words if voter == "ST1" else 0
    weight = next(module.parameters())

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, device=weight.device, dtype=weight.dtype)

    match part:
        case "WavLM":
            return (zeros(1, samples),)
        case "Whisper":
            return (zeros(1, some.config.num_mel_bins, 3000),)
        case "BEATs":
            return (zeros(1, 1 + (samples - 400) // 160, 128),)
        case "Q-Former":
            audio = zeros(1, token_count(samples), len(some.ln_audio.weight))
            return zeros(1, 1500, len(some.ln_speech.weight)), audio
        case "LLM":  # transformers would look into a smaller mask, and meta holds no values
            return zeros(1, positions).long(), zeros(1, 1, positions, positions)
    return (zeros(1, positions, some.pool.sap_linear.in_features),)
