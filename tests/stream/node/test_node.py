"""The loop of a worker process, against a hub that is a bare socket of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fakes
import psutil
import pytest
import zmq
from tiny_checkpoints import save_salmonn

from abhinaya.models.base import Ballot
from abhinaya.models.published.audio_encoders import AudioEncoders
from abhinaya.stream.errors import ConfigError, ModelError, NetworkError
from abhinaya.stream.node import main as node_module
from abhinaya.stream.node import worker as worker_module
from abhinaya.stream.node.batching import Batcher
from abhinaya.stream.node.main import Node
from abhinaya.stream.node.worker import Adapter
from abhinaya.stream.settings.config import Config, SuperviseConfig, WorkerConfig
from abhinaya.stream.wire.child import Stop
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.messages import (
    Beat,
    Cancel,
    Drain,
    Failed,
    Introduce,
    Message,
    Ready,
    Refused,
    Task,
    ToHub,
    Vote,
)
from abhinaya.stream.wire.sockets import Hub, connect, receive, send, workers_endpoint

M = TypeVar("M", bound=Message)
PATIENCE_S = 10.0
BEAT_S = 0.05


class Work:
    """Votes happy; breaks on the sequence numbers in `bad`; hangs while `gate` is closed."""

    def __init__(self, bad: Sequence[int] = (), name: str = "S1") -> None:
        self.service = fakes.service(name)
        self.bad = bad
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []
        self.forgotten: list[tuple[str, int]] = []

    def run(self, batch: Sequence[Task]) -> list[Ballot]:
        self.batches.append([task.sequence for task in batch])
        self.gate.wait(PATIENCE_S)
        if any(task.sequence in self.bad for task in batch):
            raise RuntimeError("tensor of the wrong shape")
        return [Ballot("happy") for _ in batch]

    def forget(self, stream: str, sequence: int) -> None:
        self.forgotten.append((stream, sequence))


class Bench:
    """A node in a thread, and the hub's side of its socket."""

    def __init__(self, directory: Path) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.hub = Hub(self.context, f"ipc://{directory}")
        self.endpoint = workers_endpoint(f"ipc://{directory}")
        self.encoder, self.decoder = Encoder(), Decoder[Message](ToHub)
        self.heard: list[Message] = []
        self.peer = b""
        self.stop = Stop()
        self.moved = ""
        self.code: int | None = None
        self.error: Exception | None = None
        self.thread: threading.Thread | None = None

    def start(self, *models: Work, batch: int = 8, patience_s: float = 0.0) -> None:
        socket = connect(self.context, self.endpoint, "S1-0")

        def live() -> None:
            batcher = Batcher(batch, 10**9, 0.0)
            try:
                adapter = Adapter(models)
                ready = Ready(node="S1-0", incarnation="1", gives=adapter.gives, credits=4)
                supervise = SuperviseConfig(beat_s=BEAT_S)
                node = Node(
                    ready, adapter, batcher, socket, supervise, patience_s, lambda: self.moved
                )
                self.code = node.run(self.stop)
            except (ModelError, NetworkError) as error:
                self.error = error
            finally:
                socket.close()

        self.thread = threading.Thread(target=live, daemon=True)
        self.thread.start()

    def say(self, *messages: Message) -> None:
        self.until(lambda: self.heard or self.listen() or self.heard)
        for message in messages:
            assert send(self.hub.workers, self.encoder.encode(message), self.peer)

    def listen(self) -> None:
        while (frames := receive(self.hub.workers)) is not None:
            self.peer = frames[0].bytes
            self.heard.append(self.decoder.decode(frames[1:]))

    def of(self, kind: type[M]) -> list[M]:
        self.listen()
        return [m for m in self.heard if isinstance(m, kind)]

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if result := condition():
                return result
            time.sleep(0.005)
        raise AssertionError(f"it did not happen; heard: {self.heard}")

    def left(self) -> int | None:
        assert self.thread is not None
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        self.listen()
        return self.code

    def close(self) -> None:
        self.stop.asked = True
        if self.thread is not None:
            self.thread.join(PATIENCE_S)
        self.hub.close()
        self.context.destroy(linger=0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def sequences(answers: Sequence[Vote | Failed]) -> list[int]:
    return sorted(answer.sequence for answer in answers)


def introduced(bench: Bench, work: Work, batch: int = 8, patience_s: float = 0.0) -> None:
    bench.start(work, batch=batch, patience_s=patience_s)
    bench.until(lambda: bench.of(Ready))


def test_a_node_introduces_itself_once_and_then_beats(bench: Bench) -> None:
    introduced(bench, Work())
    bench.until(lambda: len(bench.of(Beat)) >= 3)
    assert bench.of(Ready) == [fakes.ready("S1", credits=4)]
    assert {(b.name, b.work_age_s) for b in bench.of(Beat)} == {("S1-0", None)}


def test_tasks_that_come_while_it_works_share_the_next_batch(bench: Bench) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work)
    bench.say(fakes.task(0))
    bench.until(lambda: work.batches)
    bench.say(*[fakes.task(s) for s in (1, 2, 3)])
    time.sleep(0.2)
    work.gate.set()
    bench.until(lambda: len(bench.of(Vote)) == 4)
    assert work.batches == [[0], [1, 2, 3]]
    assert [v.batch_size for v in sorted(bench.of(Vote), key=lambda v: v.sequence)] == [1, 3, 3, 3]


