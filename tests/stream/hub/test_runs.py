"""Many runs at one hub: each gets its own streams, and of one that is over nothing stays."""

from __future__ import annotations

import gc
import logging
import re
import threading
import time
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import fakes
import pytest
import zmq
from desk import FRONT, OF_RUN, SERVICES, Desk, desk
from msgspec.structs import replace

from abhinaya.bench.null_nodes import null_config, specs
from abhinaya.stream.cells.follow import Follow
from abhinaya.stream.cells.source import FixedCells
from abhinaya.stream.hub import streams
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.main import Hub
from abhinaya.stream.hub.publisher import Outgoing
from abhinaya.stream.hub.runs import MAX_RUNS, Runs
from abhinaya.stream.hub.streams import MAX_OVER, MAX_STREAMS
from abhinaya.stream.hub.validation import LONGEST_REASON
from abhinaya.stream.run import ledger as ledgers
from abhinaya.stream.run.inputs import Inputs
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.run.supervisor import Supervisor
from abhinaya.stream.settings.config import FlowConfig, SuperviseConfig, encode
from abhinaya.stream.wire.child import Stop
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.keys import Key
from abhinaya.stream.wire.messages import (
    Beat,
    Credit,
    Died,
    End,
    Gap,
    Hello,
    Introduce,
    Message,
    Notice,
    Refused,
    Remark,
    Seen,
    Status,
    StreamEnded,
    StreamStarted,
    Subscribe,
    Task,
    ToFront,
    ToHub,
    ToNode,
    Verdict,
    Welcome,
)
from abhinaya.stream.wire.sockets import Hub as HubSockets
from abhinaya.stream.wire.sockets import connect, receive, send, sinks_endpoint, workers_endpoint

M = TypeVar("M", bound=Message)
END = End(stream="call", sequence=1, position=fakes.SECOND)


class Site:
    """A hub with one node of each service, which answer at once, and what each sink got."""

    def __init__(self, **changes: Any) -> None:
        self.now = 100.0
        self.broker = Broker(fakes.config(**changes), "hub-1")
        self.got: dict[bytes, list[Notice]] = {}
        self.back: dict[bytes, list[Message]] = {}
        self.gone: set[bytes] = set()
        for service in SERVICES:
            self.say(f"{service}-0".encode(), fakes.ready(service, credits=9))

    def deliver(self, out: list[Outgoing]) -> None:
        for item in out:
            if item.peer in self.gone:
                self.deliver(self.broker.unreachable(self.now, item.peer))
            elif isinstance(item.message, Notice):
                self.got.setdefault(item.peer, []).append(item.message)
            elif isinstance(item.message, Task):
                for service in item.message.services:
                    self.say(item.peer, fakes.answer(item.message, service))
            else:
                self.back.setdefault(item.peer, []).append(item.message)

    def say(self, peer: bytes, *messages: Message) -> None:
        for message in messages:
            self.deliver(self.broker.from_worker(self.now, peer, message))

    def sink(self, peer: bytes, message: Message) -> None:
        self.deliver(self.broker.from_sink(self.now, peer, message))

    def begin(self, run: str, *, recorded: bool = True) -> bytes:
        """A front and a recorder of a run; returns the front."""
        front = f"front {run}".encode()
        if recorded:
            self.sink(run.encode(), Subscribe(sink="recorder", confirm=True, run=run))
        self.say(front, fakes.hello(fakes.info(run=run)))
        return front

    def confirm(self, run: str) -> None:
        self.sink(run.encode(), seen(self.got[run.encode()]))

    def vanish(self, run: str) -> None:
        self.gone |= {run.encode(), f"front {run}".encode()}

    def whole(self, run: str) -> None:
        """A run from its begin to its end; it says goodbye to nobody."""
        front = self.begin(run)
        self.say(front, fakes.segment(0), END)
        self.confirm(run)
        self.vanish(run)

    def passes(self, seconds: float, step: float = 1.0) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += step
            for service in SERVICES:
                self.say(f"{service}-0".encode(), Beat(name=f"{service}-0"))
            self.deliver(self.broker.tick(self.now))

    def events(self, peer: str, *kinds: type) -> list[Any]:
        return [n.event for n in self.got.get(peer.encode(), []) if isinstance(n.event, kinds)]


