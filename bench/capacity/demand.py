"""What the streams of a profile ask of hubs and nodes: segments, tasks, bytes and time. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from abhinaya.bench.capacity.figures import Cost, Figures, mean
from abhinaya.models.base import Need
from abhinaya.models.catalogue import CATALOGUE
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.hub.validation import TRANSCRIBER
from abhinaya.stream.settings.config import Config, VadConfig, WorkerConfig, guests, workers_of

BYTES_PER_S: Final = 2 * SAMPLE_RATE
"""int16 samples on the wire."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How long a process takes for a batch, from the figures of its models."""

    costs: tuple[Cost, ...]
    mean_s: float
    """Mean length of a segment."""
    tflops: float = 0.0
    """What its GPUs reach; 0 on a processor."""
    gb_per_s: float = 0.0

    def seconds(self, lengths_s: Sequence[float]) -> float:
        """Return the time of a batch: on a GPU all FLOPs, and the weights read in each step."""
        if not self.tflops:
            return sum(cost.cpu_s for cost in self.costs) * sum(lengths_s) / self.mean_s
        padded_s = len(lengths_s) * max(lengths_s)
        return sum(
            (len(lengths_s) * cost.tflop + padded_s * cost.tflop_per_s) / self.tflops
            + cost.steps * (cost.step_gb or cost.memory_gb) / self.gb_per_s
            for cost in self.costs
        )

    def formula(self, batch: int) -> str:
        """Return how the segments a second follow, for full batches of mean length."""
        per_s = batch / self.seconds([self.mean_s] * batch)
        if not self.tflops:
            parts = " + ".join(f"{cost.cpu_s:.3g}" for cost in self.costs)
            return f"1 / ({parts} s) = {per_s:.1f} segments/s on one core"
        terms = " + ".join(
            f"{batch} x {cost.tflop + cost.tflop_per_s * self.mean_s:.3g} TFLOP"
            f" / {self.tflops:,.0f} TFLOP/s"
            f" + {cost.steps} x {cost.step_gb or cost.memory_gb:g} GB / {self.gb_per_s:,.0f} GB/s"
            for cost in self.costs
        )
        return f"{batch} / ({terms}) = {per_s:,.1f} segments/s"


@dataclass(frozen=True, slots=True)
class Group:
    """The services of one process, and the time that they take."""

    services: tuple[str, ...]
    needs: Mapping[str, tuple[Need, ...]]
    """By service; empty for a server, which the hub does not ask."""
    stateful: frozenset[str]
    device: str
    """`CPU`, or the name of a GPU."""
    speed: Speed
    batch: int
    """Segments in a full batch, or requests at a time."""
    gpus: int
    """GPUs that hold the weights; 0: none."""
    memory_share: float
    """Share of one GPU's memory that it needs."""
    mib: float
    formula: str
    state_bytes: float
    asked: float = 1.0
    """Share of the segments that it gets: less with a cascade."""
    serves: bool = False
    """Whether it is a server that the nodes of all cells ask."""

    @property
    def batch_s(self) -> float:
        """Return the time of a full batch of segments of mean length."""
        return self.speed.seconds([self.speed.mean_s] * self.batch)

    @property
    def alone_s(self) -> float:
        """Return the time of one segment of mean length."""
        return self.speed.seconds([self.speed.mean_s])

    @property
    def per_s(self) -> float:
        """Return the segments a second of one process, in full batches."""
        return self.batch / self.batch_s

    @property
    def tasks(self) -> int:
        """Return with how many messages the hub asks for all its services."""
        if TRANSCRIBER in self.needs:
            return 1
        return len({"transcript" in needs for needs in self.needs.values()})

    @property
    def copies(self) -> int:
        """Return how many of these messages carry the audio."""
        needs = [needs for needs in self.needs.values() if "audio" in needs]
        return min(self.tasks, len({"transcript" in each for each in needs}))


@dataclass(frozen=True, slots=True)
class Load:
    """What all streams together ask for."""

    streams: int
    live_per_s: float
    files_per_s: float
    partials_per_s: float
    segment_bytes: float
    """Audio of a segment of mean length."""
    copies: float
    """Nodes that get the audio of a segment, on average."""
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
    costs = tuple(figures.cost(name, workers[name])[1] for name in names)
    host, worker, mean_s = costs[0], workers[names[0]], figures.speech.mean_s
    common: dict[str, Any] = {
        "services": names,
        "needs": {name: _needs(name, workers[name]) for name in names},
        "asked": figures.cascade.asked if set(names) <= {*config.vote.cascade} else 1.0,
        "stateful": frozenset(n for n, c in zip(names, costs, strict=True) if c.state_kib),
        "mib": sum(cost.mib for cost in costs),
        "state_bytes": 1024 * sum(cost.state_kib for cost in costs),
    }
    if all(cost.cpu_s for cost in costs):
        speed = Speed(costs, mean_s)
        return [Group(**common, **_on_cpu(speed, 1, speed.formula(1)))]
    card, efficiency = figures.gpu(gpu), figures.efficiency
    room_gb = card.memory_gb * (1 - efficiency.reserve)
    memory_gb = sum(cost.memory_gb for cost in costs)
    cards = 1 if memory_gb <= room_gb else 2 ** math.ceil(math.log2(memory_gb / room_gb))
    reached = card.tflops * cards * efficiency.compute, card.gb_per_s * cards * efficiency.memory
    speed, batch = Speed(costs, mean_s, *reached), host.batch or worker.max_batch
    placed: dict[str, Any] = {
        "device": gpu,
        "speed": speed,
        "batch": batch,
        "gpus": cards,
        "memory_share": min(1.0, memory_gb / room_gb),
        "formula": speed.formula(batch),
    }
    if not host.concurrency:
        return [Group(**common, **placed)]
    took_s, asked = speed.seconds([mean_s] * batch), host.concurrency
    waits = f"{asked} requests / {took_s:.3g} s = {asked / took_s:,.1f} segments/s"
    # an answer takes as long as a full batch of the server
    flat = Speed(tuple(replace(c, cpu_s=took_s / asked) for c in costs[:1]), mean_s)
    server = common | {"services": (f"server of {names[0]}",), "needs": {}, "serves": True}
    server |= {"mib": 0.0, "state_bytes": 0.0, "stateful": frozenset()}
    return [Group(**common, **_on_cpu(flat, asked, waits)), Group(**server, **placed)]


def _on_cpu(speed: Speed, batch: int, formula: str) -> dict[str, Any]:
    return {
        "device": "CPU",
        "speed": speed,
        "batch": batch,
        "gpus": 0,
        "memory_share": 0.0,
        "formula": formula,
    }


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
    tasks = sum(g.asked * g.tasks for g in groups)
    copies = sum(g.asked * g.copies for g in groups)
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
