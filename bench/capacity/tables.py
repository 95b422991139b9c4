"""A plan as tables, with the figures that it rests on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from abhinaya.bench.capacity.demand import BYTES_PER_S
from abhinaya.bench.capacity.figures import Figures
from abhinaya.bench.capacity.plan import Plan
from abhinaya.bench.capacity.simulation.scenario import Outcome
from abhinaya.stream.settings.config import Config, workers_of

MANY: Final = 10**9
"""A limit above is not shown as a number."""


def tables(plan: Plan, config: Config, figures: Figures) -> Iterator[Table | Text]:
    """Yield the plan, what breaks first, how the nodes follow, and the figures."""
    yield _amounts(plan)
    yield _nodes(plan)
    yield _limits(plan)
    yield Text("Segments a second of one node, in full batches:")
    for nodes in plan.nodes:
        yield Text(f"  {' + '.join(nodes.services)}: {nodes.formula}")
    yield _sources(plan, config, figures)


def simulated(outcomes: Sequence[Outcome], plan: Plan) -> Iterator[Table | Text]:
    """Yield what a simulation found, and what it covers."""
    columns = ("p50 s", "p95 s", "p99 s", "left out", "late, lost", "gaps", "hub", "busiest nodes")
    table = _table("Simulated", "", *columns)
    for outcome in outcomes:
        seconds = outcome.latency_s
        name, use = max(outcome.node_use.items(), key=lambda one: one[1])
        table.add_row(
            outcome.scenario.name,
            *(f"{seconds[p]:.2f}" for p in ("p50", "p95", "p99")),
            f"{outcome.left_out:.1%}",
            f"{outcome.lost_votes:.1%}",
            f"{outcome.gaps:,}",
            f"{outcome.hub_use:.0%}",
            f"{name} {use:.0%}",
        )
    yield table
    first = outcomes[0]
    yield Text(
        f"{first.simulated} of {plan.cells} cells, from the fullest to the emptiest by the map's "
        f"choice, stand for all: {first.own.spoken:,} segments of {first.streams:,} streams in "
        f"{first.scenario.seconds:g} s, counted from the end of speech; seed {first.scenario.seed}."
        " Left out: because of overload; gaps: segments without a verdict."
    )
    for outcome in outcomes:
        if outcome.moved.spoken:
            worst = max(outcome.moved.latency_s, default=0.0)
            yield Text(
                f"{outcome.scenario.name}: {outcome.moved.spoken:,} segments of calls that moved, "
                f"{outcome.moved.verdicts:,} verdicts; {outcome.moved.held:,} waited for the next "
                f"cell, {worst:.1f} s at most."
            )


def _amounts(plan: Plan) -> Table:
    ask = plan.ask
    live = "" if ask.live_share == 1 else f", {ask.live_share:.0%} of them live"
    table = _table(f"{ask.streams:,} streams{live}, profile {plan.profile}", "", "", "how")
    for amount in plan.amounts:
        table.add_row(amount.what, amount.count, amount.why)
    return table


def _nodes(plan: Plan) -> Table:
    table = _table("Nodes", "services", "on", "each/s", "a cell", "all", "in use", "GPUs each")
    for nodes in plan.nodes:
        gpus = f"{nodes.gpus:.2g}" if nodes.gpus else ""
        each = f"{nodes.per_cell:,}" if nodes.per_cell else "shared"
        counts = (f"{nodes.per_s:,.1f}", each, f"{nodes.total:,}")
        table.add_row(" + ".join(nodes.services), nodes.device, *counts, f"{nodes.use:.0%}", gpus)
    return table


def _limits(plan: Plan) -> Table:
    table = _table("What breaks first", "", "in use", "up to streams", "then", "remedy")
    for limit in plan.limits:
        holds = f"{limit.holds:,}" if limit.holds < MANY else "any"
        table.add_row(limit.what, f"{limit.use:.0%}", holds, limit.then, limit.remedy)
    return table


def _sources(plan: Plan, config: Config, figures: Figures) -> Table:
    table = _table("This rests on", "figures", "values", "source")
    speech = figures.speech
    spoken = f"{speech.segments_per_s:.3f} segments/s a channel, {speech.mean_s:.2f} s each"
    table.add_row("speech", f"{spoken}, {BYTES_PER_S / 1000:g} kB/s", speech.source)
    used: dict[str, Any] = {
        name: getattr(figures, name)
        for name in ("hub", "wire", "gateway", "protocols", "inputs", "targets", "efficiency")
    }
    if config.vote.cascade:
        used["cascade: " + ", ".join(config.vote.cascade)] = figures.cascade
    if plan.gpus:
        used |= {f"GPU {plan.ask.gpu}": figures.gpu(plan.ask.gpu)}
        used |= {"machines with GPUs": figures.machines["gpu"]}
    used |= {"machines without": figures.machines["cpu"]}
    for service, worker in workers_of(config).items():
        if service != "refiner":
            name, cost = figures.cost(service, worker)
            used[f"{service}: {name}"] = cost
    for name, values in used.items():
        table.add_row(name, _values(values), values.source)
    return table


def _values(values: Any) -> str:
    fields: Mapping[str, Any] = {
        f.name: getattr(values, f.name)
        for f in dataclasses.fields(values)
        if f.name != "source" and getattr(values, f.name) not in (f.default, 0)
    }
    return ", ".join(f"{name} {value:g}" for name, value in fields.items())


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        right = column in ("each/s", "a cell", "all", "in use", "GPUs each", "up to streams")
        table.add_column(column, justify="right" if right else "left")
    return table
