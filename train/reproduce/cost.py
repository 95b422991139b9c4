"""Estimates time and memory of the steps, and finds what is missing before the first one runs.

A step costs the floating-point operations of its model: 2 x weights x positions a clip to predict,
three times that to train. A matrix product on this machine says how many it makes a second; the
finished steps of the work folder correct that. Sizes are known for models of the catalogue, and
guessed from the names of others, so figures are only good to a factor of two or three.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abhinaya.models.catalogue import CATALOGUE, is_repository, pinned
from abhinaya.models.errors import ModelError
from abhinaya.models.served.chat import checked_url
from abhinaya.train.eval.models import SERVED
from abhinaya.train.recipes.system import Member, System
from abhinaya.train.reproduce.plan import Road, Step, slug
from abhinaya.train.reproduce.run import State

CLIP_S: Final = 5.9
"""Mean length of a clip of MSP-Podcast."""
FRAMES: Final = 50.0
"""Positions a second of an audio encoder."""
TOKENS: Final = 150.0
"""Positions of a clip in a language model: 88 of speech, the prompt, a transcript."""
WHISPER: Final = 1_500.0
"""Positions of Whisper, whatever the length of the clip."""
SHARE: Final = 0.35
"""Share of the operations of a matrix product that a network reaches."""
SIZES: Final = (("xlarge", 1.0e9), ("xxlarge", 1.5e9), ("large", 0.33e9), ("base", 0.1e9))
MODEL_KEYS: Final = ("encoder", "llm", "whisper", "beats", "adapter", "name", "checkpoint", "start")
"""Options that name a model: a folder, a file, or a repository of the Hub."""


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
    raw = {s.name: _cost(s, system, clips, rate) for s in steps if s.heavy}
    known = {name: state.steps[name] for name in raw if name in state.steps}
    done = [(raw[name].seconds, record.seconds) for name, record in known.items() if record.done]
    scale = sum(spent for _, spent in done) / sum(wanted for wanted, _ in done) if done else 1.0
    return {name: Cost(scale * cost.seconds, cost.gigabytes) for name, cost in raw.items()}


def _cost(step: Step, system: System, clips: Mapping[str, int], rate: float) -> Cost:
    if step.member is None:  # transcripts: encoder, and some thirty steps of the decoder
        return Cost(2.5e12 * sum(clips.values()) / rate, 3.1)
    recipe = system.recipes.get(step.member.name)
    if recipe is None:
        size = CATALOGUE[step.member.model].parameters if step.member.model in CATALOGUE else None
        of = step.name.rpartition(" ")[2]
        return Cost(2 * (size or 0) * TOKENS * clips.get(of, 0) / rate, 2e-9 * (size or 0))
    values = recipe.settled()["model"]["options"]
    parts = [(size_of(name), positions(key)) for key, name in models_in(values)]
    weights, work = sum(p for p, _ in parts), sum(2 * p * n for p, n in parts)
    if not step.name.startswith("train"):
        return Cost(work * clips.get(step.name.rpartition(" ")[2], 0) / rate, 2e-9 * weights)
    epochs = sum(stage.epochs for stage in recipe.all_stages)
    whole = "llm" not in values and weights < 1e9
    learnt = weights if whole else 0.01 * weights
    taught = 3 * work * clips.get("train", 0) + work * clips.get("validation", 0)
    return Cost(epochs * taught / rate, 1e-9 * (2 * (weights - learnt) + 16 * learnt))


def models_in(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield option and value of each model that options name, at any depth."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from models_in(value, name)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from models_in(value, key)
    elif key in MODEL_KEYS and isinstance(values, str) and values not in ("", "embedded"):
        yield key, values


def size_of(name: str) -> float:
    """Return the number of weights of a model, from its name."""
    if found := re.search(r"(\d+(?:\.\d+)?)b\b", name.lower()):
        return 1e9 * float(found[1])
    return next((size for word, size in SIZES if word in name.lower()), 0.05e9)


def positions(key: str) -> float:
    """Return the positions of a clip in a model, by the option that names it."""
    return {"llm": TOKENS, "whisper": WHISPER}.get(key, FRAMES * CLIP_S)


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
    members = {step.member.name: step.member for step in steps if step.member is not None}
    trained = {step.member.name for step in steps if step.member and step.name.startswith("train")}
    if not (road.corpus / "Audios").is_dir():
        yield f"{road.corpus}: has no folder Audios; give the folder of MSP-Podcast with --corpus"
    for name, member in members.items():
        if member.recipe and name not in trained:
            if not (place := road.run(member) / "best").is_dir():
                yield f"{name}: {place} does not exist; run the step `train {name}`"
        elif member.model == SERVED:
            yield from _server(name, str(member.options.get("base_url") or road.base_url))
        for key, value in models_in(_options(member, system)) if name in trained else ():
            if not (is_repository(value) or Path(value).expanduser().exists()):
                yield f"{name}: {key} = {value!r} does not exist; give it: --set {_key(name, key)}"


def licences(steps: Sequence[Step], system: System) -> Iterator[str]:
    """Yield the models to fetch from the Hub, and the conditions of their licences."""
    sources = {s.repo: s for e in CATALOGUE.values() for s in (*e.sources, *e.others)}
    members = {step.member.name: step.member for step in steps if step.member is not None}
    names = dict.fromkeys(v for m in members.values() for _, v in models_in(_options(m, system)))
    for name in filter(is_repository, names):
        source = sources.get(pinned(name)[0])
        notes = [source.licence] if source else ["licence unknown: see its page"]
        notes += ["needs an account that has accepted it"] if source and source.gated else []
        notes += ["not for commercial use"] if source and source.noncommercial else []
        yield f"{name}: from the Hub; {', '.join(notes)}"


def _options(member: Member, system: System) -> Mapping[str, Any]:
    if member.name not in system.recipes:
        return member.options
    found: Mapping[str, Any] = system.recipes[member.name].settled()["model"]
    return found


def _key(name: str, key: str) -> str:
    return f"members.{slug(name)}.model.options.{key}=PATH"


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