def test_a_task_that_has_not_begun_can_be_cancelled_and_says_so(bench: Bench) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work)
    bench.say(fakes.task(0))
    bench.until(lambda: work.batches)
    bench.say(fakes.task(1), fakes.task(2), Cancel(stream="call", sequence=1))
    (failed,) = bench.until(lambda: bench.of(Failed))
    assert (failed.sequence, failed.reason, failed.retry) == (1, "cancelled", False)
    work.gate.set()
    bench.until(lambda: len(bench.of(Vote)) == 2)
    assert work.batches == [[0], [2]]


def test_a_part_waits_for_segments_and_its_answer_bears_its_number(bench: Bench) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work, batch=1)
    bench.say(fakes.task(0))
    bench.until(lambda: work.batches)
    bench.say(fakes.task(1, part=3), fakes.task(2))
    bench.until(lambda: bench.of(Beat))
    work.gate.set()
    votes = bench.until(lambda: len(bench.of(Vote)) == 3 and bench.of(Vote))
    assert [(v.sequence, v.part) for v in votes] == [(0, 0), (2, 0), (1, 3)]


def test_a_segment_that_is_not_wanted_is_forgotten_once_the_batch_is_done(bench: Bench) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work)
    bench.say(fakes.task(1, part=3))
    bench.until(lambda: work.batches)
    bench.say(Cancel(stream="call", sequence=1))
    time.sleep(0.1)
    assert work.forgotten == []
    work.gate.set()
    bench.until(lambda: work.forgotten)
    assert work.forgotten == [("call", 1)]


def test_asked_to_introduce_itself_it_does_and_drops_what_an_earlier_hub_wanted(
    bench: Bench,
) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work)
    bench.say(fakes.task(0))
    bench.until(lambda: work.batches)
    bench.say(fakes.task(1), Introduce())
    bench.until(lambda: len(bench.of(Ready)) == 2)
    bench.say(fakes.task(2))
    time.sleep(0.1)
    work.gate.set()
    bench.until(lambda: len(bench.of(Vote)) == 2)
    assert sequences(bench.of(Vote)) == [0, 2]


def test_drained_it_finishes_what_it_holds_and_leaves(bench: Bench) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work, batch=1)
    bench.say(*[fakes.task(s) for s in range(3)], Drain())
    bench.until(lambda: work.batches)
    work.gate.set()
    bench.until(lambda: len(bench.of(Vote)) == 3)
    assert bench.left() == 0


def test_asked_to_stop_a_node_of_a_standing_hub_finishes_what_it_holds(bench: Bench) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work, batch=1, patience_s=PATIENCE_S)
    bench.say(fakes.task(0))
    bench.until(lambda: work.batches)
    bench.stop.asked = True
    bench.until(lambda: bench.of(Ready)[-1].credits == 0)
    bench.say(fakes.task(1), Drain())  # a task that was on its way
    work.gate.set()
    bench.until(lambda: len(bench.of(Vote)) == 2)
    assert bench.left() == 0


def test_a_node_follows_its_hub_to_another_address(bench: Bench, tmp_path: Path) -> None:
    introduced(bench, Work())
    (elsewhere := tmp_path / "b").mkdir(mode=0o700)
    hub = Hub(bench.context, f"ipc://{elsewhere}")
    try:
        bench.moved = f"ipc://{elsewhere}"
        frames = bench.until(lambda: receive(hub.workers))
        assert isinstance(bench.decoder.decode(frames[1:]), Ready)
    finally:
        hub.close()


