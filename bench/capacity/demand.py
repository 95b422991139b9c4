"""What the streams of a profile ask of hubs and nodes: segments, tasks, bytes and time. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.bench.capacity.figures import Cost, Figures, Gpu, mean
from abhinaya.models.base import Need
from abhinaya.models.catalogue import CATALOGUE
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.hub.validation import TRANSCRIBER
from abhinaya.stream.settings.config import Config, VadConfig, WorkerConfig, guests, workers_of

BYTES_PER_S: Final = 2 * SAMPLE_RATE
"""int16 samples on the wire."""


@dataclass(frozen=True, slots=True)
class Group:
    """The services of one process, and the time that they take."""

    services: tuple[str, ...]
    device: str
    """`CPU`, the name of a GPU, or `server`: a process that asks a server with GPUs."""
    batch: int
    batch_s: float
    """Time of a full batch of segments of mean length."""
    alone_s: float
    """Time of a segment alone."""
    formula: str
    gpus: int
    """GPUs that hold the weights; 0: none."""
    memory_share: float
    """Share of one GPU's memory that it needs."""
    mib: float
    tasks: int
    """Messages with which the hub asks for all its services."""
    copies: int
    """How many of these carry the audio."""
    state_bytes: float

    @property
    def per_s(self) -> float:
        """Return the segments a second of one process, in full batches."""
        return self.batch / self.batch_s


@dataclass(frozen=True, slots=True)
class Load:
    """What all streams together ask for."""

    streams: int
    live_per_s: float
    files_per_s: float
    partials_per_s: float
    segment_bytes: float
    """Audio of a segment of mean length."""
    copies: int
    """Nodes that get the audio of a segment."""
    hub_cores: float
    """Cores of a hub's loop, if one hub had all streams."""
    in_bytes: float
    """Bytes a second into the hubs."""
    out_bytes: float

    @property
    def per_s(self) -> float:
        """Return the segments a second."""
        return self.live_per_s + self.files_per_s


def groups_of(config: Config, figures: Figures, gpu: str) -> list[Group]:
    """Return the processes of a profile's nodes; a server of a served model counts as one more.

    Raises:
        ConfigError: a figure is missing.

    """
    found = []
    for service, worker in workers_of(config).items():
        if worker.host or service == "refiner":
            continue
        names = (service, *guests(config.voters, service))
        found += _group(names, config, figures, gpu)
    return found


def _group(names: tuple[str, ...], config: Config, figures: Figures, gpu: str) -> list[Group]:
    workers = workers_of(config)
    costs = {name: figures.cost(name, workers[name])[1] for name in names}
    host, worker = costs[names[0]], workers[names[0]]
    needs = {name: _needs(name, workers[name]) for name in names}
    stages = {"transcript" in needs[name] for name in names}
    tasks = 1 if TRANSCRIBER in names else len(stages)
    copies = min(tasks, len({"transcript" in n for n in needs.values() if "audio" in n}))
    common: dict[str, Any] = {
        "tasks": tasks,
        "copies": copies,
        "mib": sum(cost.mib for cost in costs.values()),
        "state_bytes": 1024 * sum(cost.state_kib for cost in costs.values()),
    }
    length_s = figures.speech.mean_s
    if all(cost.cpu_s for cost in costs.values()):
        took_s = sum(cost.cpu_s for cost in costs.values())
        parts = " + ".join(f"{cost.cpu_s:.3g}" for cost in costs.values())
        formula = f"1 / ({parts} s) = {1 / took_s:.1f} segments/s on one core"
        return [Group(names, "CPU", 1, took_s, took_s, formula, 0, 0.0, **common)]
    card = figures.gpu(gpu)
    reserve = card.memory_gb * (1 - figures.efficiency.reserve)
    memory_gb = sum(cost.memory_gb for cost in costs.values())
    cards = 1 if memory_gb <= reserve else 2 ** math.ceil(math.log2(memory_gb / reserve))
    batch = host.batch or worker.max_batch
    times = [time_of(cost, card, cards, figures, batch, length_s) for cost in costs.values()]
    took_s, formula = sum(t for t, _ in times), " + ".join(f for _, f in times)
    alone_s = sum(time_of(c, card, cards, figures, 1, length_s)[0] for c in costs.values())
    formula = f"{batch} / ({formula}) = {batch / took_s:,.1f} segments/s"
    gpus = (cards, min(1.0, memory_gb / reserve))
    if not host.concurrency:
        return [Group(names, gpu, batch, took_s, alone_s, formula, *gpus, **common)]
    server: dict[str, Any] = {"tasks": 0, "copies": 0, "mib": 0.0, "state_bytes": 0.0}
    asked = host.concurrency
    waits = f"{asked} requests / {took_s:.3g} s = {asked / took_s:,.1f} segments/s"
    return [
        Group(names, "CPU", asked, took_s, alone_s, waits, 0, 0.0, **common),
        Group((f"server of {names[0]}",), gpu, batch, took_s, alone_s, formula, *gpus, **server),
    ]


