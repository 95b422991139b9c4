"""Estimates time and memory of the steps, and finds what is missing before the first one runs.

A step costs the floating-point operations of its models: 2 x weights x positions a clip to predict,
three times that to train. A matrix product shows how many this machine makes a second; finished
steps correct that. Sizes are guessed from names: a figure may be wrong by a factor of three.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.bench.reproduce.plan import Road, Step
from abhinaya.bench.reproduce.run import State
from abhinaya.models.catalogue import is_missing, is_repository, models_in, size_of, terms
from abhinaya.models.errors import ModelError
from abhinaya.models.served.chat import checked_url
from abhinaya.train.eval.models import SERVED
from abhinaya.train.recipes.system import Member, System

POSITIONS: Final = {"llm": 150.0, "whisper": 1_500.0}
"""Positions of a clip in a model, by its option; in an encoder: 50 a second of 5.9 s."""
ENCODER: Final = 295.0
TRANSCRIPT: Final = 2.5e12
"""Operations of Whisper large for a clip."""
SHARE: Final = 0.35
"""Share of the operations of a matrix product that a network reaches."""


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate."""

    seconds: float
    gigabytes: float
    """Memory of weights, gradients and optimiser, without activations."""


def estimates(
    steps: Sequence[Step], system: System, state: State, clips: Mapping[str, int], rate: float
) -> dict[str, Cost]:
    """Return the cost of the heavy steps by name; `clips` by split, `rate` operations a second."""
    raw = {step.name: _cost(step, system, clips, rate) for step in steps if step.heavy}
    done = [name for name in raw if name in state.steps and state.steps[name].done]
    wanted = sum(raw[name].seconds for name in done)
    scale = sum(state.steps[name].seconds for name in done) / wanted if wanted else 1.0
    return {name: Cost(scale * cost.seconds, cost.gigabytes) for name, cost in raw.items()}


def _cost(step: Step, system: System, clips: Mapping[str, int], rate: float) -> Cost:
    if step.member is None:
        return Cost(TRANSCRIPT * sum(clips.values()) / rate, 3.1)
    parts = [
        (size_of(v), POSITIONS.get(k, ENCODER)) for k, v in models_in(_model(step.member, system))
    ]
    weights, work = sum(p for p, _ in parts), sum(2 * p * n for p, n in parts)
    recipe = system.recipes.get(step.member.name)
    if recipe is None or not step.name.startswith("train"):
        return Cost(work * clips.get(step.name.rpartition(" ")[2], 0) / rate, 2e-9 * weights)
    learnt = weights if weights < 1e9 else 0.01 * weights  # of a language model: LoRA
    epochs = sum(stage.epochs for stage in recipe.all_stages)
    work *= 3 * clips.get("train", 0) + clips.get("validation", 0)
    return Cost(epochs * work / rate, 1e-9 * (2 * (weights - learnt) + 16 * learnt))


def _model(member: Member, system: System) -> Any:
    """Return the options of a model."""
    recipe = system.recipes.get(member.name)
    return member.options if recipe is None else recipe.settled()["model"]


def operations_a_second(budget_s: float = 1.0) -> float:
    """Return how many operations a second a network makes on this machine; runs a short bench."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    side, kind = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    a = torch.randn(side, side, device=device, dtype=kind)
    (a @ a).sum().item()  # warm-up
    begun, times = time.perf_counter(), 0
    while time.perf_counter() - begun < budget_s:
        (a @ a).sum().item()
        times += 1
    return SHARE * times * 2 * side**3 / (time.perf_counter() - begun)


# --- what is missing ------------------------------------------------------------------------------


def missing(steps: Sequence[Step], system: System, road: Road) -> Iterator[str]:
    """Yield what the steps need and lack: files, checkpoints, servers."""
    if not (road.corpus / "Audios").is_dir():
        yield f"{road.corpus}: has no folder Audios; give the folder of MSP-Podcast with --corpus"
    if any(step.command[0] == "refine" for step in steps):
        yield from _server("refiner", str(system.refiner.options.get("base_url", road.base_url)))
    trained = [step.member for step in steps if step.name.startswith("train ")]
    members = {step.member.name: step.member for step in steps if step.member is not None}
    for member in members.values():
        if member.recipe and member not in trained and not road.best(member).is_dir():
            yield f"{road.best(member)}: does not exist; run the step `train {member.name}`"
        if member.model == SERVED:
            yield from _server(member.name, str(member.options.get("base_url", road.base_url)))
        needed = member.model or member in trained
        for key, name in models_in(_model(member, system)) if needed else ():
            if is_missing(name):
                yield f"{member.name}: {key} = {name!r} does not exist; change it with --set"


def licences(steps: Sequence[Step], system: System) -> Iterator[str]:
    """Yield the models to fetch from the Hub, and the conditions of their licences."""
    pairs = (pair for s in steps if s.member for pair in models_in(_model(s.member, system)))
    for name in dict.fromkeys(value for _, value in pairs if is_repository(value)):
        yield f"{name}: from the Hub; {terms(name)}"


def _server(name: str, url: str) -> Iterator[str]:
    """Yield what is wrong with a server; any answer of it, also a refusal, will do."""
    if not url:
        yield f"{name}: needs a server with an OpenAI-compatible API; give --base-url URL"
        return
    try:
        place = f"{checked_url(url, allow_http=True)}/models"
        urllib.request.urlopen(place, timeout=5).close()  # noqa: S310 - http or https: checked
    except urllib.error.HTTPError:
        return
    except (OSError, ModelError) as error:
        yield f"{name}: no server answers at {url} ({error}); start it (docs/serving-t1.md)"