def seen(notices: list[Notice]) -> Seen:
    """A recorder says that it has written all that it got."""
    last = max(notices, key=lambda notice: notice.number)
    return Seen(hub=last.hub, number=last.number)


def test_the_second_run_of_a_name_is_heard_like_the_first() -> None:
    site = Site()
    for run in ("first", "second", "third"):
        site.whole(run)
        site.passes(1.0)
        told = site.events(run, StreamStarted, Verdict, StreamEnded)
        assert [type(event) for event in told] == [StreamStarted, Verdict, StreamEnded]
        numbers = [n.number for n in site.got[run.encode()] if n.number]
        assert numbers == list(range(1, len(numbers) + 1))
    assert site.broker._doubles == 0


def test_two_runs_of_a_name_at_a_time_get_each_its_own() -> None:
    site = Site()
    one, two = site.begin("one"), site.begin("two")
    site.say(one, fakes.segment(0), Remark(source="call.wav", text="of one"))
    site.say(two, fakes.segment(0), fakes.segment(1))
    site.say(one, END)
    site.passes(1.0)
    for run, verdicts, ends in (("one", 1, 1), ("two", 2, 0)):
        assert [v.sequence for v in site.events(run, Verdict)] == list(range(verdicts))
        assert len(site.events(run, StreamEnded)) == ends
        assert {n.run for n in site.got[run.encode()]} == {"", run}
        assert site.events(run, Status)[-1].fronts == ("front-0",)
    assert len(site.events("one", Remark)) == 1
    assert not site.events("two", Remark)
    # each confirms its own numbers; a death of one front is not one of its namesake
    site.confirm("one")
    assert site.back[one][-1] == Credit(stream="call", acknowledged=2, window=4)
    assert not any(isinstance(m, Credit) for m in site.back[two])
    site.sink(b"one", Died(name="front-0", reason="was killed", final=True))
    assert not site.events("two", StreamEnded)


def test_readers_get_the_runs_that_they_ask_for_and_confirm_nothing() -> None:
    site = Site()
    site.begin("one")
    for reader, run in ((b"all", ""), (b"of two", "two"), (b"of one", "one")):
        site.sink(reader, Subscribe(sink="reader", confirm=False, run=run))
    two = site.begin("two")
    site.say(two, fakes.segment(0))
    site.passes(1.0)

    def runs(peer: str) -> set[str]:
        return {n.run for n in site.got[peer.encode()] if n.run}

    assert runs("all") == {"one", "two"}
    assert runs("of two") == {"two"}
    assert runs("of one") == {"one"}
    assert len(site.events("all", Status)[-1].fronts) == 2
    assert len(site.events("of two", Status)[-1].fronts) == 1
    assert {n.number for peer in (b"all", b"of two") for n in site.got[peer]} == {0}
    site.sink(b"all", Seen(hub="hub-1", number=1))
    assert site.events("two", Verdict)
    assert "only the recorder may send Seen" in site.broker.refusals.counts()


def test_a_new_recorder_of_a_run_gets_what_is_unconfirmed_and_the_old_one_cannot_confirm() -> None:
    site = Site()
    front = site.begin("one")
    site.say(front, fakes.segment(0))
    site.confirm("one")
    site.say(front, fakes.segment(1))
    site.sink(b"heir", Subscribe(sink="recorder", confirm=True, run="one"))
    assert [v.sequence for v in site.events("heir", Verdict)] == [1]
    site.confirm("one")
    assert site.back[front][-1] == Credit(stream="call", acknowledged=1, window=4)
    site.sink(b"heir", seen(site.got[b"heir"]))
    assert site.back[front][-1] == Credit(stream="call", acknowledged=2, window=4)


