"""`/metrics`: what is counted, that no name of a stream gets in, and that the docs list it all."""

from __future__ import annotations

import re
from collections import Counter

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from prometheus_client.parser import text_string_to_metric_families as parse
from scrapes import NOW, Clock, filled, status, values

from abhinaya.stream.cells.map import Cell, CellMap, State
from abhinaya.stream.run.supervisor import Spec, node_specs
from abhinaya.stream.serve.telemetry.causes import CAUSES, cause_of
from abhinaya.stream.serve.telemetry.cells import Statuses
from abhinaya.stream.serve.telemetry.metrics import FRESH_S, LATENCIES, Metrics
from abhinaya.stream.wire import messages as m


def test_events_and_the_status_of_the_hub_become_metrics() -> None:
    found = values(filled())
    of_batches = {key: found.pop(key) for key in list(found) if "batch" in key[0]}
    of_latency = {key: found.pop(key) for key in list(found) if "latency" in key[0]}
    assert found == {
        ("abhinaya_segments_total", "", "happy"): 1,
        ("abhinaya_segments_total", "too few votes", "unknown"): 1,
        ("abhinaya_segments_total", "overload", "gap"): 1,
        ("abhinaya_votes_missing_total", "no transcript", "T2"): 1,
        ("abhinaya_hub_tasks_waiting", "main", "S1"): 3,
        ("abhinaya_hub_oldest_task_seconds", "main", "S1"): 1.5,
        ("abhinaya_hub_fronts", "main"): 1,
        ("abhinaya_nodes", "main", "S1", "ready"): 1,
        ("abhinaya_nodes", "main", "T2", "suspect"): 1,
        ("abhinaya_nodes", "main", "asr", "missing"): 1,
        ("abhinaya_nodes", "main", "ST1", "missing"): 1,
        ("abhinaya_cells", "main", "open"): 1,
        ("abhinaya_streams", "live"): 1,
        ("abhinaya_streams", "file"): 1,
        ("abhinaya_streams", "broken"): 1,
        ("abhinaya_ingest_frames_total", "twilio", "0"): 50,
        ("abhinaya_restarts_total", "hub"): 1,
        ("abhinaya_restarts_total", "S1"): 2,
        ("abhinaya_messages_refused_total", "hub: unknown stream"): 3,
        ("abhinaya_messages_refused_total", "gateway: 401"): 7,
        ("abhinaya_messages_refused_total", "audio: twilio"): 2,
    }
    name = "abhinaya_verdict_latency_seconds"
    assert of_latency[name + "_count",] == 1, "files and revisions have no latency"
    assert of_latency[name + "_sum",] == 2
    assert (name + "_bucket", "1.5") not in of_latency
    assert [of_latency[name + "_bucket", str(b)] for b in LATENCIES if b >= 2] == [1, 1, 1, 1]
    assert of_batches["abhinaya_node_batch_seconds_count", "S1"] == 2


def test_a_hub_that_is_silent_has_no_nodes_and_no_queue() -> None:
    clock = Clock()
    metrics = filled(Statuses(clock=clock))
    clock.now += FRESH_S + 1
    found = values(metrics)
    assert found["abhinaya_nodes", "main", "S1", "missing"] == 1
    assert found["abhinaya_cells", "main", "silent"] == 1
    assert not [key for key in found if key[0].startswith("abhinaya_hub")]
    assert ("abhinaya_messages_refused_total", "hub: unknown stream") in found


def test_each_cell_has_its_own_queue_and_nodes() -> None:
    states: dict[str, State] = {"a": "open", "b": "draining", "c": "open", "d": "gone"}
    cells = [Cell(name=name, endpoint=f"tcp://{name}:1", state=s) for name, s in states.items()]
    statuses = Statuses(lambda: CellMap(epoch=1, cells=tuple(cells)))
    metrics = Metrics(fakes.config(), statuses)
    for name in "abcd":
        said = status(queued={"S1": ord(name)}, refused={"full": 1}, fronts=("f",) * (name == "b"))
        statuses.cell_status(name, said, NOW)
    statuses.cell_status("c", None, NOW)
    found = values(metrics)
    waiting = {key[1:]: n for key, n in found.items() if key[0] == "abhinaya_hub_tasks_waiting"}
    assert waiting == {("a", "S1"): ord("a"), ("b", "S1"): ord("b")}
    assert [key[1:] for key in found if key[0] == "abhinaya_hub_fronts"] == [("b",)]
    assert {key[1:] for key in found if key[0] == "abhinaya_cells"} == {
        ("a", "open"), ("b", "draining"), ("c", "silent"),
    }  # fmt: skip
    missing = Counter(key[1] for key in found if key[0] == "abhinaya_nodes" and "missing" in key)
    assert missing == {"a": 2, "c": 4}, "a draining cell lacks nothing"
    assert found["abhinaya_messages_refused_total", "hub: too much"] == 2


def test_a_process_is_counted_by_its_kind() -> None:
    specs = [
        Spec("host-17-front-3", "abhinaya.stream.front.main"),
        Spec("push", "abhinaya.stream.front.push"),
        *node_specs("asr", 2, ["S1"]),
    ]
    assert [spec.kind for spec in specs] == ["front", "push", "asr", "asr"]


@fakes.patient
@given(st.text(alphabet='xyz\n"\\{}é☃', min_size=12, max_size=40), st.data())
def test_no_name_and_no_text_of_others_becomes_a_label(name: str, data: st.DataObject) -> None:
    statuses = Statuses()
    metrics = Metrics(fakes.config(), statuses)
    reason = data.draw(
        st.sampled_from(
            (f"stream {name!r} is not this front's", f"late: {name}", name, f"{name} x")
        )
    )
    for event in (
        m.StreamStarted(info=fakes.info(name, live=True)),
        fakes.verdict(0, name, label="unknown", reason=reason,
                      missing=(m.Missing(voter="T2", reason=reason),)),
        fakes.gap(1, name, reason=reason),
        m.StreamEnded(stream=name, sequence=2, position=0, reason=reason),
    ):  # fmt: skip
        metrics.write(event, NOW)
    statuses.cell_status("", status(refused={reason[:200]: 1}), NOW)
    labels = {
        value
        for family in parse(metrics.text().decode())
        for sample in family.samples
        for value in sample.labels.values()
    }
    assert not [label for label in labels if name in label]
    assert cause_of(reason) in CAUSES


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("late: is being processed", "late"),
        ("overload: its turn came too late", "overload"),
        ("not judged (compliance)", "not judged"),
        ("no words recognised", "no words"),
        ("too little speech", "too little speech"),
        ("asr-0 was killed by SIGKILL", "process died"),
        ("asr-0 has been stuck for 20.0 s in one batch", "process died"),
        ("refused by the hub: it overlaps the item before", "refused by the hub"),
        ("the microphone lost 512 samples", "audio lost"),
        ("message: malformed (Object missing required field `type`)", "malformed"),
        ("the role reader may not send Segment", "not allowed"),
        ("S1 gave numbers that are not probabilities", "wrong answer"),
        ("S1: its answer to the test recording is wrong", "test recording"),
        ("RuntimeError: out of memory", "other"),
        ("", ""),
    ],
)
def test_reasons_have_a_cause(reason: str, cause: str) -> None:
    assert cause_of(reason) == cause


def test_the_docs_list_each_metric_with_its_labels() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    rows = re.findall(r"^\| `(abhinaya_\w+)` \| (\w+) \| ([^|]*) \|", text, re.M)
    listed = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    found = {}
    for family in parse(filled().text().decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert family.documentation
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = (family.type, labels - {"le"})
    assert found == listed
