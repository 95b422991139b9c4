"""Measures the cost of the hub, with nodes that answer at once.

    abhinaya bench transport

One process acts as all fronts and the recorder. The hub is the real one. A null transcriber and
four null voters, one of which needs the transcript, run in their own processes (null_nodes.py).
Segments are 5 s of int16, 160 kB. Latency is from sending a segment to receiving its verdict; with
the bare relay, for comparison, to receiving the last of four answers.

All measurements alternate and are repeated. For each the best run counts: the highest rate or the
lowest p99; but a run with a loss always counts. `others` is the share of the machine that other
processes used during that run.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import zmq

from abhinaya.bench.monitored import Usage
from abhinaya.bench.null_nodes import BARE_NODES, NEEDS, SENDER, bare_socket, null_config, specs
from abhinaya.bench.report import (
    Column,
    Report,
    parser,
    percentiles,
    publish,
    settings_of,
    table_of,
)
from abhinaya.stream.clock import SAMPLE_RATE, unix_time
from abhinaya.stream.errors import ProcessError
from abhinaya.stream.hub.validation import LONGEST_SAMPLES
from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.run.supervisor import Spec, Supervisor
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    Hello,
    Message,
    NodeUp,
    Payload,
    Segment,
    StreamInfo,
    ToFront,
    Verdict,
    Welcome,
)
from abhinaya.stream.wire.sockets import connect, receive, send, workers_endpoint

SEGMENT_SAMPLES: Final = 5 * SAMPLE_RATE
STREAMS: Final = (1, 16, 64, 256)
PROBE_PER_S: Final = 200.0
"""Segments a second in measurements of latency."""
LOAD_PER_S: Final = 500.0
"""Segments a second that must pass without loss."""
IN_FLIGHT: Final = 64
"""Number of unanswered segments in measurements of the maximum rate."""
RUN: Final = "transport"
WARM_UP_S: Final = 1.0
PATIENCE_S: Final = 60.0
"""Time limit of the start and of the last answers."""

TITLE: Final = "Transport: segments of 5 s, four null voters, one of them after a null transcriber"
COLUMNS: Final[Mapping[str, Column]] = {
    "path": "{0.path}",
    "streams": "{0.streams}",
    "offered": lambda run: f"{run.offered_per_s:.0f}/s" if run.offered_per_s else "maximum",
    "passed": "{0.per_s:.0f}/s",
    "lost": "{0.lost} of {0.sent}",
    **{f"{p} ms": f"{{0.{p}_ms:.2f}}" for p in ("p50", "p95", "p99")},
    "others": "{0.others:.0%}",
}


@dataclass(frozen=True, slots=True)
class Run:
    """Figures of one run."""

    path: str
    """`hub` or `bare relay`."""
    streams: int
    offered_per_s: float | None
    """Segments sent a second; None: the maximum, with IN_FLIGHT unanswered segments."""
    sent: int
    lost: int
    """Segments without an answer, or with a missing vote."""
    per_s: float
    """Segments answered a second, from the first sent to the last answered."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    others: float
    """Share of the machine's processor time that other processes used."""