def test_a_front_that_is_started_again_within_its_run_goes_on() -> None:
    site = Site()
    site.say(site.begin("one"), fakes.segment(0))
    site.confirm("one")
    site.say(b"front one again", fakes.hello(fakes.info(run="one"), incarnation="2"))
    (welcome,) = [m for m in site.back[b"front one again"] if isinstance(m, Welcome)]
    assert (welcome.streams[0].next_sequence, welcome.streams[0].acknowledged) == (1, 1)
    site.say(b"front one again", fakes.segment(1))
    assert [v.sequence for v in site.events("one", Verdict)] == [0, 1]


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_front_that_comes_back_from_another_hub_goes_on_where_it_was_there(
    confirmed: bool,
) -> None:
    site = Site(supervise=SuperviseConfig(silent_s=3.0, forget_s=600.0))
    front = site.begin("one")
    site.say(front, fakes.segment(0), fakes.segment(1))
    for service in SERVICES:  # nobody answers for segment 2
        site.deliver(site.broker.unreachable(site.now, f"{service}-0".encode()))
    site.say(front, fakes.segment(2))
    if confirmed:
        site.confirm("one")
    site.passes(5.0)  # the front is elsewhere; its streams there were divided to another one
    back = fakes.info(run="one", front="front-7")
    site.say(b"back", fakes.hello(back, front="front-7", first=9))
    assert site.back[b"back"][-1].streams[0].next_sequence == 9  # type: ignore[attr-defined]
    for service in SERVICES:
        site.say(f"{service}-0".encode(), fakes.ready(service, credits=9))
    site.say(b"back", fakes.segment(9))
    assert [v.sequence for v in site.events("one", Verdict)] == [0, 1, 9]
    site.confirm("one")
    assert site.back[b"back"][-1] == Credit(stream="call", acknowledged=10, window=4)
    assert not [*site.broker._coordinator.segments]


def test_a_stream_whose_front_stays_at_another_hub_is_forgotten_without_a_word() -> None:
    site = Site(supervise=SuperviseConfig(silent_s=3.0, forget_s=60.0))
    front = site.begin("one")
    site.say(front, fakes.segment(0))
    site.passes(50.0)
    site.broker.paused(900.0)  # the hub itself did not run
    site.now += 900.0
    site.passes(8.0)
    site.confirm("one")
    run = site.broker._runs.get("one")
    assert run is not None
    assert list(run.streams) == ["call"]
    site.passes(10.0)
    assert not run.streams
    assert not site.events("one", StreamEnded)
    site.say(front, fakes.hello(fakes.info(run="one"), first=7), fakes.segment(7))
    assert [v.sequence for v in site.events("one", Verdict)] == [0, 7]


def test_items_of_a_stream_that_is_over_are_acknowledged_and_of_an_unknown_run_are_not() -> None:
    site = Site()
    site.say(site.begin("one"), fakes.segment(0), END)
    site.confirm("one")
    site.passes(1.0)
    front = b"front one"
    site.say(front, fakes.segment(0), END)
    assert site.back[front][-1] == Credit(stream="call", acknowledged=2, window=4)
    site.say(front, fakes.hello(fakes.info(run="one")))  # as after a cut: its streams are over
    (standing,) = site.back[front][-1].streams  # type: ignore[attr-defined]
    assert (standing.acknowledged, standing.ended) == (2, True)
    assert len(site.events("one", StreamStarted)) == 1
    site.say(b"stranger", fakes.segment(0), END)
    assert site.back[b"stranger"] == [Introduce()]
    site.say(front, fakes.segment(0, "other"))
    assert site.back[front][-1] == Refused(reason="stream 'other' is not this front's")


@pytest.mark.parametrize("confirmed", [False, True])
def test_an_item_after_the_end_of_its_stream_is_refused_by_name(confirmed: bool) -> None:
    site = Site()
    front = site.begin("one")
    site.say(front, fakes.segment(0), END)
    if confirmed:
        site.confirm("one")
        site.passes(1.0)
    site.say(front, fakes.partial(2), fakes.segment(2))
    assert site.back[front][-1] == Refused(reason="stream 'call' has ended")
    assert site.broker.refusals.counts() == {"stream 'call' has ended": 1}
    assert site.broker._intake.doubles == 0


