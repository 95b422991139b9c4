"""Metrics after a bit of everything, as one scrape of a gateway."""

from __future__ import annotations

from typing import Any

import fakes
from prometheus_client.parser import text_string_to_metric_families as parse

from abhinaya.stream.run.supervisor import Spec
from abhinaya.stream.serve.telemetry.cells import Statuses
from abhinaya.stream.serve.telemetry.metrics import Metrics
from abhinaya.stream.wire import messages as m

NOW = 1_000_002.0
"""Two seconds after the speech of `fakes.verdict` has ended."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of the labels' names) -> value, of all that is not 0."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(metrics.text().decode())
        for sample in family.samples
        if sample.value
    }


def status(**changes: Any) -> m.Status:
    fields: dict[str, Any] = {
        "hub": "h", "waiting": 3, "open_segments": 4, "fronts": ("front-0",), "doubles": 0,
        "nodes": (
            m.NodeLoad(node="S1-0", service="S1", held=1, done=9, checked_s=2.0),
            m.NodeLoad(node="T2-0", service="T2", held=0, done=9),
        ),
        "refused": {"stream 'anna' has ended": 2, "stream 'bert' is not this front's": 1},
        "suspects": (m.Suspect(name="T2-0", reason="was silent", limit_s=4.0),),
        "oldest_s": {"S1": 1.5}, "queued": {"S1": 3},
    }  # fmt: skip
    return m.Status(**(fields | changes))


def filled(statuses: Statuses | None = None) -> Metrics:
    """Metrics after a bit of everything."""
    statuses = statuses or Statuses()
    metrics = Metrics(fakes.config(), statuses)
    missing = (m.Missing(voter="T2", reason="no transcript: S1-0 was killed by SIGKILL"),)
    for event in (
        m.StreamStarted(info=fakes.info("anna", live=True)),
        m.StreamStarted(info=fakes.info("bert", live=False)),
        m.StreamStarted(info=fakes.info("cora", live=True)),
        fakes.verdict(0, "anna", missing=missing),
        fakes.verdict(0, "anna", revision=1, label="sad"),
        fakes.verdict(0, "bert", label="unknown", reason="2 votes of at least 3"),
        fakes.gap(1, "anna", reason="overload: 9 later segments were waiting"),
        m.StreamEnded(stream="cora", sequence=0, position=0, reason="the line of cora was cut"),
    ):
        metrics.write(event, NOW)
    statuses.cell_status("", status(), NOW)
    metrics.restarts = {Spec("hub", "abhinaya.stream.hub.main").kind: 1, "S1": 2}
    metrics.traffic.frames["twilio", "0"] += 50
    metrics.traffic.lost["twilio"] += 2
    metrics.refused["401"] += 7
    return metrics