class HubCarrier:
    """Acts as all fronts and the recorder of a real hub; segments go to the streams in turn."""

    def __init__(
        self,
        endpoint: str,
        streams: int,
        services: Set[str] = NEEDS.keys(),
        speech: Sequence[Payload] | None = None,
        keys: Keys | None = None,
    ) -> None:
        self._names = [f"stream-{i}" for i in range(streams)]
        self._services = services
        self._speech = speech or [Payload.of(np.zeros(SEGMENT_SAMPLES, np.int16))]
        self._recorder = Recorder(endpoint, "recorder", RUN, keys)
        self._context = zmq.Context()
        self._socket = connect(self._context, workers_endpoint(endpoint), "front", keys)
        self._encoder = Encoder()
        self._up: set[str] = set()
        self._meet()

    def send(self, number: int) -> None:
        """Send segment `number`, as a live front does."""
        stream, sequence = self.name_of(number)
        samples, now = self._speech[number % len(self._speech)], unix_time()
        start = sequence * LONGEST_SAMPLES
        segment = Segment(
            stream=stream,
            sequence=sequence,
            start=start,
            end=start + samples.shape[0],
            samples=samples,
            cut="pause",
            captured_unix_s=now,
            capture_ms=0.0,
            sent_unix_s=now,
        )
        while not send(self._socket, self._encoder.encode(segment)):
            time.sleep(0.001)

    def name_of(self, number: int) -> tuple[str, int]:
        """Return stream and sequence number of segment `number`."""
        sequence, stream = divmod(number, len(self._names))
        return self._names[stream], sequence

    def events(self, timeout_s: float) -> Iterator[Event | Activity]:
        """Receive events."""
        for event in self._recorder.poll(timeout_s):
            if isinstance(event, NodeUp):
                self._up.add(event.service)
            yield event
        while receive(self._socket) is not None:
            pass  # credits, which this front does not need

    def poll(self, timeout_s: float) -> list[int]:
        """Receive verdicts; one with a vote missing does not count."""
        return [
            event.sequence * len(self._names) + int(event.stream.removeprefix("stream-"))
            for event in self.events(timeout_s)
            if isinstance(event, Verdict) and not event.missing
        ]

    def close(self) -> None:
        """Close the sockets."""
        self._recorder.close()
        self._socket.close()
        self._context.term()

    def _meet(self) -> None:
        """Introduce the streams and wait for all nodes."""
        common: dict[str, Any] = {"front": "front", "source": "null", "start_unix_s": 0.0}
        streams = tuple(
            StreamInfo(stream=name, live=True, run=RUN, **common) for name in self._names
        )
        firsts = (0,) * len(streams)
        hello = Hello(
            front="front", incarnation="0", run=RUN, streams=streams, first_sequences=firsts
        )
        decoder, welcomed = Decoder[Message](ToFront), False
        for _ in _until("the hub"):
            if not welcomed:
                send(self._socket, self._encoder.encode(hello))
                if self._socket.poll(200) and (frames := receive(self._socket)) is not None:
                    welcomed = isinstance(decoder.decode(frames), Welcome)
            self.poll(0.02)
            if welcomed and self._up == self._services:
                return


class BareCarrier:
    """Sends through the bare relay; a segment is complete when every node has answered."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = bare_socket(self._context, SENDER, endpoint)
        self._samples = bytes(2 * SEGMENT_SAMPLES)
        self._answers: dict[int, int] = {}
        for probe, _ in enumerate(_until("the bare relay"), 1):  # lost until all nodes are up
            self.send(-probe)
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                if -probe in self.poll(0.02):
                    return

    def send(self, number: int) -> None:
        """Send the number and the samples."""
        self._socket.send(b"%d" % number, zmq.SNDMORE)
        self._socket.send(self._samples, copy=False)

    def poll(self, timeout_s: float) -> list[int]:
        """Return the numbers of the segments that every node has answered."""
        complete = []
        if self._socket.poll(round(1000 * timeout_s)):
            while (frames := receive(self._socket)) is not None:
                number = int(frames[0].bytes)
                self._answers[number] = self._answers.get(number, 0) + 1
                if self._answers[number] == len(BARE_NODES):
                    del self._answers[number]
                    complete.append(number)
        return complete

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)
        self._context.term()


def _until(what: str) -> Iterator[None]:
    """Yield until PATIENCE_S have passed.

    Raises ProcessError: PATIENCE_S have passed.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        yield
    raise ProcessError(what, "did not come up", "see the last lines of the logs")


class Meter:
    """Sends segments through a new carrier and measures the time to their answers."""

    def __init__(
        self,
        carrier: HubCarrier | BareCarrier,
        patience_s: float = PATIENCE_S,
        in_flight: int = IN_FLIGHT,
    ) -> None:
        self._carrier, self._patience_s, self._in_flight = carrier, patience_s, in_flight
        self._next = 0
        self._waiting: dict[int, float] = {}
        self.latencies_ms: list[float] = []
        self.lost = 0
        self.begun = self.last = 0.0

    @property
    def sent(self) -> int:
        """Number of segments of the latest measurement."""
        return len(self.latencies_ms) + self.lost + len(self._waiting)

    def measure(self, seconds: float, per_s: float | None) -> None:
        """Send `per_s` segments a second; None: keep `in_flight` segments unanswered."""
        self.latencies_ms, self.lost, sent = [], 0, 0
        begun = self.begun = self.last = time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            if per_s is None:
                while len(self._waiting) < self._in_flight:
                    self._send()
                self._poll(0.01)
                continue
            if now >= begun + sent / per_s:
                self._send()
                sent += 1
            self._poll(min(0.002, max(0.0, begun + sent / per_s - time.perf_counter())))
        deadline = time.monotonic() + self._patience_s
        while self._waiting and time.monotonic() < deadline:
            self._poll(0.01)
        self.lost = len(self._waiting)
        self._waiting.clear()

    def _send(self) -> None:
        self._waiting[self._next] = time.perf_counter()
        self._carrier.send(self._next)
        self._next += 1

    def _poll(self, timeout_s: float) -> None:
        for number in self._carrier.poll(timeout_s):
            self.last = time.perf_counter()
            if (sent := self._waiting.pop(number, None)) is not None:
                self.latencies_ms.append(1000 * (self.last - sent))


