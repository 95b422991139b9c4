"""What a plan does under its load, under twice that, and when a cell is lost.

Cells are alike but for the number of their calls, which the real map decides. So some of them are
simulated, the fullest among them, and stand for the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from abhinaya.bench.capacity.demand import Group, groups_of
from abhinaya.bench.capacity.figures import Figures
from abhinaya.bench.capacity.plan import Nodes, Plan
from abhinaya.bench.capacity.simulation.cell import MOVED, SimCell, Tally
from abhinaya.bench.report import percentiles
from abhinaya.stream.cells.map import Cell, CellMap
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import Config

WARM_S: Final = 20.0
FRONTS: Final = 4
"""Fronts of a cell."""
UNSEEN_S: Final = 1.0
"""How far back a front keeps segments that its hub has not confirmed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated."""

    name: str
    factor: float = 1.0
    """Streams, as a multiple of the planned ones."""
    lost: bool = False
    """Whether a cell is lost, and its calls go to the others."""
    sample: int = 4
    """Simulated cells; 0: all."""
    seconds: float = 40.0
    """Time in which segments are counted."""
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """What became of the segments."""

    scenario: Scenario
    cells: int
    simulated: int
    streams: int
    """Streams of the simulated cells."""
    own: Tally = field(default_factory=Tally)
    moved: Tally = field(default_factory=Tally)
    """Segments of the calls that the lost cell had."""
    hub_use: float = 0.0
    """Of the fullest hub."""
    node_use: dict[str, float] = field(default_factory=dict)
    """By service: share of the time of its nodes."""

    @property
    def latency_s(self) -> dict[str, float]:
        """Return p50, p95 and p99 from the end of speech to the verdict."""
        return percentiles(self.own.latency_s)

    @property
    def gaps(self) -> int:
        """Return how many segments have no verdict."""
        return self.own.spoken - self.own.verdicts

    @property
    def left_out(self) -> float:
        """Return the share of votes that were left out because of overload."""
        return self.own.missing["overload"] / max(1, self.own.votes)

    @property
    def lost_votes(self) -> float:
        """Return the share of votes that are missing for another reason: late, or failed."""
        missing = self.own.missing.total() - self.own.missing["overload"]
        return missing / max(1, self.own.votes)

    def summary(self) -> dict[str, object]:
        """Return the figures, for JSON."""
        return {
            "scenario": self.scenario,
            "cells": self.cells,
            "simulated": self.simulated,
            "streams": self.streams,
            "segments": self.own.spoken,
            "verdicts": self.own.verdicts,
            "latency_s": self.latency_s,
            "left_out": self.left_out,
            "lost_votes": self.lost_votes,
            "missing_by_voter": self.own.by_voter,
            "gaps": self.gaps,
            "reasons_of_gaps": self.own.gaps,
            "hub_use": self.hub_use,
            "node_use": self.node_use,
            "moved": {"segments": self.moved.spoken, "verdicts": self.moved.verdicts},
        }


def scenarios(plan: Plan, sample: int, seed: int) -> list[Scenario]:
    """Return the scenarios of a plan: its load, twice that, and one cell less."""
    planned = Scenario("as planned", sample=sample, seed=seed)
    found = [planned, replace(planned, name="twice the streams", factor=2.0)]
    return found + ([replace(planned, name="a cell lost", lost=True)] if plan.cells > 1 else [])


def check(plan: Plan, sample: int) -> None:
    """Refuse what cannot be simulated.

    Raises:
        ConfigError: there are no live streams, or the number of cells makes no sense.

    """
    if sample < 0:
        raise ConfigError(f"--simulate {sample}", "is below 0", "0 simulates all cells")
    if not plan.ask.streams * plan.ask.live_share >= 1:
        raise ConfigError("--simulate", "needs live streams", "--live-share above 0")


def simulate(plan: Plan, config: Config, figures: Figures, scenario: Scenario) -> Outcome:
    """Return what becomes of the live segments of a plan in a scenario."""
    channels = figures.speech.channels
    streams = round(plan.ask.streams * plan.ask.live_share * scenario.factor)
    names = [f"cell-{number}" for number in range(plan.cells)]
    cells = CellMap(epoch=1, cells=tuple(Cell(name=n, endpoint=f"tcp://{n}:1") for n in names))
    calls: dict[str, list[str]] = {name: [] for name in names}
    for number in range(-(-streams // channels)):
        if chosen := cells.choose(f"call-{number}"):
            calls[chosen.name].append(f"call-{number}")
    order = sorted(names, key=lambda name: -len(calls[name]))
    lost = order[len(order) // 2] if scenario.lost and len(order) > 1 else ""
    sample = _sample([name for name in order if name != lost], scenario.sample)
    moved: dict[str, list[str]] = {name: [] for name in names}
    for call in calls.get(lost, ()):
        if chosen := cells.choose(call, {lost}):
            moved[chosen.name].append(call)
    groups = list(zip(groups_of(config, figures, plan.ask.gpu), plan.nodes, strict=True))
    outcome = Outcome(scenario, plan.cells, len(sample), 0)
    use: defaultdict[str, float] = defaultdict(float)
    for name in sample:
        cell = _run(config, figures, groups, plan.cells, scenario, calls[name], moved[name])
        outcome.streams += channels * len(calls[name])
        outcome.own.add(cell.own)
        outcome.moved.add(cell.moved)
        end = cell.events.now
        outcome.hub_use = max(outcome.hub_use, cell.hub.busy_s / end)
        for node in cell.nodes.values():
            use[node.group.services[0]] += node.busy_s / end / len(sample)
    for group, nodes in groups:
        if not group.serves:
            outcome.node_use[" + ".join(group.services)] = use[group.services[0]] / nodes.per_cell
    return outcome


def _sample(order: Sequence[str], count: int) -> list[str]:
    """Return the fullest cell, and others evenly spaced down to the emptiest."""
    if not count or count >= len(order):
        return list(order)
    if count == 1:
        return [order[0]]
    return [order[round(i * (len(order) - 1) / (count - 1))] for i in range(count)]


def _run(
    config: Config,
    figures: Figures,
    groups: Sequence[tuple[Group, Nodes]],
    cells: int,
    scenario: Scenario,
    calls: Sequence[str],
    moved: Sequence[str],
) -> SimCell:
    """Simulate one cell."""
    end = WARM_S + scenario.seconds
    cell = SimCell(config, figures, groups, cells, (WARM_S, end))
    seed, channels = str(scenario.seed), figures.speech.channels
    for number in range(FRONTS):
        names = [f"{call}/{c}" for call in calls[number::FRONTS] for c in range(channels)]
        cell.connect(f"front-{number}", names, seed)
    if moved:
        names = [f"{call}/{c}" for call in moved for c in range(channels)]
        since = WARM_S - UNSEEN_S

        def take_over(now: float) -> None:
            cell.connect(MOVED, names, seed, since)

        cell.events.at(WARM_S + config.supervise.take_over_s, take_over)
    cell.events.run(end + config.deadlines.live_s + config.deadlines.revise_s)
    return cell
