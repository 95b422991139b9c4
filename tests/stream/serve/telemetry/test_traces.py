"""OpenTelemetry: one span a segment, sent to a collector, without words and names."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import fakes
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.serve.telemetry.traces import open_traces
from abhinaya.stream.wire import messages as m

STAGES = {
    "capture": 10.0,
    "segment": 400.0,
    "queue": 5.0,
    "asr": 180.0,
    "voters": 60.0,
    "vote": 1.0,
}


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An address that takes spans, and what it got."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert "gzip" not in self.headers.get("Content-Encoding", "")
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", got
    server.shutdown()
    server.server_close()


def test_a_segment_is_a_span_with_its_stages_and_nothing_of_its_speaker(
    collector: tuple[str, list[bytes]],
) -> None:
    address, got = collector
    said = m.Transcript(
        stream="anna", sequence=0, text="secretword", model="w",
        queue_ms=0, run_ms=180, batch_size=1,
    )  # fmt: skip
    missing = (m.Missing(voter="T2", reason="late: anna"),)
    with closing(open_traces(address, "embedded")) as traces:
        traces.write(m.StreamStarted(info=fakes.info("anna")), 1_000_001.0)
        for revision in (0, 1):
            verdict = fakes.verdict(
                0, "anna", transcript=said, missing=missing, stages_ms=STAGES, revision=revision
            )
            traces.write(verdict, 1_000_001.0)
    sent = ExportTraceServiceRequest.FromString(b"".join(got))
    assert not [word for word in (b"secretword", b"anna", b"happy") if word in b"".join(got)]
    spans = [s for r in sent.resource_spans for scope in r.scope_spans for s in scope.spans]
    (root,) = (span for span in spans if not span.parent_span_id)
    stages = sorted((s for s in spans if s.parent_span_id), key=lambda s: s.start_time_unix_nano)
    assert {s.parent_span_id for s in stages} == {root.span_id}
    assert [s.name for s in stages] == [*STAGES, "emit"]
    ms = [(s.end_time_unix_nano - s.start_time_unix_nano) / 1e6 for s in (root, *stages)]
    assert ms == pytest.approx([1000.0, *STAGES.values(), 344.0], abs=0.01)
    assert all(a.end_time_unix_nano == b.start_time_unix_nano for a, b in pairwise(stages))
    facts = {a.key: a.value for a in root.attributes}
    assert facts["abhinaya.missing"].array_value.values[0].string_value == "T2: late"
    assert facts["abhinaya.outcome"].string_value == "label"
    (vote,) = next(s for s in stages if s.name == "voters").events
    assert {a.key for a in vote.attributes} >= {"abhinaya.voter", "abhinaya.run_ms"}


@pytest.mark.parametrize("listens", [False, True], ids=["refuses", "hangs"])
def test_a_collector_that_does_not_answer_costs_no_time(listens: bool) -> None:
    begun = time.monotonic()
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        if listens:
            door.listen()
        address = f"http://127.0.0.1:{door.getsockname()[1]}/v1/traces"
        with closing(open_traces(address, "p")) as traces:
            for sequence in range(100):
                traces.write(fakes.verdict(sequence), 1_000_001.0)
            assert time.monotonic() - begun < 1
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("address", ["localhost:4318", "ftp://a/b", "http://", "http://me:pw@a/b"])
def test_an_address_that_cannot_be_used_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="--traces") as refused:
        open_traces(address, "p")
    assert "pw" not in str(refused.value)


def test_without_traces_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys, abhinaya.stream.serve.main, abhinaya.stream.serve.telemetry.traces\n"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
