"""`/metrics`: counters of events, and what the hub says of itself, in the form of Prometheus.

The run's thread writes, that of the web server reads. Names and labels: docs/operations.md.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import prometheus_client as prometheus
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from abhinaya.stream.serve.calls import Traffic
from abhinaya.stream.serve.telemetry.causes import cause_of
from abhinaya.stream.serve.telemetry.cells import Known, Statuses
from abhinaya.stream.settings.config import Config, workers_of
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    Gap,
    StreamEnded,
    StreamStarted,
    Verdict,
)

LATENCIES: Final = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
CELL: Final = "main"
"""Label of a hub without cells."""
FRESH_S: Final = 10.0
"""Age after which a hub's last status says nothing about now."""
MAX_OPEN: Final = 100_000
"""Streams of which it is remembered that they are open."""

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """A sink that counts.

    Args:
        config: the line-up, which says how many nodes each service should have.
        statuses: the statuses of the cells.

    """

    def __init__(self, config: Config, statuses: Statuses) -> None:
        self.restarts: Mapping[str, int] = {}
        """Of processes, by kind; the supervisor counts them."""
        self.traffic = Traffic()
        """What the calls have brought."""
        self.refused: Counter[str] = Counter()
        """Requests that the gateway has refused, by status or close code."""
        self._statuses = statuses
        self._wanted = {name: worker.replicas for name, worker in workers_of(config).items()}
        for name, worker in workers_of(config).items():
            if worker.host:  # the nodes of another service offer this one too
                self._wanted[name] = self._wanted[worker.host]
        self._open: OrderedDict[str, bool] = OrderedDict()
        """Open streams, and whether each is live."""
        self._ended: Counter[str] = Counter()
        self._registry = registry = prometheus.CollectorRegistry(auto_describe=False)
        self._segments = prometheus.Counter(
            "abhinaya_segments",
            "Segments by outcome (a label, unknown, or gap) and the cause of the last two",
            ["outcome", "cause"],
            registry=registry,
        )
        self._latency = prometheus.Histogram(
            "abhinaya_verdict_latency_seconds",
            "Time from the end of speech to the verdict, of live streams",
            buckets=LATENCIES,
            registry=registry,
        )
        self._missing = prometheus.Counter(
            "abhinaya_votes_missing",
            "Votes that a verdict does without",
            ["voter", "reason"],
            registry=registry,
        )
        self._batches = prometheus.Histogram(
            "abhinaya_node_batch_seconds",
            "Time of the batch that an answer was part of",
            ["service"],
            buckets=LATENCIES,
            registry=registry,
        )
        registry.register(self)

    # --- the run's thread -------------------------------------------------------------------------

    def write(self, event: Event, now_unix_s: float) -> None:
        """Count one event."""
        self.take(event, now_unix_s)

    def take(self, event: Event | Activity, now_unix_s: float) -> None:
        """Count one event of any run. Any thread may call this."""
        match event:
            case Verdict(revision=0, part=0):
                self._verdict(event, now_unix_s)
            case Gap(reason=reason):
                self._segments.labels("gap", cause_of(reason)).inc()
            case StreamStarted(info=info):
                self._open[info.stream] = info.live
                if len(self._open) > MAX_OPEN:
                    self._open.popitem(last=False)
            case StreamEnded():
                if self._open.pop(event.stream, None) is not None:
                    self._ended["broken" if event.reason else "ended"] += 1
            case _:
                pass

    def close(self) -> None:
        """Do nothing: the counters end with the process."""

    def _verdict(self, event: Verdict, now_unix_s: float) -> None:
        self._segments.labels(event.label, cause_of(event.reason)).inc()
        if self._open.get(event.stream):
            self._latency.observe(max(0.0, now_unix_s - event.captured_unix_s))
        for missing in event.missing:
            self._missing.labels(missing.voter, cause_of(missing.reason)).inc()
        for vote in event.votes:
            self._batches.labels(vote.voter).observe(vote.run_ms / 1000)
        if event.transcript is not None:
            self._batches.labels("asr").observe(event.transcript.run_ms / 1000)

    # --- any thread -------------------------------------------------------------------------------

    def text(self) -> bytes:
        """Return all metrics in the text form of Prometheus."""
        return prometheus.generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what is read at the moment of a scrape."""
        cells = self._statuses.known()
        yield from self._of_hubs(cells)
        yield self._refusals(cells)
        live = list(self._open.copy().values())
        streams = GaugeMetricFamily(
            "abhinaya_streams",
            "Open streams (live, file), and those that have ended or broken off since the start",
            labels=["state"],
        )
        states = {"live": sum(live), "file": len(live) - sum(live)}
        for state, count in (states | {s: self._ended[s] for s in ("ended", "broken")}).items():
            streams.add_metric([state], count)
        yield streams
        frames = CounterMetricFamily(
            "abhinaya_ingest_frames",
            "Messages with audio that came from outside",
            labels=["protocol", "track"],
        )
        for (protocol, track), count in dict(self.traffic.frames).items():
            frames.add_metric([protocol, track], count)
        yield frames
        restarts = CounterMetricFamily(
            "abhinaya_restarts", "Processes started again after their death", labels=["process"]
        )
        for process, count in ({"hub": 0} | dict(self.restarts)).items():
            restarts.add_metric([process], count)
        yield restarts

    def _of_hubs(self, cells: Sequence[Known]) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "abhinaya_hub_tasks_waiting",
            "Segments that wait for a node",
            labels=["service", "cell"],
        )
        oldest = GaugeMetricFamily(
            "abhinaya_hub_oldest_task_seconds",
            "Age of the oldest segment that a service has not answered",
            labels=["service", "cell"],
        )
        fronts = GaugeMetricFamily(
            "abhinaya_hub_fronts",
            "Processes that send streams; a draining cell without one has finished its calls",
            labels=["cell"],
        )
        nodes = GaugeMetricFamily(
            "abhinaya_nodes",
            "Nodes of a service: ready, suspect (silent or slow), missing in an open cell",
            labels=["service", "state", "cell"],
        )
        states = GaugeMetricFamily(
            "abhinaya_cells",
            "1 for the state of a cell: open, draining, silent (open, but its hub does not answer)",
            labels=["state", "cell"],
        )
        for cell in cells:
            name = cell.name or CELL
            status = cell.status if cell.age_s <= FRESH_S else None
            is_open = cell.state == "open"
            now = "silent" if is_open and status is None else cell.state
            for state in ("open", "draining", "silent"):
                states.add_metric([state, name], state == now)
            if status is not None:
                fronts.add_metric([name], len(status.fronts))
            suspects = {suspect.name for suspect in status.suspects} if status else set()
            for service, wanted in self._wanted.items():
                if status is not None:
                    waiting.add_metric([service, name], status.queued.get(service, 0))
                    oldest.add_metric([service, name], status.oldest_s.get(service, 0.0))
                loads = status.nodes if status else ()
                ready = {load.node for load in loads if load.service == service}
                counts = {"ready": len(ready - suspects), "suspect": len(ready & suspects)}
                counts["missing"] = max(0, wanted - len(ready)) if is_open else 0
                for state, count in counts.items():
                    nodes.add_metric([service, state, name], count)
        yield from (waiting, oldest, fronts, nodes, states)

    def _refusals(self, cells: Sequence[Known]) -> Metric:
        refused = CounterMetricFamily(
            "abhinaya_messages_refused",
            "What was refused: messages of processes, requests, audio that came late or too fast",
            labels=["reason"],
        )
        counts_of: Counter[str] = Counter()
        for cell in cells:
            for reason, count in (cell.status.refused if cell.status else {}).items():
                counts_of[f"hub: {cause_of(reason)}"] += count
        for code, count in dict(self.refused).items():
            counts_of[f"gateway: {code}"] += count
        for source, count in dict(self.traffic.lost).items():
            counts_of[f"audio: {source}"] += count
        for reason, count in counts_of.items():
            refused.add_metric([reason], count)
        return refused
