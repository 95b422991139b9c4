"""A run and nodes outlive their hub: a cut network, a silent one, a hub that is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fakes
import pytest
import zmq
from msgspec.structs import replace
from proxy import Mode, Proxy
from standing_hub import HUB, Collector, wait_for

from abhinaya.models.base import Ballot
from abhinaya.stream.cells.source import FixedCells
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.hub.main import serve
from abhinaya.stream.node.batching import Batcher
from abhinaya.stream.node.main import Node
from abhinaya.stream.node.worker import Adapter
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.run.monitor import Run
from abhinaya.stream.run.plan import Input, Plan
from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.settings.config import (
    Config,
    FlowConfig,
    SuperviseConfig,
    VadConfig,
    WorkerConfig,
    encode,
)
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import Stop
from abhinaya.stream.wire.messages import (
    Event,
    Gap,
    NodeDown,
    NodeUp,
    Ready,
    StreamEnded,
    StreamStarted,
    Task,
    Verdict,
)
from abhinaya.stream.wire.sockets import connect, workers_endpoint

pytestmark = pytest.mark.processes

SILENT_S = 1.5


def config(**changes: Any) -> Config:
    settings: dict[str, Any] = {
        "profile": "test",
        "voters": {name: WorkerConfig(model="fake") for name in ("S1", "S2")},
        "vad": VadConfig(max_segment_s=2.0, cut_search_s=1.0),
        "flow": FlowConfig(file_window=1, **changes.pop("flow", {})),
        "supervise": SuperviseConfig(
            silent_s=SILENT_S, beat_s=0.2, canary_s=0, **changes.pop("supervise", {})
        ),
    }
    return Config(**(settings | changes))


class Voter:
    """Votes happy after a moment."""

    def __init__(self, name: str) -> None:
        self.service = replace(fakes.service("S1"), name=name)

    def run(self, batch: Sequence[Task]) -> list[Ballot]:
        time.sleep(0.2)
        return [Ballot("happy") for _ in batch]

    def forget(self, stream: str, sequence: int) -> None:
        pass


class Station:
    """A standing hub and two nodes in threads of the test."""

    def __init__(self, endpoint: str, nodes_at: str = "") -> None:
        self.endpoint, self.config = endpoint, config()
        self.stops: list[Stop] = []
        self.threads: list[threading.Thread] = []
        self.nodes = [self.spawn(self.node, name, nodes_at or endpoint) for name in ("S1", "S2")]
        self.start()

    def spawn(self, body: Callable[..., Any], *args: Any) -> tuple[Stop, threading.Thread]:
        stop = Stop()
        thread = threading.Thread(target=body, args=(*args, stop), daemon=True)
        thread.start()
        return stop, thread

    def node(self, name: str, endpoint: str, stop: Stop) -> None:
        adapter = Adapter([Voter(name)])
        ready = Ready(node=f"{name}-0", incarnation="1", gives=adapter.gives, credits=4)
        context: zmq.Context[Any] = zmq.Context()
        socket = connect(context, workers_endpoint(endpoint), f"{name}-0")
        Node(ready, adapter, Batcher(1, 10**9, 0.0), socket, self.config.supervise).run(stop)
        socket.close()
        context.term()

    def start(self) -> None:
        self.hub = self.spawn(
            lambda stop: serve(self.config, self.endpoint, stop),
        )

    def kill(self) -> None:
        self.end(self.hub)

    def end(self, running: tuple[Stop, threading.Thread]) -> None:
        stop, thread = running
        stop.asked = True
        thread.join(20)
        assert not thread.is_alive()

    def close(self) -> None:
        for running in (*self.nodes, self.hub):
            self.end(running)


@pytest.fixture
def endpoint() -> str:
    with Proxy("tcp://127.0.0.1:1") as unused:
        return unused.endpoint


@pytest.fixture
def station(endpoint: str) -> Iterator[Station]:
    station = Station(endpoint)
    yield station
    station.close()


def later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def listen(collector: Collector, speech: Path, endpoint: str, run: Config) -> int:
    """Process the speech twice, as a file and as live speech."""
    inputs = (
        Input("file", InputConfig(what=str(speech))),
        Input("live", InputConfig(what=str(speech), realtime=True)),
    )
    plan = Plan(run, inputs, FixedCells(endpoint))
    with run_directory() as directory:
        return Run(plan, directory, [collector], collector).run()


def unharmed(collector: Collector, code: int) -> None:
    """Every segment came out once, with all votes."""
    assert code == 0
    spans = {}
    for stream in ("file", "live"):
        *verdicts, end = collector.of(stream)
        assert isinstance(end, StreamEnded)
        assert not end.reason
        assert all(isinstance(verdict, Verdict) for verdict in verdicts)
        spans[stream] = [(v.start, v.end) for v in verdicts if isinstance(v, Verdict)]
        assert not [v for v in verdicts if isinstance(v, Verdict) and v.missing]
    assert spans["file"] == spans["live"]
    assert len(spans["live"]) >= 4


def reported(collector: Collector, lost: int) -> None:
    """The user was told once a loss."""
    waiting = [t for t in collector.troubles if "does not answer: waiting" in t]
    back = [t for t in collector.troubles if "is back" in t]
    assert (len(waiting), len(back)) == (lost, lost), collector.troubles
    assert len(collector.troubles) == 2 * lost


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [
        ("reset", 0.3),
        ("black hole", 3),
        pytest.param("reset", 3, marks=pytest.mark.slow),
        pytest.param("reset", 10, marks=pytest.mark.slow),
        pytest.param("black hole", 10, marks=pytest.mark.slow),
        pytest.param("reset", 60, marks=pytest.mark.slow),
        pytest.param("black hole", 60, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_cut_between_a_run_and_its_hub_costs_no_segment(
    station: Station, speech: Path, mode: Mode, seconds: float
) -> None:
    with Proxy(station.endpoint) as proxy:

        def cut() -> None:
            proxy.mode = mode
            later(seconds, mend)

        def mend() -> None:
            proxy.mode = "pass"

        collector = Collector(2, cut)
        code = listen(collector, speech, proxy.endpoint, config())
    unharmed(collector, code)
    reported(collector, lost=seconds > SILENT_S)


@pytest.mark.slow
@pytest.mark.parametrize("port", [0, 1], ids=["fronts", "recorder"])
def test_a_cut_of_one_port_of_the_hub_costs_no_segment_and_is_reported(
    station: Station, speech: Path, port: int
) -> None:
    with Proxy(station.endpoint) as proxy:
        proxy.cut = (port,)

        def cut() -> None:
            proxy.mode = "reset"
            later(5, mend)

        def mend() -> None:
            proxy.mode = "pass"

        collector = Collector(2, cut)
        code = listen(collector, speech, proxy.endpoint, config())
    unharmed(collector, code)
    reported(collector, lost=1)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.2, 20], ids=str)
def test_a_standing_hub_that_is_started_again_costs_no_segment(
    station: Station, speech: Path, seconds: float
) -> None:
    def restart() -> None:
        station.kill()
        later(seconds, station.start)

    collector = Collector(2, restart)
    code = listen(collector, speech, station.endpoint, config())
    unharmed(collector, code)
    assert len(collector.troubles) in ((0, 2) if seconds < SILENT_S else (2,))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4, 10], ids=str)
def test_a_standing_hub_that_is_frozen_for_a_while_costs_no_segment(
    station: Station, speech: Path, tmp_path: Path, seconds: float
) -> None:
    station.kill()
    (tmp_path / "config.json").write_bytes(encode(station.config))
    command = [sys.executable, "-c", HUB, str(tmp_path / "config.json"), station.endpoint]
    with subprocess.Popen(command) as hub:

        def freeze() -> None:
            hub.send_signal(signal.SIGSTOP)
            later(seconds, lambda: hub.send_signal(signal.SIGCONT))

        collector = Collector(2, freeze)
        try:
            wait_for(station.endpoint)
            code = listen(collector, speech, station.endpoint, config())
        finally:
            hub.kill()
    unharmed(collector, code)
    reported(collector, lost=1)


def test_a_frozen_front_is_replaced_though_its_hub_cannot_end_it(
    station: Station, speech: Path
) -> None:
    """Only its own machine sees whether it hangs or is cut off."""

    def freeze() -> None:
        fronts = "pgrep -f 'abhinaya.stream.front.main.*front-1' -P " + str(os.getpid())
        found = subprocess.run(fronts, shell=True, capture_output=True, text=True, check=True)
        os.kill(int(found.stdout.split()[0]), signal.SIGSTOP)

    collector = Collector(1, freeze)
    assert listen(collector, speech, station.endpoint, config()) == 0
    assert any("it is stopped" in trouble for trouble in collector.troubles)
    *verdicts, end = collector.of("file")
    assert isinstance(end, StreamEnded)
    assert not end.reason
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    assert len(verdicts) >= 4


def test_live_speech_beyond_the_bound_becomes_a_gap_and_the_newest_stays(
    station: Station, speech: Path
) -> None:
    with Proxy(station.endpoint) as proxy:

        def cut() -> None:
            proxy.mode = "reset"
            later(6, mend)

        def mend() -> None:
            proxy.mode = "pass"

        collector = Collector(1, cut)
        code = listen(collector, speech, proxy.endpoint, config(flow={"kept_s": 2.5}))
    assert code == 0
    *items, _ = collector.of("live")
    gaps = [item for item in items if isinstance(item, Gap)]
    assert gaps
    assert {gap.reason for gap in gaps} == {
        "the hub did not answer, and later audio took the place (flow.kept_s)"
    }
    assert isinstance(items[-1], Verdict)
    assert not [item for item in collector.of("file") if isinstance(item, Gap)]


def test_a_hub_that_stays_away_ends_the_run_in_order(station: Station, speech: Path) -> None:
    with Proxy(station.endpoint) as proxy:

        def cut() -> None:
            proxy.mode = "black hole"

        collector = Collector(2, cut)
        with pytest.raises(NetworkError) as caught:
            listen(collector, speech, proxy.endpoint, config(supervise={"hub_wait_s": 3}))
    assert caught.value.exit_code == 7
    assert "the hub has not answered for 3 s" in str(caught.value)
    for stream in ("file", "live"):
        *_, gap, end = collector.of(stream)
        assert isinstance(gap, Gap)
        assert isinstance(end, StreamEnded)
        assert "the hub has not answered" in gap.reason
        assert gap.end == end.position > gap.start
    assert len(collector.troubles) == 1


def test_a_hub_that_was_never_there_is_an_error_after_the_start_time(
    endpoint: str, speech: Path
) -> None:
    collector = Collector(1, lambda: None)
    begun = time.monotonic()
    with pytest.raises(NetworkError, match="does not answer"):
        listen(collector, speech, endpoint, config())
    assert time.monotonic() - begun < 10
    assert collector.troubles == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "seconds"),
    [("reset", 4), ("black hole", 30)],
    ids=str,
)
def test_nodes_outlive_their_hub_and_a_cut_makes_no_storm(
    endpoint: str, mode: Mode, seconds: float
) -> None:
    notices: list[Event] = []
    with Proxy(endpoint) as proxy:
        station = Station(endpoint, nodes_at=proxy.endpoint)
        recorder = Recorder(endpoint, "recorder", "run")

        def record(seconds: float) -> None:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                notices.extend(event for event in recorder.poll(0.1))

        record(3)
        proxy.mode = mode
        record(seconds)
        proxy.mode = "pass"
        record(8 if seconds < 10 else 15)
        recorder.close()
        station.close()
    changes = [event for event in notices if isinstance(event, NodeUp | NodeDown)]
    assert not [event for event in notices if isinstance(event, StreamStarted)]
    counts = Counter(event.node for event in changes)
    assert set(counts) == {"S1-0", "S2-0"}
    assert max(counts.values()) < 10
    for node in counts:
        assert isinstance([event for event in changes if event.node == node][-1], NodeUp)