def test_told_to_stop_it_leaves_at_once(bench: Bench) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work)
    bench.say(fakes.task(0))
    bench.until(lambda: work.batches)
    bench.stop.asked = True
    assert bench.left() == 0
    work.gate.set()


def test_beats_go_on_while_the_work_hangs_and_say_for_how_long(bench: Bench) -> None:
    work = Work()
    work.gate.clear()
    introduced(bench, work)
    bench.say(fakes.task(0))
    bench.until(lambda: any((b.work_age_s or 0) > 0.3 for b in bench.of(Beat)))
    ages = [b.work_age_s for b in bench.of(Beat) if b.work_age_s is not None]
    assert ages == sorted(ages)
    work.gate.set()
    bench.until(lambda: bench.of(Vote))
    bench.heard.clear()
    bench.until(lambda: bench.of(Beat))
    assert bench.of(Beat)[-1].work_age_s is None


def test_a_node_that_is_refused_says_why_and_ends(bench: Bench) -> None:
    introduced(bench, Work())
    bench.say(Refused(reason="labels bored are not among the eight"))
    bench.left()
    assert isinstance(bench.error, ModelError)
    assert bench.error.subject == "S1-0"
    assert "labels bored are not among the eight" in bench.error.reason


def test_a_hub_that_was_away_is_introduced_to_again(bench: Bench, tmp_path: Path) -> None:
    introduced(bench, Work())
    bench.hub.close()
    time.sleep(3 * BEAT_S)
    bench.heard.clear()
    bench.hub = Hub(bench.context, f"ipc://{tmp_path}")
    bench.until(lambda: bench.of(Ready))


