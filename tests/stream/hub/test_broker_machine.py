"""The whole hub without sockets, under every order of misfortune that hypothesis can think of.

The law: whatever dies, hangs, comes late or comes twice, every segment comes out exactly once, as a
verdict that names its missing voters or as a gap, in the order of its stream. What is provisional
comes before that, of each segment in the order of its parts, and nothing of it after.

Two runs with the same names of streams share the hub; each ends at any time without a word, and
another one with the same names begins. A recorder gets its own run alone, a reader gets all runs,
and of a run that is over nothing stays in the hub.

Some nodes give one service and some give several; two services keep a state, here the list of the
segments that went into it: it must be of segments before, and as long as no hub dies (or forgets
the run) no segment that counted is missing in it, unless its service had been given up before it
answered after all.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

import fakes
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from abhinaya.models.labels import LABELS
from abhinaya.stream.front.outbox import LatestOnly, Outbox
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.publisher import Outgoing
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.run.recorder import Inbox
from abhinaya.stream.wire.messages import (
    Beat,
    Cancel,
    Credit,
    End,
    Failed,
    Gap,
    Hello,
    Introduce,
    Known,
    Message,
    Notice,
    Seen,
    StreamEnded,
    StreamStarted,
    Subscribe,
    Task,
    Transcript,
    Verdict,
    Vote,
    Welcome,
)

SERVICES = ("asr", "S1", "T2", "ST1")
STATEFUL = ("S1", "ST1")
PLACES = ("left", "right")
STREAMS = ("file", "live")
READER = b"reader"
KINDS = {service: (service,) for service in SERVICES} | {
    "ears": SERVICES,
    "hosted": ("S1", "ST1"),
}
"""What the nodes of a name give."""


@dataclass
class Node:
    name: str
    incarnation: int = 1
    alive: bool = True
    tasks: list[tuple[Task, str]] = field(default_factory=list)
    """Each with one of the services that are to answer."""
    answered: list[tuple[Task, str]] = field(default_factory=list)

    @property
    def services(self) -> tuple[str, ...]:
        return KINDS[self.name.rpartition("-")[0]]

    @property
    def peer(self) -> bytes:
        return self.name.encode()


@dataclass
class Front:
    """A file: whatever has been spoken can be read again from the beginning."""

    run: str
    stream: str
    spoken: int = 0
    ended: bool = False
    read: int = 0
    parts: int = 0
    """Of the segment that is being spoken."""
    fleeting: LatestOnly = field(default_factory=LatestOnly)
    outbox: Outbox | None = None
    states: dict[str, bytes] = field(default_factory=dict)
    incarnation: int = 1

    @property
    def live(self) -> bool:
        return self.stream == "live"

    @property
    def id(self) -> str:
        return f"{self.run}:{self.stream}"

    @property
    def name(self) -> str:
        return f"front-{self.stream}"

    @property
    def peer(self) -> bytes:
        return f"front {self.id}".encode()


@dataclass
class Recorder:
    """The main process of a run, and what it has recorded."""

    run: str
    ledger: Ledger = field(default_factory=Ledger)
    present: bool = True
    inbox: Inbox = field(default_factory=Inbox)

    @property
    def peer(self) -> bytes:
        return f"recorder {self.run}".encode()


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.hubs = 0
        self.begun: dict[str, float] = {}
        """When each run began: its verdicts are of that time."""
        self.recorders: dict[str, Recorder] = {}
        """By place: each has one run after the other."""
        self.fronts: dict[str, Front] = {}
        """By place and stream."""
        self.nodes = {f"{s}-0": Node(f"{s}-0") for s in SERVICES}
        self.told: defaultdict[str, list[Verdict | Gap | StreamEnded]] = defaultdict(list)
        """By run and stream, what is final; and what is not, with the number of final ones before.
        """
        self.passing: defaultdict[str, list[tuple[int, Verdict]]] = defaultdict(list)
        self.read: dict[str, int] | None = None
        """The last sequence number that the reader got, by run and stream; None without reader."""
        self.attempts: Counter[tuple[str, int, str]] = Counter()
        self.skipped: set[tuple[str, int, str]] = set()
        """Segments whose service was given up when a later one got its task."""
        self.sent: deque[Outgoing] = deque()
        self.forgotten: set[str] = set()
        """Runs that the hub has forgotten: for them it is like a new one."""
        for place in PLACES:
            self.new_run(place)
        self.start_hub()

    # --- the world outside the broker -------------------------------------------------------------

    def start_hub(self) -> None:
        self.hubs += 1
        self.broker = Broker(fakes.config(), f"hub-{self.hubs}")
        self.cut: set[bytes] = set()
        """Peers whose connection is dead: what they say and what is said to them is lost."""
        for recorder in self.recorders.values():
            if recorder.present:
                self.subscribe(recorder)
        if self.read is not None:
            self.reader_comes()
        for node in self.nodes.values():
            if node.alive:
                self.introduce_node(node)
        for front in self.fronts.values():
            self.greet(front)

    def new_run(self, place: str) -> Recorder:
        run = f"{place}{len(self.begun)}"
        self.begun[run] = 1e6 * (1 + len(self.begun))
        self.fronts |= {f"{place}/{stream}": Front(run, stream) for stream in STREAMS}
        self.recorders[place] = Recorder(run)
        return self.recorders[place]

    def subscribe(self, recorder: Recorder) -> None:
        self.sink(recorder.peer, Subscribe(sink="r", confirm=True, run=recorder.run))

    def sink(self, peer: bytes, message: Message) -> None:
        if peer not in self.cut:
            self.deliver(self.broker.from_sink(self.now, peer, message))

    def worker(self, peer: bytes, message: Message) -> None:
        if peer not in self.cut:
            self.deliver(self.broker.from_worker(self.now, peer, message))

    def introduce_node(self, node: Node) -> None:
        node.tasks.clear()
        ready = fakes.ready(" ".join(node.services), node.name, str(node.incarnation), trial_ms=2.0)
        gives = tuple(replace(s, stateful=s.name in STATEFUL) for s in ready.gives)
        message = replace(ready, gives=gives)
        self.worker(node.peer, message)

    def greet(self, front: Front) -> None:
        first = front.outbox.acknowledged if front.outbox else self.written(front)
        info = fakes.info(front.stream, front.live, front.name, run=front.run)
        hello = Hello(
            front=front.name,
            incarnation=str(front.incarnation),
            run=front.run,
            streams=(replace(info, start_unix_s=self.begun[front.run]),),
            first_sequences=(first,),
        )
        self.worker(front.peer, hello)

    def recorder_of(self, front: Front) -> Recorder:
        return next(r for r in self.recorders.values() if r.run == front.run)

    def written(self, front: Front) -> int:
        standings = self.recorder_of(front).ledger.standings(front.stream)
        return standings[0].next_sequence if standings else 0

    def deliver(self, out: list[Outgoing]) -> None:
        """Deliver messages in the order in which they were sent; the answers to them come later."""
        self.sent += out
        if len(self.sent) > len(out):
            return
        while self.sent:
            self.deliver_one(self.sent[0])
            self.sent.popleft()

    def deliver_one(self, item: Outgoing) -> None:
        recorders = {r.peer: r for r in self.recorders.values() if r.present}
        fronts = {front.peer: front for front in self.fronts.values()}
        if item.peer in self.cut:
            return
        if item.door == "sinks" and item.peer in recorders:
            self.recorded(recorders[item.peer], item.message)
        elif item.peer == READER and self.read is not None:
            self.noticed(self.read, item.message)
        elif item.door == "workers" and item.peer.decode() in self.nodes:
            self.to_node(self.nodes[item.peer.decode()], item.message)
        elif item.peer in fronts:
            self.to_front(fronts[item.peer], item.message)
        else:
            self.deliver(self.broker.unreachable(self.now, item.peer))

    def recorded(self, recorder: Recorder, message: Message) -> None:
        if not isinstance(message, Notice):
            assert isinstance(message, Introduce)
            self.subscribe(recorder)
            return
        self.is_of_run(message)
        assert message.run in ("", recorder.run)
        if not recorder.inbox.take(message):
            assert not recorder.inbox.incomplete
            return
        recorder.inbox.written = max(recorder.inbox.written, message.number)
        event = recorder.ledger.admit(message.event)
        if isinstance(event, Verdict | Gap | StreamEnded):
            told = self.told[f"{recorder.run}:{event.stream}"]
            if isinstance(event, Verdict) and not event.final:
                assert message.number == 0
                self.passing[f"{recorder.run}:{event.stream}"].append((len(told), event))
                return
            told.append(event)

    def is_of_run(self, notice: Notice) -> None:
        """What is said of a run must be of its own streams: those of others have the same names."""
        event = notice.event
        if isinstance(event, StreamStarted):
            assert event.info.run == notice.run
            assert event.info.start_unix_s == self.begun[notice.run]
        elif isinstance(event, Verdict):
            assert event.start_unix_s - event.start / fakes.SECOND == self.begun[notice.run]
            answers = [*event.votes, event.transcript] if event.transcript else event.votes
            assert all(answer.stream == event.stream and not answer.state for answer in answers)

    def noticed(self, read: dict[str, int], message: Message) -> None:
        """A reader gets each stream in order and without holes, from where it began to read."""
        if not isinstance(message, Notice):
            assert isinstance(message, Introduce)
            return
        self.is_of_run(message)
        event = message.event
        if isinstance(event, StreamStarted):  # perhaps of a run that the hub had given up
            read.pop(f"{message.run}:{event.info.stream}", None)
        first = isinstance(event, Verdict) and event.final and event.revision == 0
        if first or isinstance(event, Gap | StreamEnded):
            assert isinstance(event, Verdict | Gap | StreamEnded)
            key = f"{message.run}:{event.stream}"
            assert event.sequence == read.get(key, event.sequence - 1) + 1
            read[key] = event.sequence

    def to_node(self, node: Node, message: Message) -> None:
        if isinstance(message, Task) and message.final:
            self.attempts.update((message.stream, message.sequence, s) for s in message.services)
        if not node.alive:
            return
        if isinstance(message, Task):
            assert message.final or not node.tasks, "a part is for who holds nothing"
            self.check(message)
            node.tasks += [(message, service) for service in message.services]
        elif isinstance(message, Introduce):
            self.introduce_node(node)
        elif isinstance(message, Cancel):
            for entry in list(node.tasks):
                task, service = entry
                of_it = (task.stream, task.sequence) == (message.stream, message.sequence)
                if of_it and message.part in (0, task.part):
                    node.tasks.remove(entry)
                    failed = fakes.failed(task, service, False, "cancelled")
                    self.worker(node.peer, failed)

    def check(self, task: Task) -> None:
        """The state that comes with a task must hold what counted before, and nothing later."""
        for service in task.services:
            known = list(task.states.get(service, b""))
            assert service in STATEFUL or not known
            assert known == sorted(set(known))
            assert all(sequence < task.sequence for sequence in known)
            counted = [
                event.sequence
                for event in self.told[task.stream]
                if isinstance(event, Verdict) and event.revision == 0
                if event.sequence < task.sequence and service in [v.voter for v in event.votes]
            ]
            for sequence in set(range(task.sequence)) - set(known):
                if (
                    self.attempts[task.stream, sequence, service]
                    >= fakes.config().deadlines.attempts
                ):
                    self.skipped.add((task.stream, sequence, service))
            known_to_hub = self.hubs == 1 and task.stream.partition(":")[0] not in self.forgotten
            if service in STATEFUL and known_to_hub:
                skipped = {s for t, s, name in self.skipped if (t, name) == (task.stream, service)}
                assert set(counted) <= set(known) | skipped

    def say(
        self, node: Node, task: Task, service: str, message: Vote | Transcript | Failed
    ) -> None:
        if service in STATEFUL and not (isinstance(message, Failed) and message.retry):
            known = task.states.get(service, b"")
            message = replace(message, state=known + bytes([task.sequence]))
        self.worker(node.peer, message)

    def to_front(self, front: Front, message: Message) -> None:
        if isinstance(message, Welcome):
            standing = message.streams[0]
            if front.outbox is None:
                front.outbox = Outbox(standing.acknowledged, standing.window, 6)
                front.read = 0
            front.outbox.credit(standing.acknowledged, standing.window)
            front.outbox.resume(standing.next_sequence)
            for service, state in front.states.items():
                known = Known(stream=front.stream, service=service, state=state)
                self.worker(front.peer, known)
        elif isinstance(message, Credit):
            if front.outbox:
                front.outbox.credit(message.acknowledged, message.window)
                front.states = message.states
            for state in message.states.values():
                assert all(sequence < message.acknowledged for sequence in state)
        elif isinstance(message, Introduce):
            self.greet(front)
        else:
            raise AssertionError(message)

    def pump(self, front: Front) -> None:
        """Read what has been spoken, as far as there is room, and send what may be sent."""
        if front.outbox is None:
            return
        total = front.spoken + (1 if front.ended else 0)
        while front.read < total and (front.live or not front.outbox.full):
            last = front.read == front.spoken
            item = (
                End(stream=front.stream, sequence=front.read, position=front.read * fakes.SECOND)
                if last
                else fakes.segment(front.read, front.stream)
            )
            front.outbox.put(item)
            front.read += 1
            if front.live:
                front.outbox.shed(6 * 16, "memory full")
        for item in front.outbox.sendable():
            front.outbox.sent(item)
            self.worker(front.peer, item)
        for passing in front.fleeting.take(front.outbox.unsent):
            self.worker(front.peer, passing)

    # --- what can happen --------------------------------------------------------------------------

    places = st.sampled_from(PLACES)
    streams = st.sampled_from([f"{place}/{stream}" for place in PLACES for stream in STREAMS])
    names = st.sampled_from([f"{kind}-{i}" for kind in KINDS for i in (0, 1)])

    @rule(stream=streams, count=st.integers(1, 4))
    def speak(self, stream: str, count: int) -> None:
        front = self.fronts[stream]
        if not front.ended:
            front.spoken += count
            front.parts = 0
        self.pump(front)

    @rule(stream=streams, count=st.integers(1, 3))
    def go_on_speaking(self, stream: str, count: int) -> None:
        """Somebody has begun the next segment; what is told of it may be lost on the way."""
        front = self.fronts[stream]
        if not front.ended:
            front.parts += count
            front.fleeting.put(fakes.partial(front.spoken, front.parts, front.stream))
        self.pump(front)

    @rule(stream=streams)
    def end(self, stream: str) -> None:
        self.fronts[stream].ended = True
        self.pump(self.fronts[stream])

    @rule(name=names, label=st.sampled_from(LABELS), index=st.integers(0, 3))
    def answer(self, name: str, label: str, index: int) -> None:
        node = self.nodes.get(name)
        if node and node.alive and node.tasks:
            task, service = node.tasks.pop(index % len(node.tasks))
            node.answered.append((task, service))
            self.say(node, task, service, fakes.answer(task, service, label))

    @rule(count=st.integers(1, 8), label=st.sampled_from(LABELS))
    def work(self, count: int, label: str) -> None:
        """The oldest tasks are answered, as on a good day."""
        for _ in range(count):
            held = [(n.tasks[0][0].sequence, n.name) for n in self.nodes.values() if n.tasks]
            if held:
                self.answer(min(held)[1], label, 0)
        self.confirm()

    @rule(stream=streams, label=st.sampled_from(LABELS))
    def go_on_speaking_to_idle_nodes(self, stream: str, label: str) -> None:
        """A part comes and is answered, as on most days."""
        self.go_on_speaking(stream, 1)
        for _ in range(2):  # the words first, then those who read them
            for node in list(self.nodes.values()):
                if node.tasks and not node.tasks[0][0].final:
                    self.answer(node.name, label, 0)

    @rule(stream=streams)
    def connection_breaks(self, stream: str) -> None:
        """What was on its way may have arrived or not: the front sends all of it again."""
        front = self.fronts[stream]
        if front.outbox is not None:
            front.outbox.resume(front.outbox.acknowledged)
            self.pump(front)

    @rule(name=names, label=st.sampled_from(LABELS))
    def answer_again(self, name: str, label: str) -> None:
        node = self.nodes.get(name)
        if node and node.alive and node.answered:
            task, service = node.answered[-1]
            # an earlier hub may have asked for it: then it answers what this one asks for as well
            of_it = (task.stream, task.sequence, task.part, service)
            node.tasks = [
                (t, s) for t, s in node.tasks if (t.stream, t.sequence, t.part, s) != of_it
            ]
            self.say(node, task, service, fakes.answer(task, service, label))

    @rule(name=names, retry=st.booleans())
    def fail(self, name: str, retry: bool) -> None:
        node = self.nodes.get(name)
        if node and node.alive and node.tasks:
            task, service = node.tasks.pop(0)
            self.say(node, task, service, fakes.failed(task, service, retry))

    @rule(name=names)
    def node_dies(self, name: str) -> None:
        if name in self.nodes:
            self.nodes[name].alive = False
            self.nodes[name].tasks.clear()

    @rule(name=names)
    def node_starts(self, name: str) -> None:
        """A replica is added, or one that died comes back; its old self may not be missed yet."""
        node = self.nodes.setdefault(name, Node(name, alive=False))
        if not node.alive:
            node.alive, node.incarnation = True, node.incarnation + 1
            node.answered.clear()
            self.introduce_node(node)

    @rule(name=names)
    def node_hangs(self, name: str) -> None:
        node = self.nodes.get(name)
        if node and node.alive and node.tasks:
            beat = Beat(name=name, work_age_s=11.0)
            self.worker(node.peer, beat)

    @rule(stream=streams)
    def front_dies_and_is_started_again(self, stream: str) -> None:
        front = self.fronts[stream]
        front.outbox, front.read, front.states = None, 0, {}
        front.incarnation += 1
        self.greet(front)
        self.pump(front)

    @rule()
    def hub_dies_and_is_started_again(self) -> None:
        self.start_hub()
        for front in self.fronts.values():
            self.pump(front)

    @rule()
    def confirm(self) -> None:
        for recorder in self.recorders.values():
            if recorder.present:
                inbox = recorder.inbox
                self.sink(recorder.peer, Seen(hub=inbox.hub, number=inbox.written))
        for front in self.fronts.values():
            self.pump(front)

    @rule(place=places)
    def recorder_is_cut_off(self, place: str) -> None:
        recorder = self.recorders[place]
        if recorder.present:
            recorder.present = False
            self.deliver(self.broker.unreachable(self.now, recorder.peer))

    @rule(place=places)
    def recorder_comes_back(self, place: str) -> None:
        recorder = self.recorders[place]
        if not recorder.present:
            recorder.present = True
            self.subscribe(recorder)

    @rule(place=places, stream=st.none() | st.sampled_from(STREAMS))
    def connection_of_a_run_is_cut(self, place: str, stream: str | None) -> None:
        front = self.fronts.get(f"{place}/{stream}")
        self.cut.add(front.peer if front else self.recorders[place].peer)

    @rule(place=places)
    def run_is_away_for_so_long_that_the_hub_forgets_it(self, place: str) -> None:
        self.recorder_is_cut_off(place)
        for stream in STREAMS:
            self.connection_of_a_run_is_cut(place, stream)
        for _ in range(2):
            self.time_passes(fakes.config().supervise.forget_s)
        assert self.broker._runs.get(self.recorders[place].run) is None

    @rule(name=names)
    def connection_of_a_node_is_cut(self, name: str) -> None:
        if name in self.nodes:
            self.cut.add(self.nodes[name].peer)

    @rule()
    def connections_are_made_anew(self) -> None:
        """Whoever gets a new connection introduces itself, and sends again what may be lost."""
        cut, self.cut = self.cut, set()
        for recorder in self.recorders.values():
            if recorder.peer in cut and recorder.present:
                self.subscribe(recorder)
        for node in self.nodes.values():
            if node.peer in cut and node.alive:
                self.introduce_node(node)
        for front in self.fronts.values():
            if front.peer in cut:
                self.greet(front)
                self.pump(front)

    @rule(place=places, recorder_first=st.booleans())
    def run_vanishes_and_another_begins(self, place: str, recorder_first: bool) -> None:
        recorder = self.new_run(place)
        if recorder_first:
            self.subscribe(recorder)
        for stream in STREAMS:
            self.greet(self.fronts[f"{place}/{stream}"])
        if not recorder_first:
            self.subscribe(recorder)

    @rule()
    def reader_comes(self) -> None:
        self.read = {}
        self.sink(READER, Subscribe(sink="reader", confirm=False))

    @rule()
    def reader_goes(self) -> None:
        self.read = None

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 2.5, 70.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for node in list(self.nodes.values()):
            if node.alive:
                beat = Beat(name=node.name, work_age_s=None)
                self.worker(node.peer, beat)
        for front in self.fronts.values():
            self.worker(front.peer, Beat(name=front.name))
        self.deliver(self.broker.tick(self.now))
        self.forgotten |= {run for run in self.begun if self.broker._runs.get(run) is None}

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def in_order_and_none_twice(self) -> None:
        for stream, events in self.told.items():
            first = [e.sequence for e in events if not isinstance(e, Verdict) or e.revision == 0]
            assert first == list(range(len(first))), stream

    @invariant()
    def what_is_provisional_comes_in_order_and_before_what_is_final(self) -> None:
        for stream, passing in self.passing.items():
            parts = [(verdict.sequence, verdict.part) for _, verdict in passing]
            assert parts == sorted(set(parts)), stream
            for before, verdict in passing:
                final = [e.sequence for e in self.told[stream][:before]]
                assert verdict.sequence not in final
                assert verdict.revision == 0

    @invariant()
    def verdicts_account_for_every_voter(self) -> None:
        passing = [[verdict for _, verdict in those] for those in self.passing.values()]
        for events in (*self.told.values(), *passing):
            for event in events:
                if isinstance(event, Verdict):
                    voted = [v.voter for v in event.votes]
                    missing = [m.voter for m in event.missing]
                    assert sorted(voted + missing) == ["S1", "ST1", "T2"]
                    assert all(m.reason for m in event.missing)

    @invariant()
    def the_hub_knows_how_much_audio_it_holds(self) -> None:
        segments = self.broker._coordinator.segments
        items = [item for record in segments for item in (record.item, record.next) if item]
        assert segments.audio.total() == sum(item.samples.nbytes for item in items)

    @invariant()
    def revisions_change_the_label(self) -> None:
        for events in self.told.values():
            labels: dict[int, str] = {}
            for event in events:
                if isinstance(event, Verdict):
                    assert event.revision == 0 or labels[event.sequence] != event.label
                    labels[event.sequence] = event.label

    def teardown(self) -> None:
        """Let everything heal and finish: then nothing may be missing, and nothing may stay."""
        self.connections_are_made_anew()
        for place in PLACES:
            self.recorder_comes_back(place)
        for name in [f"{s}-0" for s in SERVICES]:
            self.node_starts(name)
        for front in self.fronts:
            self.end(front)
        for _ in range(400):
            for node in self.nodes.values():
                while node.alive and node.tasks:
                    self.answer(node.name, "sad", 0)
            self.time_passes(0.5)
            self.confirm()
            if all(self.is_over(front) for front in self.fronts.values()):
                break
        for front in self.fronts.values():
            events = self.told[front.id]
            first = [e for e in events if not isinstance(e, Verdict) or e.revision == 0]
            assert [e.sequence for e in first] == list(range(front.spoken + 1)), front
            assert isinstance(first[-1], StreamEnded)
            assert front.outbox is not None
            assert front.outbox.empty
        self.in_order_and_none_twice()
        self.fronts.clear()
        self.recorders.clear()
        for _ in range(5):
            self.time_passes(300.0)
        assert not list(self.broker._runs)
        assert not self.broker._streams._fronts
        assert not list(self.broker._coordinator.segments)
        assert not self.broker._publisher._recorders

    def is_over(self, front: Front) -> bool:
        self.pump(front)
        over = self.recorder_of(front).ledger.over(front.stream)
        return over and front.outbox is not None and front.outbox.empty


def test_a_partial_of_a_run_that_has_vanished_goes_too() -> None:
    """Found by the machine: the stream was forgotten, and its partial stayed at the hub."""
    world = World()
    world.run_is_away_for_so_long_that_the_hub_forgets_it(place="right")
    world.go_on_speaking(stream="left/file", count=1)
    world.run_vanishes_and_another_begins(place="left", recorder_first=False)
    world.time_passes(seconds=1000.0)
    world.teardown()


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=200,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