def measure(path: str, streams: int, per_s: float | None, seconds: float) -> Run:
    """Measure a new `hub` or `bare relay` at a rate; None: its maximum rate."""
    with running(specs(path), null_config()) as (endpoint, pids):
        hub = path == "hub"
        with closing(HubCarrier(endpoint, streams) if hub else BareCarrier(endpoint)) as carrier:
            meter, usage = Meter(carrier), Usage(seconds, begun=True)
            own = [("", pid) for pid in (os.getpid(), *pids)]
            meter.measure(WARM_UP_S, min(per_s or PROBE_PER_S, PROBE_PER_S))
            usage.sample(own, 0.0)
            meter.measure(seconds, per_s)
            usage.sample(own, 0.0)
    return Run(
        path=path,
        streams=streams,
        offered_per_s=per_s,
        sent=meter.sent,
        lost=meter.lost,
        per_s=len(meter.latencies_ms) / max(1e-9, meter.last - meter.begun),
        **{f"{name}_ms": value for name, value in percentiles(meter.latencies_ms).items()},
        others=usage.others,
    )


@contextmanager
def running(
    processes: Sequence[Spec], config: configuration.Config
) -> Iterator[tuple[str, list[int]]]:
    """Start processes like a run; yield their endpoint and process ids."""
    with tempfile.TemporaryDirectory(prefix="abhinaya-") as folder:
        directory = Path(folder)
        (directory / "config.json").write_bytes(configuration.encode(config))
        supervisor = Supervisor(config.supervise, directory)
        try:
            for spec in processes:
                supervisor.start(spec)
            pids = [supervisor.pid(spec.name) for spec in processes]
            yield f"ipc://{directory}", [pid for pid in pids if pid is not None]
        finally:
            supervisor.stop(0.5)


def quietest(runs: Sequence[Run]) -> Run:
    """Return a run with a loss, else the one with the highest rate or the lowest p99."""
    if losing := [run for run in runs if run.lost]:
        return losing[0]
    if runs[0].offered_per_s is None:
        return max(runs, key=lambda run: run.per_s)
    return min(runs, key=lambda run: run.p99_ms)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if a segment was lost."""
    arguments = parser("transport", __doc__)
    add = arguments.add_argument
    add("--seconds", type=float, default=5.0, help="of each run (%(default)g)")
    add("--repeats", type=int, default=3, help="of each run (%(default)s)")
    add("--streams", type=int, nargs="+", default=STREAMS, metavar="N")
    options = arguments.parse_args(argv)
    plan: list[tuple[str, int, float | None]] = [
        ("bare relay", 1, PROBE_PER_S),
        *(("hub", streams, PROBE_PER_S) for streams in options.streams),
        ("hub", 16, LOAD_PER_S),
        ("bare relay", 1, None),
        ("hub", 16, None),
    ]
    # alternately, so that load on the machine affects hub and relay alike
    rounds = [[measure(*run, options.seconds) for run in plan] for _ in range(options.repeats)]
    rows = [quietest(runs) for runs in zip(*rounds, strict=True)]
    compared = ratios(rows)
    report = Report("transport", settings_of(options), {"runs": rows, "ratios": compared})
    publish(report, [table_of(TITLE, COLUMNS, rows)], options.json)
    for name, ratio in compared.items():
        print(f"{name}: {ratio:.2f}")
    return 1 if any(row.lost for row in rows) else 0


def ratios(rows: Sequence[Run]) -> dict[str, float]:
    """Return hub / bare relay of the maximum rate, and of the p99 at PROBE_PER_S."""
    best = {row.path: row.per_s for row in rows if row.offered_per_s is None}
    probes = [row for row in rows if row.offered_per_s == PROBE_PER_S]
    (bare,) = (row.p99_ms for row in probes if row.path == "bare relay")
    result = {"maximum rate, hub / bare relay": best["hub"] / best["bare relay"]}
    for row in probes:
        if row.path == "hub":
            name = f"p99 at {PROBE_PER_S:.0f}/s and {row.streams} streams, hub / bare relay"
            result[name] = row.p99_ms / bare
    return result