def time_of(
    cost: Cost, gpu: Gpu, cards: int, figures: Figures, batch: int, length_s: float
) -> tuple[float, str]:
    """Return the time of a batch on a number of GPUs, and how it follows from the figures.

    All FLOPs at a share of the published rate, and the weights read once in each step.
    """
    efficiency = figures.efficiency
    tflop = cost.tflop + cost.tflop_per_s * length_s
    read_gb = cost.step_gb or cost.memory_gb
    rate, bandwidth = (
        gpu.tflops * cards * efficiency.compute,
        gpu.gb_per_s * cards * efficiency.memory,
    )
    formula = (
        f"{batch} x {tflop:.3g} TFLOP / {rate:,.0f} TFLOP/s"
        f" + {cost.steps} x {read_gb:g} GB / {bandwidth:,.0f} GB/s"
    )
    return batch * tflop / rate + cost.steps * read_gb / bandwidth, formula


def load_of(
    config: Config, figures: Figures, groups: Sequence[Group], streams: int, live_share: float
) -> Load:
    """Return what so many streams ask for."""
    speech, hub = figures.speech, figures.hub
    per_s = streams * speech.segments_per_s
    live_per_s = per_s * live_share
    each, part_s = partials_of(config.vad, speech.lengths_s)
    partials_per_s = live_per_s * each
    quick = [g for g in groups if g.tasks and g.alone_s <= config.deadlines.provisional_s]
    tasks, copies = sum(g.tasks for g in groups), sum(g.copies for g in groups)
    quick_tasks, quick_copies = sum(g.tasks for g in quick), sum(g.copies for g in quick)
    segment, part = BYTES_PER_S * speech.mean_s, BYTES_PER_S * part_s
    states = sum(g.state_bytes for g in groups)
    services = sum(len(g.services) for g in groups if g.tasks)
    message, verdict = figures.wire.message_bytes, figures.wire.verdict_bytes
    into = per_s * (segment + message * (1 + services) + states)
    into += partials_per_s * (part + message * (1 + quick_tasks))
    # the front gets the states with each acknowledgement, and a recorder each verdict
    out = per_s * (copies * segment + message * (1 + tasks) + verdict + 2 * states)
    out += partials_per_s * (quick_copies * part + message * quick_tasks + verdict)
    cores = per_s * (hub.segment_s + tasks * hub.task_s)
    cores += partials_per_s * (hub.segment_s + quick_tasks * hub.task_s)
    return Load(
        streams=streams,
        live_per_s=live_per_s,
        files_per_s=per_s - live_per_s,
        partials_per_s=partials_per_s,
        segment_bytes=segment,
        copies=copies,
        hub_cores=cores,
        in_bytes=into,
        out_bytes=out,
    )


def partials_of(vad: VadConfig, lengths_s: Sequence[float]) -> tuple[float, float]:
    """Return how many partials a live segment has, and how long one is, on average."""
    if not vad.provisional_every_s:
        return 0.0, 0.0
    counts, sums = [], []
    for length_s in lengths_s:
        spoken_s = max(0.0, length_s - 2 * vad.pad_s)
        ends, at = [], vad.provisional_after_s
        while at < spoken_s:
            ends.append(at)
            at += vad.provisional_every_s
        if vad.provisional_pause_s:
            ends.append(length_s)  # once more, when the pause begins
        counts.append(float(len(ends)))
        sums.append(sum(ends))
    count = mean(tuple(counts))
    return count, mean(tuple(sums)) / count if count else 0.0


def _needs(service: str, worker: WorkerConfig) -> tuple[Need, ...]:
    """Return the inputs of a service, as far as they are known before its model is loaded."""
    if service == TRANSCRIBER:
        return ("audio",)
    entry = CATALOGUE.get(worker.model)
    return entry.needs if entry else ("audio", "transcript")