@pytest.mark.parametrize(("forget_s", "rest"), [(600.0, Verdict), (20.0, Gap)])
def test_a_run_that_vanishes_is_ended_after_a_while_and_may_come_back(
    forget_s: float, rest: type, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(supervise=SuperviseConfig(silent_s=3.0, forget_s=forget_s))
    site.sink(b"reader", Subscribe(sink="reader", confirm=False))
    front = site.begin("one")
    site.say(front, fakes.segment(0))
    site.confirm("one")
    for service in SERVICES:  # nobody answers for segment 1
        site.deliver(site.broker.unreachable(site.now, f"{service}-0".encode()))
    site.say(front, fakes.segment(1), fakes.gap(2))
    site.vanish("one")
    site.passes(forget_s - 1)
    assert len(list(site.broker._runs)) == 1
    with caplog.at_level(logging.WARNING, "abhinaya.hub"):
        site.passes(10.0)
    assert not list(site.broker._runs)
    assert "run one: ended 'call'" in caplog.text
    told = site.events("reader", Verdict, Gap, StreamEnded)
    assert [type(event) for event in told] == [Verdict, rest, Gap, StreamEnded]
    assert [event.sequence for event in told] == [0, 1, 2, 3]
    assert "away" in told[-1].reason
    assert not list(site.broker._coordinator.segments)
    site.gone.clear()
    site.say(front, Beat(name="front-0"))
    assert isinstance(site.back[front][-1], Introduce)
    site.say(front, fakes.hello(fakes.info(run="one"), first=1), fakes.segment(1))
    assert isinstance(site.back[front][-1], Welcome)


def test_a_hub_that_stood_still_forgets_no_run_for_it() -> None:
    site = Site(supervise=SuperviseConfig(silent_s=3.0, forget_s=600.0))
    site.begin("one")
    site.vanish("one")
    site.passes(2.0)
    site.broker.paused(900.0)
    site.now += 900.0
    site.passes(500.0)
    assert len(list(site.broker._runs)) == 1
    site.passes(110.0)
    assert not list(site.broker._runs)


def test_a_run_whose_recorder_is_away_keeps_its_events_while_a_front_is_there() -> None:
    site = Site()
    front = site.begin("one", recorded=False)
    site.say(front, fakes.segment(0))
    for _ in range(700):
        site.say(front, Beat(name="front-0"))
        site.passes(1.0)
    site.sink(b"one", Subscribe(sink="recorder", confirm=True, run="one"))
    assert len(site.events("one", Verdict)) == 1


@pytest.mark.parametrize("run", ["", "a:b", "x" * 65, "\x1b[31m", "é"])
def test_what_is_not_the_id_of_a_run_is_refused_by_name(run: str) -> None:
    hub = desk()
    hub.say(b"front-1", fakes.hello(fakes.info("other", run=run)))
    (refused,) = hub.to(b"front-1", Refused)
    assert "is not the id of a run" in refused.reason
    hub.sink(Subscribe(sink="r", confirm=True, run=run), b"sink")
    assert hub.to(b"sink", Refused)


def test_a_front_may_not_have_streams_of_another_run() -> None:
    hub = desk()
    hello = fakes.hello(fakes.info("other", run="mine"))
    hub.say(b"front-1", replace(hello, run="yours"))
    assert hub.to(b"front-1", Refused) == [Refused(reason="it has a stream of another run")]


def test_nodes_get_streams_of_the_same_name_under_different_names() -> None:
    hub = Desk().up("S1").front()
    hub.say(b"other", fakes.hello(fakes.info(run="other")))
    hub.say(FRONT, fakes.segment(0))
    hub.say(b"other", fakes.segment(0))
    assert [t.stream for t in hub.to(b"S1-0", Task)] == ["call", "other:call"]
    # one answer is for one of them
    hub.deliver(hub.broker.from_worker(hub.now, b"S1-0", fakes.vote(0, "S1", stream="call")))
    assert hub.status().doubles == 1
    hub.say(b"S1-0", fakes.vote(0, "S1"))
    assert hub.broker._coordinator.segments.get((f"{OF_RUN}call", 0)).votes  # type: ignore[union-attr]
    assert not hub.broker._coordinator.segments.get(("other:call", 0)).votes  # type: ignore[union-attr]


def test_the_longest_names_of_run_and_stream_pass_to_the_nodes_and_back() -> None:
    hub, run, name = Desk().up("S1"), "r" * 64, "s" * 1024
    hub.say(FRONT, decoded(ToHub, fakes.hello(fakes.info(name, run=run))))
    hub.say(FRONT, decoded(ToHub, fakes.segment(0, name)))
    (task,) = hub.to(b"S1-0", Task)
    vote = fakes.answer(decoded(ToNode, task), "S1")
    hub.deliver(hub.broker.from_worker(hub.now, b"S1-0", decoded(ToHub, vote)))
    record = hub.broker._coordinator.segments.get((f"{run}:{name}", 0))
    assert record is not None
    assert record.votes["S1"].stream == name


def decoded(kinds: Any, message: M) -> M:
    frames = [memoryview(frame) for frame in Encoder().encode(message)]
    return Decoder[M](kinds).decode(frames)


def test_two_streams_of_one_name_in_a_front_are_refused() -> None:
    hub = desk()
    hub.say(b"front-1", fakes.hello(fakes.info("a"), fakes.info("a")))
    assert hub.to(b"front-1", Refused) == [Refused(reason="it has two streams of the same name")]


def test_the_streams_of_a_run_are_bounded_and_those_remembered_after_their_end() -> None:
    site = Site()
    site.begin("one")
    for number in range(5000):
        front = f"front {number}".encode()
        info = fakes.info(f"call-{number}", front=f"front-{number}", run="one")
        site.say(front, fakes.hello(info, front=f"front-{number}"))
        site.say(front, End(stream=f"call-{number}", sequence=0, position=0))
        if number % 500 == 499:
            site.confirm("one")
            site.passes(5.0)
    (run,) = site.broker._runs
    assert list(run.streams) == ["call"]
    assert len(run.over) == MAX_OVER
    assert not [f for f in site.broker._streams._fronts.values() if f.name != "front-0"]
    infos = [fakes.info(f"stream-{n}", run="one") for n in range(MAX_STREAMS)]
    site.say(b"many", fakes.hello(*infos))
    assert f"more than {MAX_STREAMS} streams" in site.back[b"many"][0].reason  # type: ignore[attr-defined]


def test_the_audio_of_a_key_is_bounded_and_those_of_others_are_not_its() -> None:
    hub = Desk(flow=FlowConfig(audio_mib=1))
    files, calls = [f"f{n}" for n in range(3)], [f"c{n}" for n in range(3)]
    infos = [*map(fakes.info, files), *(fakes.info(name, live=True) for name in calls)]
    hub.say(FRONT, fakes.hello(*infos))
    for name in (*files, *calls):  # 320 kB each
        hub.say(FRONT, fakes.segment(0, name, 10 * fakes.SECOND))
    why = "the hub holds 1 MiB of audio of its key already"
    gaps = [f"refused by the hub: {why}"] * 3
    assert [(gap.stream, gap.reason) for gap in hub.events(Gap)] == [*zip(calls, gaps, strict=True)]
    later = {"start": 10 * fakes.SECOND, "end": 20 * fakes.SECOND}
    hub.say(FRONT, fakes.segment(1, "f0", 10 * fakes.SECOND, **later))
    hub.say(FRONT, fakes.partial(1, 1, "c0", length=10 * fakes.SECOND, **later))
    assert hub.status().refused[why] == 5
    assert hub.to(FRONT, Introduce), "a file loses nothing: its front sends the segment again"
    other = Key("other", "input", "x")
    hub.sink(Subscribe(sink="recorder", confirm=True, run="other"), b"other")
    site = fakes.hello(fakes.info("call", live=True, run="2"), front="front-2")
    hub.deliver(hub.broker.from_worker(hub.now, b"2", site, other))
    hub.deliver(hub.broker.from_worker(hub.now, b"2", fakes.segment(0, length=160_000), other))
    assert hub.broker._coordinator.segments.audio[other] == 320_000


def test_deadlines_that_are_far_away_do_not_keep_streams_that_are_over() -> None:
    site = Site()
    for number in range(1000):
        site.whole(f"{number:x}")
        site.passes(0.01, step=0.01)
    assert len(site.broker._coordinator._aggregator._due) <= 200


def test_runs_are_bounded() -> None:
    runs = Runs("hub")
    for number in range(MAX_RUNS):
        runs.open(0.0, f"{number:x}")
    assert str(MAX_RUNS) in runs.fault("another")
    assert not runs.fault("1")


def test_events_that_no_window_bounds_are_not_kept_without_end() -> None:
    site = Site()
    front = site.begin("one")
    for _ in range(12_000):
        site.say(front, Remark(source="call.wav", text="odd"))
    site.got.clear()
    site.say(front, Remark(source="call.wav", text="odd"), fakes.segment(0))
    assert [n.number for n in site.got[b"one"]] == [0, 10_001]
    site.say(front, Remark(source="call.wav", text="x" * 30_000))
    (last,) = (n.event for n in site.got[b"one"][2:])
    assert isinstance(last, Remark)
    assert len(last.text) == LONGEST_REASON


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_thousands_of_runs_of_one_name_leave_nothing_behind(runs: int) -> None:
    site = Site()

    def serve(first: int, last: int) -> None:
        for number in range(first, last):
            site.whole(f"{number:x}")
            site.passes(0.5, step=0.5)
            site.got.clear()
            site.back.clear()
        site.passes(10.0)
        site.gone.clear()
        gc.collect()

    serve(0, 100)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    serve(100, 100 + runs)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 256 * 1024
    assert not list(site.broker._runs)


class Client:
    """Front and recorder of one run at a real hub."""

    def __init__(self, endpoint: str, number: int) -> None:
        run = f"{number:08x}"
        self.info = fakes.info(run=run)
        self.recorder = Recorder(endpoint, f"recorder-{number}", run)
        self.context: Any = zmq.Context()
        self.socket = connect(self.context, workers_endpoint(endpoint), f"front-{number}")
        self.encoder, self.decoder = Encoder(), Decoder[Message](ToFront)
        self.events: list[Any] = []

    def begin(self) -> None:
        """Introduce the front until it is welcome."""
        deadline = time.monotonic() + 20.0
        while not any(isinstance(message, Welcome) for message in self.heard()):
            assert time.monotonic() < deadline, self.events
            self.say(fakes.hello(self.info))

    def serve(self) -> None:
        """Send two segments and the end, and wait until all are written and acknowledged."""
        self.begin()
        self.say(*(fakes.segment(n, length=16_000) for n in range(2)))
        self.say(End(stream="call", sequence=2, position=2 * fakes.SECOND))
        acknowledged, deadline = 0, time.monotonic() + 20.0
        while acknowledged < 3:
            assert time.monotonic() < deadline, self.events
            for message in self.heard():
                if isinstance(message, Credit):
                    acknowledged = message.acknowledged

    def heard(self) -> list[Message]:
        """Receive what has come for the recorder and the front; return the latter."""
        self.events += self.recorder.poll(0.02)
        messages = []
        while (frames := receive(self.socket)) is not None:
            messages.append(self.decoder.decode(frames))
        return messages

    def say(self, *messages: Message) -> None:
        for message in messages:
            assert send(self.socket, self.encoder.encode(message)) or isinstance(message, Hello)

    def close(self) -> None:
        self.recorder.close()
        self.socket.close()
        self.context.term()


@pytest.mark.parametrize("over", [True, False])
def test_a_hub_notices_at_its_sockets_that_a_run_has_gone(tmp_path: Path, over: bool) -> None:
    supervise = SuperviseConfig(beat_s=0.05, silent_s=0.3, forget_s=1.0)
    broker, context, stop = (
        Broker(fakes.config(supervise=supervise), "hub-1"),
        zmq.Context(),
        Stop(),
    )
    with closing(HubSockets(context, f"ipc://{tmp_path}")) as doors:
        thread = threading.Thread(target=Hub(broker, doors).run, args=(stop,))
        thread.start()
        with closing(Client(f"ipc://{tmp_path}", 1)) as client:
            client.begin()
            client.say(End(stream="call", sequence=0, position=0) if over else fakes.gap(0))
            while not any(isinstance(event, StreamEnded | Gap) for event in client.events):
                client.events += client.recorder.poll(0.02)
            (run,) = broker._runs
            began = time.monotonic()
        while list(broker._runs):
            assert time.monotonic() - began < 10.0
            time.sleep(0.02)
        took = time.monotonic() - began
        stop.asked = True
        thread.join()
    context.term()
    # a run that is over has nothing to wait for
    assert over or took > 0.9
    assert (len(run.over), len(run.streams)) == ((1, 0) if over else (0, 1))


def test_what_is_left_of_a_replaced_connection_does_not_speak_for_its_peer(tmp_path: Path) -> None:
    """A hub that was frozen reads both connections of a recorder that has dialled again."""
    broker, context = Broker(fakes.config(), "hub-1"), zmq.Context()
    subscribe = Encoder().encode(Subscribe(sink="recorder", confirm=True, run="1"))
    with closing(HubSockets(context, f"ipc://{tmp_path}")) as doors:
        hub = Hub(broker, doors)
        sockets = [zmq.Context().socket(zmq.DEALER) for _ in range(2)]
        for socket in sockets:
            socket.identity = b"recorder-7f"
            socket.connect(sinks_endpoint(f"ipc://{tmp_path}"))
            socket.send_multipart(subscribe)
            if socket is sockets[0]:
                assert doors.sinks.poll(5000)
                hub._receive("sinks")
                for _ in range(3):
                    socket.send_multipart(subscribe)
                socket.close(linger=1000)
            time.sleep(0.3)  # the hub does not run
        for _ in range(20):
            hub._receive("sinks")
        assert [run.recorder for run in broker._runs] == [b"recorder-7f"]
        sockets[1].close(linger=0)
    context.term()


@pytest.mark.processes
def test_fifty_runs_of_one_name_through_a_real_hub(tmp_path: Path) -> None:
    config = null_config()
    (tmp_path / "config.json").write_bytes(encode(config))
    supervisor = Supervisor(config.supervise, tmp_path)
    sizes = []
    try:
        for spec in specs("hub"):
            supervisor.start(spec)
        status = Path(f"/proc/{supervisor.pid('hub')}/status")
        for number in range(60):
            with closing(Client(f"ipc://{tmp_path}", number)) as client:
                client.serve()
            told = [e for e in client.events if isinstance(e, Verdict | Gap | StreamEnded)]
            assert [e.sequence for e in told] == [0, 1, 2]
            assert [type(e) for e in told] == [Verdict, Verdict, StreamEnded]
            resident = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
            assert resident
            sizes.append(int(resident[1]) / 1024)
    finally:
        supervisor.stop(0.5)
    assert sizes[-1] - sizes[9] < 5, sizes


@pytest.mark.parametrize("calls", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_of_thousands_of_calls_in_one_run_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    for module in (ledgers, streams):
        monkeypatch.setattr(module, "MAX_OVER", 50)  # of streams that are over a little stays
    site, ledger, run, peer = Site(), Ledger(), "run", b"push"
    inputs = Inputs(tmp_path, ledger, Follow(FixedCells("ipc://x").current), None, "", None, run)
    assert len([*inputs.push_fronts([""])]) == 1
    site.sink(b"run", Subscribe(sink="recorder", confirm=True, run=run))
    site.say(peer, Hello(front="push", incarnation="1", run=run, streams=(), first_sequences=()))

    def call(number: int) -> None:
        name = f"line:{number}"
        infos = [
            replace(fakes.info(f"{name}/{party}", run=run), front="push", input=name)
            for party in ("agent", "customer")
        ]
        site.say(peer, replace(fakes.hello(*infos), front="push", adds=True))
        for info in infos:
            site.say(peer, fakes.segment(0, info.stream), replace(END, stream=info.stream))
        site.confirm(run)
        events = [notice.event for notice in site.got[b"run"]]
        for event in filter(ledger.admit, events):
            if isinstance(event, StreamStarted):
                inputs.started(event.info)
            elif isinstance(event, StreamEnded):
                inputs.ended(event)
        assert sum(isinstance(event, Verdict) for event in events) == 2
        site.got.clear()
        site.back.clear()
        if number % 10 == 9:
            site.passes(0.5, step=0.5)
            site.say(peer, Beat(name="push"))
            site.got.clear()

    for number in range(100):
        call(number)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(100, 100 + calls):
        call(number)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 256 * 1024
    assert not inputs._reads
    assert not site.broker._runs.get(run).streams  # type: ignore[union-attr]
    assert len(ledger._tracks) == 100
