"""The simulator against queues with known answers, and a sample of cells against all of them."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from abhinaya.bench.capacity import figures as reading
from abhinaya.bench.capacity.demand import groups_of
from abhinaya.bench.capacity.figures import Cost, Figures, Speech
from abhinaya.bench.capacity.plan import Ask, Plan, make
from abhinaya.bench.capacity.simulation.cell import HOP_S, SimCell
from abhinaya.bench.capacity.simulation.events import Events, Server
from abhinaya.bench.capacity.simulation.scenario import Outcome, Scenario, simulate
from abhinaya.stream.settings.config import Config, DeadlineConfig, VadConfig, WorkerConfig

SEGMENT_S = 0.04
"""Time that a made-up model takes for a segment of mean length."""
PACKAGED = reading.load()
CONFIG = Config(
    profile="made",
    voters={"S1": WorkerConfig(model="wavlm", max_batch=1)},
    vad=VadConfig(provisional_every_s=0),
    deadlines=DeadlineConfig(live_s=60),
)


def exponential(mean: float) -> tuple[float, ...]:
    """Quantiles, so many that between two of them a line will do."""
    return tuple(-mean * math.log(1 - min(i / 400, 0.9995)) for i in range(401))


def made(lengths_s: tuple[float, ...], cpu_s: float = SEGMENT_S) -> Figures:
    speech = Speech("made", lengths_s, exponential(9.0), 1)
    hub = dataclasses.replace(PACKAGED.hub, segment_s=1e-9, task_s=0.0)
    models = {"wavlm": Cost("made", cpu_s=cpu_s, mib=1)}
    targets = dataclasses.replace(PACKAGED.targets, least_nodes=1)
    return dataclasses.replace(PACKAGED, speech=speech, hub=hub, models=models, targets=targets)


def planned(figures: Figures, streams: int, cells: int = 1, config: Config = CONFIG) -> Plan:
    return make(Ask(streams, cells=cells), config, figures)


def cell_of(figures: Figures, streams: int, nodes: int) -> SimCell:
    plan = planned(figures, streams)
    some = dataclasses.replace(plan.nodes[0], per_cell=nodes)
    groups = [(groups_of(CONFIG, figures, "H100")[0], some)]
    cell = SimCell(CONFIG, figures, groups, 1, (0.0, 1e9))
    cell.connect("front", [f"s{n}" for n in range(streams)], "1")
    return cell


def test_a_server_waits_as_m_d_1() -> None:
    events, dice, waits = Events(), random.Random(1), list[float]()
    server = Server(events)

    def arrive(now: float) -> None:
        server.take(0.7, lambda done: waits.append(done - now - 0.7))
        events.at(now + dice.expovariate(1.0), arrive)

    events.at(0.0, arrive)
    events.run(40_000)
    assert sum(waits) / len(waits) == pytest.approx(0.7 * 0.7 / (2 * 0.3), rel=0.08)


@pytest.mark.parametrize(
    ("lengths_s", "nodes", "wait_s"),
    [
        # rho * D / 2 / (1 - rho), with rho = .7
        ((1.0, 1.0), 1, 0.7 * SEGMENT_S / 2 / 0.3),
        # Erlang C with an offered load of 2.1
        (exponential(1.0), 3, 0.4923 * SEGMENT_S / (3 - 2.1)),
    ],
)  # fmt: skip
def test_the_real_broker_waits_as_m_d_1_and_m_m_3_and_obeys_little(
    lengths_s: tuple[float, ...], nodes: int, wait_s: float
) -> None:
    streams = round(0.7 * nodes / SEGMENT_S * 10)
    cell = cell_of(made(lengths_s), streams, nodes)
    counts: list[int] = []
    cell.events.every(0.0501, lambda now: counts.append(cell.open), 20.0)
    seconds = 420.0 / nodes + 20
    cell.events.run(seconds)
    mean_s = cell.open_s / cell.closed
    # a node holds one task more than it works on: a bit worse than one queue for all
    assert 0.85 * wait_s < mean_s - SEGMENT_S - 2 * HOP_S < (1.15 if nodes == 1 else 1.35) * wait_s
    arrivals_per_s = cell.closed / seconds
    assert sum(counts) / len(counts) == pytest.approx(arrivals_per_s * mean_s, rel=0.1)
    assert cell.own.missing == {}


def run(plan: Plan, figures: Figures, config: Config = CONFIG, **more: object) -> Outcome:
    return simulate(plan, config, figures, Scenario("", **{"seconds": 30.0, **more}))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_and_another_one_not() -> None:
    figures = made((0.5, 1.5))
    plan = planned(figures, 60, cells=2)
    first, again, other = (run(plan, figures, seed=seed) for seed in (1, 1, 2))
    assert first.own == again.own
    assert first.own.latency_s != other.own.latency_s


def test_a_sample_of_cells_stands_for_all() -> None:
    """Three of six cells, under their load and under three times that."""
    config = Config(
        profile="made",
        voters={name: WorkerConfig(model="wavlm", max_batch=1) for name in ("V1", "V2")},
        vad=VadConfig(provisional_every_s=0),
    )
    figures = made((0.5, 1.5), 0.1)
    plan = planned(figures, 420, cells=6, config=config)
    for factor in (1.0, 3.0):
        whole = run(plan, figures, config, factor=factor, sample=0)
        some = run(plan, figures, config, factor=factor, sample=3)
        assert (whole.simulated, some.simulated) == (6, 3)
        assert some.latency_s["p95"] == pytest.approx(whole.latency_s["p95"], rel=0.25)
        assert some.left_out == pytest.approx(whole.left_out, abs=0.05)
        assert some.lost_votes == pytest.approx(whole.lost_votes, abs=0.01)
        assert whole.gaps == some.gaps == 0
        assert (whole.left_out > 0.1) == (factor > 1)


def test_the_calls_of_a_lost_cell_get_every_verdict_in_another() -> None:
    figures = made((0.5, 1.5))
    plan = planned(figures, 400, cells=4)
    lost = run(plan, figures, lost=True, sample=0)
    assert lost.simulated == 3
    assert lost.moved.spoken == lost.moved.verdicts > 50
    assert lost.moved.held > 20
    take_over_s = CONFIG.supervise.take_over_s
    assert take_over_s - 1 < max(lost.moved.latency_s) < take_over_s + 4
    assert lost.gaps == 0
