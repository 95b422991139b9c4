"""How many cells, nodes, GPUs and machines some streams need, and what breaks first. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from abhinaya.bench.capacity.demand import Group, Load, groups_of, load_of
from abhinaya.bench.capacity.figures import Figures
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.hub.streams import MAX_STREAMS
from abhinaya.stream.settings.config import Config

Ingest = Literal["websocket", "siprec", "inputs"]
"""How live speech comes: pushed to gateways over WebSockets or SIPREC, or read from addresses."""

HUB_CORES: Final = 2
"""The loop of a hub, and the I/O thread of ZeroMQ."""

MEMORY_USE: Final = 0.8
"""Share of a machine's memory that a plan fills."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What to plan for."""

    streams: int
    live_share: float = 1.0
    """Share of the streams that are live; recordings come at the rate they were spoken."""
    ingest: Ingest = "websocket"
    gpu: str = "H100"
    cells: int = 0
    """0: as many as the hubs need."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of one process of the profile."""

    services: tuple[str, ...]
    device: str
    formula: str
    """How the segments a second of one node follow from the figures."""
    per_s: float
    """Segments a second of one node, in full batches."""
    per_cell: int
    """0: all cells share them."""
    total: int
    use: float
    """Share of their time."""
    gpus: float
    """GPUs of one node; a fraction if it shares one."""
    mib: float
    """Memory of one node outside of GPUs."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What holds up to some number of streams."""

    what: str
    use: float
    """Share that the planned streams use."""
    holds: int
    """Streams up to which it holds, everything else as planned."""
    then: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Amount:
    """One line of the plan."""

    what: str
    count: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the streams need."""

    ask: Ask
    profile: str
    cells: int
    load: Load
    nodes: tuple[Nodes, ...]
    gpus: int
    amounts: tuple[Amount, ...]
    limits: tuple[Limit, ...]
    """What breaks first is first."""


def make(ask: Ask, config: Config, figures: Figures) -> Plan:
    """Return the plan for the streams of a profile.

    Raises:
        ConfigError: the numbers make no sense, or a figure is missing.

    """
    _check(ask)
    groups = groups_of(config, figures, ask.gpu)
    load = load_of(config, figures, groups, ask.streams, ask.live_share)
    per_cell = _hub_limits(load, config, figures)
    cells = ask.cells or math.ceil(max(use / target for _, use, target, _, _ in per_cell))
    nodes = tuple(_nodes(group, load, cells, figures) for group in groups)
    limits = [
        _limit(ask, what, use / cells, then, remedy) for what, use, _, then, remedy in per_cell
    ]
    for found in nodes:
        names = " + ".join(found.services)
        limits.append(
            _limit(
                ask,
                f"{found.total:,} {names.replace('server', 'servers', 1)}"
                if not found.per_cell
                else f"{found.total:,} nodes of {names}",
                found.use,
                "segments wait, then the slowest voters are left out",
                "more of them, a smaller model, or vote.cascade",
            )
        )
    fronts, more = _fronts(ask, cells, figures)
    limits += more
    gpus = _gpus(nodes, cells)
    amounts = [*_amounts(load, cells, nodes, gpus, figures, ask), *fronts.amounts]
    amounts += _machines(load, cells, nodes, gpus, fronts, figures)
    order = sorted(limits, key=lambda limit: limit.holds)
    return Plan(ask, config.profile, cells, load, nodes, gpus, tuple(amounts), tuple(order))


def _check(ask: Ask) -> None:
    if not 1 <= ask.streams <= 10_000_000:
        raise ConfigError(f"--streams {ask.streams}", "is not from 1 to 10,000,000")
    if not 0 <= ask.live_share <= 1:
        raise ConfigError(f"--live-share {ask.live_share:g}", "is not from 0 to 1")
    if not 0 <= ask.cells <= 1000:
        raise ConfigError(f"--cells {ask.cells}", "is not from 1 to 1,000: a map has no more")


def _limit(ask: Ask, what: str, use: float, then: str, remedy: str) -> Limit:
    holds = min(10**12, int(ask.streams / use)) if use > 0 else 10**12
    return Limit(what, use, holds, then, remedy)


def _hub_limits(
    load: Load, config: Config, figures: Figures
) -> list[tuple[str, float, float, str, str]]:
    """Return for each limit of a hub: name, use by all streams, target, what then, remedy."""
    targets, flow, deadlines = figures.targets, config.flow, config.deadlines
    network = figures.machines["cpu"].gbit * 1e9 / 8
    held_s = deadlines.live_s + deadlines.revise_s
    audio = load.live_per_s * load.segment_bytes * held_s / (flow.audio_mib * 2**20)
    most = max(load.in_bytes, load.out_bytes)
    io_s = figures.hub.io_s_per_mib * (load.in_bytes + load.out_bytes) / 2**20
    cell = "more cells"
    return [
        ("hub: its loop, one core", load.hub_cores, targets.hub_use,
         "every label comes later, then heartbeats", cell + ", or fewer partials"),
        ("hub: its I/O thread with CURVE, one core", io_s, targets.hub_use,
         "messages queue at their senders", cell),
        ("hub: network of its machine", most / network, targets.network_use,
         "messages queue at their senders", cell + ", or a faster network"),
        ("hub: streams of one key", load.streams / MAX_STREAMS, targets.process_use,
         "new calls are refused by name", cell + ", or a key for each gateway"),
        ("hub: audio of one key in overload", audio, 1.0,
         "live segments become gaps", f"{cell}, or flow.audio_mib above {flow.audio_mib}"),
    ]  # fmt: skip


def _nodes(group: Group, load: Load, cells: int, figures: Figures) -> Nodes:
    targets = figures.targets
    skew = _skew(load.streams / figures.speech.channels, cells)
    live, files = load.live_per_s * group.asked, load.files_per_s * group.asked
    all_cells = (live / targets.node_use + files / targets.file_use) / group.per_s
    count = skew * all_cells / cells
    if cells > 1:
        rest = cells - 1
        count = max(count, skew * (live + files) / rest / group.per_s / targets.lost_use)
    per_cell = max(targets.least_nodes, math.ceil(count)) if not group.serves else 0
    total = per_cell * cells or max(targets.least_nodes, math.ceil(all_cells))
    use = (live + files) / (total * group.per_s)
    share: float = group.gpus
    if group.gpus == 1:  # it may share the GPU, if there is room and time
        share = min(1.0, max(group.memory_share, use / targets.node_use))
        share = 1.0 if share > 0.5 else share
    return Nodes(
        services=group.services,
        device=group.device,
        formula=group.formula,
        per_s=group.per_s,
        per_cell=per_cell,
        total=total,
        use=use,
        gpus=share,
        mib=group.mib,
    )


def _skew(calls: float, cells: int) -> float:
    """Return how much the fullest of the cells has above the mean, by rendezvous hashing."""
    return 1 + math.sqrt(2 * math.log(cells) * cells / calls) if cells > 1 and calls else 1.0


def _gpus(nodes: Sequence[Nodes], cells: int) -> int:
    """Return how many GPUs hold the nodes: those with fractions share, within a cell."""
    whole = sum(n.total * int(n.gpus) for n in nodes if n.gpus >= 1)
    shared = sum((n.per_cell or n.total) * n.gpus for n in nodes if n.gpus < 1)
    return whole + cells * math.ceil(shared - 1e-9)


@dataclass(frozen=True, slots=True)
class _Fronts:
    """Processes that take audio in."""

    amounts: tuple[Amount, ...]
    cores: float
    mib: float


def _fronts(ask: Ask, cells: int, figures: Figures) -> tuple[_Fronts, list[Limit]]:
    live = round(ask.streams * ask.live_share)
    files = ask.streams - live
    calls, use = live / figures.speech.channels, figures.targets.process_use
    cost, inputs = figures.gateway, figures.inputs
    amounts, limits = [], []
    cores = files * inputs.cores
    mib = inputs.mib * math.ceil(cores / use)
    if files:
        amounts.append(Amount("fronts for files", _n(math.ceil(cores / use)), f"{cores:.0f} cores"))
    if live and ask.ingest == "inputs":
        processes = math.ceil(calls)
        cores, mib = cores + live * inputs.cores, mib + processes * inputs.mib
        why = (
            f"one process an input, {live * inputs.cores:.0f} cores, {_mib(processes * inputs.mib)}"
        )
        amounts.append(Amount("fronts for addresses", _n(processes), why))
    elif live:
        protocols = figures.protocols
        main = protocols.websocket if ask.ingest == "websocket" else protocols.siprec
        main += cost.main_cores
        gateways = math.ceil(calls * main / use)
        wanted = math.ceil(calls * cost.push_cores / use)
        # a gateway has a push front for every cell that its calls are in
        fronts = max(wanted, gateways * min(cells, math.ceil(calls / gateways)))
        took = gateways * cost.main_mib + fronts * cost.push_mib + calls * cost.call_mib
        cores, mib = cores + calls * (main + cost.push_cores), mib + took
        amounts += [
            Amount("gateways", _n(gateways), f"{calls * main:.0f} cores, {ask.ingest}"),
            Amount(
                "push fronts",
                _n(fronts),
                f"{calls * cost.push_cores:.0f} cores; {_n(wanted)} if each gateway had one cell",
            ),
            Amount(
                "memory of both", _mib(took), f"{_mib(fronts * cost.push_mib)} of it push fronts"
            ),
        ]
        limits = [
            _limit(ask, f"{gateways} gateways", calls * main / gateways,
                   "frames wait in the gateway, then calls drop bytes",
                   "more gateways behind the balancer, or SIPREC"),
            _limit(ask, f"{fronts} push fronts", calls * cost.push_cores / fronts,
                   "voice activity falls behind, then gaps", "more gateways"),
        ]  # fmt: skip
    return _Fronts(tuple(amounts), cores, mib), limits


def _amounts(
    load: Load, cells: int, nodes: Sequence[Nodes], gpus: int, figures: Figures, ask: Ask
) -> list[Amount]:
    hub_mib = figures.hub.mib + load.streams / cells * figures.hub.stream_kib / 1024
    parts = f"; {load.partials_per_s:,.0f} partials" if load.partials_per_s else ""
    streams, per_s = load.streams / cells, load.per_s / cells
    into, out = load.in_bytes / cells, load.out_bytes / cells
    found = [
        Amount("segments a second", _n(load.per_s), f"of {figures.speech.mean_s:.1f} s{parts}"),
        Amount("cells", _n(cells), f"{streams:,.0f} streams, {per_s:,.0f} segments a second each"),
        Amount("into hubs", _gbit(load.in_bytes), f"{_gbit(into)} each"),
        Amount("out of hubs", _gbit(load.out_bytes), f"{_gbit(out)} each; audio x {load.copies:g}"),
        Amount("memory of hubs", _mib(cells * hub_mib), f"{hub_mib:,.0f} MiB each"),
    ]  # fmt: skip
    if gpus:
        gpu = figures.gpu(ask.gpu)
        found.append(
            Amount("GPUs", f"{gpus:,} {ask.gpu}", f"{gpu.memory_gb:g} GB, {gpu.tflops:g} TFLOP/s")
        )
    cpu = sum(node.total for node in nodes if node.device == "CPU")
    if cpu:
        found.append(Amount("nodes on CPUs", _n(cpu), "a core each"))
    return found


def _machines(
    load: Load,
    cells: int,
    nodes: Sequence[Nodes],
    gpus: int,
    fronts: _Fronts,
    figures: Figures,
) -> list[Amount]:
    """Return how many machines of each kind hold it all."""
    cpu, gpu = figures.machines["cpu"], figures.machines["gpu"]
    use = figures.targets.process_use
    on_cpu = sum(node.total * max(node.use, 0.05) for node in nodes if node.device == "CPU")
    cores = cells * HUB_CORES + fronts.cores + on_cpu
    hubs_mib = cells * figures.hub.mib + load.streams * figures.hub.stream_kib / 1024
    nodes_mib = sum(n.total * n.mib for n in nodes if n.device == "CPU")
    gib = (hubs_mib + fronts.mib + nodes_mib) / 1024
    wire = max(load.in_bytes, load.out_bytes) * 8e-9
    needs = {
        f"{cores:,.0f} cores": cores / (cpu.cores * use),
        f"{gib:,.0f} GiB": gib / (cpu.memory_gib * MEMORY_USE),
        f"{wire:,.1f} Gbit/s": wire / (cpu.gbit * figures.targets.network_use),
    }
    why = max(needs, key=lambda need: needs[need])
    shape = f"{cpu.cores} cores, {cpu.memory_gib:g} GiB, {cpu.gbit:g} Gbit/s"
    found = [Amount("machines without GPUs", _n(math.ceil(needs[why])), f"{why}; each {shape}")]
    if gpus:
        count = math.ceil(gpus / gpu.gpus)
        found.append(Amount("machines with GPUs", _n(count), f"{gpu.gpus} GPUs each"))
    return found


def _n(value: float) -> str:
    return f"{value:,.0f}"


def _mib(value: float) -> str:
    return f"{value / 1024:,.1f} GiB" if value >= 1024 else f"{value:,.0f} MiB"


def _gbit(value: float) -> str:
    rate = value * 8e-9
    return f"{rate:,.1f} Gbit/s" if rate >= 1 else f"{1000 * rate:,.1f} Mbit/s"
