"""Shows what happens when live streams need more than the nodes manage.

    abhinaya bench load
    abhinaya bench load --real

One process acts as all fronts and the recorder of a real hub. First it finds the capacity: segments
a second with a few on their way. Then live streams send 0.5, 1, 2 and 4 times as many. By default
the nodes are null nodes that only take time, each in its own process; `--real` takes the models of
a profile and the speech of the demo call, after timing the command on that file.

A label is a verdict with at least one vote. Latency is from sending a segment to its first verdict,
without the silence that ends a segment. Missing votes are counted by reason.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from rich.table import Table

from abhinaya.bench import throughput
from abhinaya.bench.clips import items
from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import add_profile, profile_of
from abhinaya.bench.null_nodes import NEEDS, null_config, null_specs
from abhinaya.bench.report import Report, ms, parser, percentiles, publish, settings_of, table_of
from abhinaya.bench.transport import HubCarrier, Meter, running
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.run.supervisor import Spec, node_specs
from abhinaya.stream.settings.config import Config, guests, workers_of
from abhinaya.stream.wire.messages import Gap, Payload, Remark, Segment, Verdict

FACTORS: Final = (0.5, 1.0, 2.0, 4.0)
SERVICES: Final = {"asr": 1.0, "V1": 0.5, "V2": 1.0, "V3": 2.0, "V4": 1.0}
"""Time of each null node, as a multiple of --busy-ms."""
IN_FLIGHT: Final = 6
"""Unanswered segments while the capacity is measured: enough to keep all nodes at work."""
CALIBRATION_S: Final = 8.0
DRAIN_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Machine:
    """The processes to measure, and the speech for them."""

    config: Config
    specs: Sequence[Spec]
    services: frozenset[str]
    speech: Sequence[Payload] | None = None
    """None: silence of 5 s."""


@dataclass(slots=True)
class Step:
    """Figures of one load."""

    times: float
    """Offered load as a multiple of the capacity."""
    offered_per_s: float
    seconds: float
    verdicts: int = 0
    labels: int = 0
    late: int = 0
    """Verdicts without a vote because the voter was late."""
    gaps: int = 0
    lost: int = 0
    """Segments without a verdict or gap."""
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    """Missing votes by `voter: reason`, the reason in one word."""
    remarks: list[str] = field(default_factory=list)

    def share(self, count: int) -> float:
        """Return a share of the verdicts."""
        return count / max(1, self.verdicts)


def null_machine(busy_ms: float) -> Machine:
    """Return null nodes that take time."""
    busy_s = {service: times * busy_ms / 1000 for service, times in SERVICES.items()}
    return Machine(null_config(live_s=4.0), null_specs(busy_s), frozenset(NEEDS))


def real_machine(config: Config) -> Machine:
    """Return the nodes of a profile, and the segments of the demo call."""
    specs = [Spec("hub", "abhinaya.stream.hub.main")]
    for service, worker in workers_of(config).items():
        if not worker.host:
            specs += node_specs(service, worker.replicas, guests(config.voters, service))
    speech = [item.samples for item in items(CALL, config.vad) if isinstance(item, Segment)]
    return Machine(config, specs, frozenset(workers_of(config)), speech)


def capacity(machine: Machine, streams: int, seconds: float) -> float:
    """Return the segments a second that the nodes manage, all voters voting."""
    with running(machine.specs, machine.config) as (endpoint, _):
        carrier = HubCarrier(endpoint, streams, machine.services, machine.speech)
        with closing(carrier):
            meter = Meter(carrier, in_flight=IN_FLIGHT)
            meter.measure(seconds / 4, None)  # warm-up
            meter.measure(seconds, None)
            return len(meter.latencies_ms) / (meter.last - meter.begun)


def offer(machine: Machine, streams: int, step: Step) -> Step:
    """Send live segments at a rate; fill in what became of them."""
    sent: dict[tuple[str, int], float] = {}
    latencies_ms: list[float] = []
    with (
        running(machine.specs, machine.config) as (endpoint, _),
        closing(HubCarrier(endpoint, streams, machine.services, machine.speech)) as carrier,
    ):
        begun, number = time.perf_counter(), 0
        while (now := time.perf_counter()) < begun + step.seconds + DRAIN_S:
            due = begun + number / step.offered_per_s
            if now >= due and now < begun + step.seconds:
                carrier.send(number)
                sent[carrier.name_of(number)] = now
                number += 1
                due = begun + number / step.offered_per_s
            elif now >= begun + step.seconds and not sent:
                break
            for event in carrier.events(min(0.01, max(0.0, due - time.perf_counter()))):
                if isinstance(event, Remark):
                    step.remarks.append(event.text)
                elif isinstance(event, Verdict | Gap):
                    since = sent.pop((event.stream, event.sequence), None)
                    if since is not None:  # else it revises a verdict
                        latencies_ms.append(1000 * (time.perf_counter() - since))
                        count(step, event)
    step.lost = len(sent)
    step.latency_ms = percentiles(latencies_ms)
    return step


def count(step: Step, event: Verdict | Gap) -> None:
    """Count what became of a segment."""
    if isinstance(event, Gap):
        step.gaps += 1
        return
    step.verdicts += 1
    step.labels += bool(event.votes)
    kinds = [(m.voter, kind_of(m.reason)) for m in event.missing]
    step.late += any(kind == "late" for _, kind in kinds)
    step.missing.update(f"{voter}: {kind}" for voter, kind in kinds)


def kind_of(reason: str) -> str:
    """Return why a vote is missing, in one word."""
    return next((kind for kind in ("overload", "late") if kind in reason), "other")


def tables(per_s: float, steps: Sequence[Step]) -> list[Table]:
    """Return what became of the segments, and the missing votes by reason."""
    overview = table_of(
        f"Live segments at multiples of the capacity, {per_s:.1f} segments a second",
        {
            "load": "{0.times:g}",
            "offered/s": "{0.offered_per_s:.1f}",
            "labels/s": lambda step: f"{step.labels / step.seconds:.1f}",
            "p50 ms": lambda step: ms(step.latency_ms["p50"]),
            "p95 ms": lambda step: ms(step.latency_ms["p95"]),
            "no vote": lambda step: f"{step.share(step.verdicts - step.labels):.0%}",
            "late": lambda step: f"{step.share(step.late):.0%}",
            "gaps": "{0.gaps}",
            "lost": "{0.lost}",
        },
        steps,
    )
    names = sorted({name for step in steps for name in step.missing})
    left_out = table_of(
        "Missing votes, share of the verdicts",
        {"load": "{0.times:g}"} | {name: _share_of(name) for name in names},
        steps,
    )
    return [overview, left_out] if names else [overview]


def _share_of(name: str) -> Any:
    return lambda step: f"{step.share(step.missing[name]):.0%}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a segment was lost."""
    arguments = parser("load", __doc__)
    add = arguments.add_argument
    add("--real", action="store_true", help="the models of a profile")
    add("--busy-ms", type=float, default=20.0, help="time that a null node takes (%(default)g)")
    add("--seconds", type=float, default=20.0, help="of each load (%(default)g)")
    add("--streams", type=int, default=16, help="live streams (%(default)s)")
    add_profile(arguments)
    options = arguments.parse_args(argv)
    figures: dict[str, Any] = {}
    printed: list[Table] = []
    if options.real:
        timed = timed_command(options)
        figures["command"], printed = timed, throughput.tables([timed], timed)
    machine = real_machine(profile_of(options)) if options.real else null_machine(options.busy_ms)
    per_s = capacity(machine, options.streams, CALIBRATION_S)
    loads = [Step(times, times * per_s, options.seconds) for times in FACTORS]
    steps = [offer(machine, options.streams, load) for load in loads]
    figures |= {"capacity_per_s": per_s, "steps": steps}
    if machine.speech:
        mean_s = sum(to_seconds(p.shape[0]) for p in machine.speech) / len(machine.speech)
        figures["times_real_time"] = per_s * mean_s
    report = Report("load", settings_of(options), figures)
    publish(report, printed + tables(per_s, steps), options.json)
    for step in steps:
        for remark in step.remarks:
            print(f"at {step.times:g}: {remark}")
    return 1 if any(step.lost for step in steps) else 0


def timed_command(options: argparse.Namespace) -> throughput.Done:
    """Time the command on the demo call: three times, the fastest counts."""
    flags = throughput.flags_of(options)
    runs = [throughput.measure([CALL], flags) for _ in range(3)]
    return max(runs, key=lambda run: run["times_real_time"])