def test_serve_loads_the_model_answers_and_loses_no_answer_on_leaving(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says last must not be thrown away with the socket."""
    monkeypatch.setattr(worker_module, "load_model", lambda service, worker: Work())
    run = Config(
        profile="test",
        voters={"S1": WorkerConfig(model="fake", max_batch=2)},
        supervise=SuperviseConfig(beat_s=BEAT_S),
    )
    for _ in range(5):
        bench.heard.clear()

        def live() -> None:
            endpoint = bench.endpoint.removesuffix("/hub")
            bench.code = node_module.serve(run, "S1-0", "S1", endpoint, bench.stop)

        bench.thread = threading.Thread(target=live, daemon=True)
        bench.thread.start()
        (ready,) = bench.until(lambda: bench.of(Ready))
        assert ready.credits == 4
        bench.say(*[fakes.task(s) for s in range(4)], Drain())
        assert bench.left() == 0
        bench.until(lambda: len(bench.of(Vote)) == 4)


def test_a_node_that_no_hub_accepts_says_so_and_ends(tmp_path: Path) -> None:
    context: zmq.Context[Any] = zmq.Context()
    adapter = Adapter([Work()])
    ready = Ready(node="S1-0", incarnation="1", gives=adapter.gives, credits=4)
    supervise = SuperviseConfig(beat_s=BEAT_S, ready_s=0.2)
    with connect(context, workers_endpoint(f"ipc://{tmp_path}"), "S1-0") as socket:
        node = Node(ready, adapter, Batcher(8, 10**9, 0.0), socket, supervise)
        with pytest.raises(NetworkError, match="the hub does not answer") as error:
            node.run(Stop())
    assert error.value.remedy
    context.destroy(linger=0)


@pytest.mark.parametrize(("rights", "kind"), [(True, NetworkError), (False, ModelError)])
def test_a_node_that_is_refused_says_why_and_what_to_do(
    bench: Bench, rights: bool, kind: type[Exception]
) -> None:
    bench.start(Work())
    bench.say(Refused(reason="key 'x' has no role", remedy="`abhinaya keys`", rights=rights))
    bench.left()
    assert isinstance(bench.error, kind)
    assert str(bench.error).endswith("key 'x' has no role; `abhinaya keys`")


def test_serve_refuses_a_service_that_the_profile_has_not(bench: Bench) -> None:
    run = Config(profile="test", voters={})
    with pytest.raises(ConfigError, match="is not a service of profile 'test'; known: "):
        node_module.serve(run, "S9-0", "S9", "ipc:///nowhere", Stop())


# --- several services in one process --------------------------------------------------------------


def test_a_node_answers_for_each_service_that_a_task_asks_for_and_at_once(bench: Bench) -> None:
    first, second = Work(name="S1"), Work(name="T2")
    second.gate.clear()
    bench.start(first, second)
    bench.until(lambda: bench.of(Ready))
    bench.say(fakes.task(0, services=("S1", "T2")))
    bench.until(lambda: second.batches)
    (vote,) = bench.until(lambda: bench.of(Vote))
    assert vote.voter == "S1", "what is there is sent while the rest is worked on"
    second.gate.set()
    bench.until(lambda: len(bench.of(Vote)) == 2)
    bench.say(fakes.task(1, services=("T2",)))
    bench.until(lambda: len(bench.of(Vote)) == 3)
    assert (first.batches, second.batches) == ([[0]], [[0], [1]])


def test_a_cancelled_task_is_answered_for_each_service(bench: Bench) -> None:
    first, second = Work(name="S1"), Work(name="T2")
    first.gate.clear()
    bench.start(first, second)
    bench.until(lambda: bench.of(Ready))
    bench.say(fakes.task(0))
    bench.until(lambda: first.batches)
    bench.say(fakes.task(1, services=("S1",)), fakes.task(1, services=("T2",)))
    bench.say(Cancel(stream="call", sequence=1))
    bench.until(lambda: len(bench.of(Failed)) == 2)
    assert {failed.service for failed in bench.of(Failed)} == {"S1", "T2"}
    first.gate.set()


def hosted(tmp_path: Path) -> Config:
    """S2 and ST1 of tiny SALMONNs in one process."""
    files = save_salmonn(tmp_path)
    return Config(
        profile="p",
        voters={
            "S2": WorkerConfig(model="salmonn-13b", options=files.options("13b")),
            "ST1": WorkerConfig(model="salmonn-7b", host="S2", options=files.options("7b")),
        },
        supervise=SuperviseConfig(beat_s=BEAT_S),
    )


def test_host_and_guest_vote_with_one_copy_and_one_run_of_their_encoders(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    made: list[AudioEncoders] = []
    encode, init = AudioEncoders._encode, AudioEncoders.__init__
    monkeypatch.setattr(
        AudioEncoders, "_encode", lambda self, w: (heard.append(len(w)), encode(self, w))[1]
    )
    monkeypatch.setattr(
        AudioEncoders, "__init__", lambda self, *a: (made.append(self), init(self, *a))[1]
    )
    run, endpoint = hosted(tmp_path), f"ipc://{tmp_path}"

    def live() -> None:
        bench.code = node_module.serve(run, "S2-0", "S2", endpoint, bench.stop)

    bench.thread = threading.Thread(target=live, daemon=True)
    bench.thread.start()
    (ready,) = bench.until(lambda: bench.of(Ready))
    assert [service.name for service in ready.gives] == ["S2", "ST1"]
    heard.clear()  # they were tried before they said that they are ready
    for service, said in (("S2", None), ("ST1", "well")):  # the transcript comes later
        for sequence in range(3):
            task = fakes.task(sequence, length=8000, services=(service,), transcript=said)
            assert send(bench.hub.workers, bench.encoder.encode(task), bench.peer)
    bench.until(lambda: len(bench.of(Vote)) == 6)
    assert {vote.voter for vote in bench.of(Vote)} == {"S2", "ST1"}
    assert len(made) == 1, "one copy of the encoders"
    assert sum(heard) == 3, "each segment is encoded once"
    bench.stop.asked = True
    assert bench.left() == 0


# --- memory ---------------------------------------------------------------------------------------


class Wasteful(Work):
    """Uses much memory in small blocks, and keeps the last: the heap cannot shrink below it."""

    def run(self, batch: Sequence[Task]) -> list[Ballot]:
        blocks = [bytes([1]) * 2**16 for _ in range(1000)]
        self.kept, self.peak = blocks.pop(), resident()
        return super().run(batch)


def resident() -> int:
    return psutil.Process().memory_info().rss


def test_free_memory_goes_back_to_the_system(bench: Bench) -> None:
    introduced(bench, work := Wasteful())
    bench.say(fakes.task(0))
    bench.until(lambda: bench.of(Vote))
    bench.until(lambda: resident() < work.peak - 40 * 2**20)
