"""What a model knows of a voice is handed on, so that it does not matter who answers.

The law: one node, two replicas, a node that is killed in between, and a hub that is started again
give the same verdicts.
"""

from __future__ import annotations

import hashlib
import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path

import fakes
import pytest
from desk import FRONT, Desk
from msgspec.structs import replace

from abhinaya.bench.demo import CALL
from abhinaya.models.labels import LABELS
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.run.monitor import Run
from abhinaya.stream.run.plan import Input, Plan
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import (
    Cancel,
    Credit,
    Died,
    End,
    Event,
    Known,
    Ready,
    Subscribe,
    Task,
    Verdict,
    Vote,
    Welcome,
)

COUNT = 12
VOTERS = {"voters": {"S1": fakes.config().voters["S1"]}, "asr": None}


def chained(state: bytes, sequence: int) -> tuple[str, bytes]:
    """The label of a segment and the state behind it: both depend on all segments before."""
    digest = hashlib.sha256(state + bytes([sequence])).digest()
    return LABELS[digest[0] % 8], digest


def told(count: int = COUNT) -> list[str]:
    """The labels that the law asks for."""
    state, labels = b"", []
    for sequence in range(count):
        label, state = chained(state, sequence)
        labels.append(label)
    return labels


def stateful(node: str, credits: int = 2) -> Ready:
    return fakes.ready("S1", node, credits=credits, stateful=True)


def vote(task: Task) -> Vote:
    label, state = chained(task.states.get("S1", b""), task.sequence)
    return replace(fakes.vote(task.sequence, "S1", label, part=task.part), state=state)


class Table(Desk):
    """A desk at which every node answers the oldest task it holds when it is told to work."""

    def __init__(self, *nodes: str) -> None:
        super().__init__(**VOTERS)
        self.nodes: dict[str, list[Task]] = {}
        for node in nodes:
            self.start(node)

    def start(self, node: str) -> None:
        self.nodes[node] = []
        self.say(node.encode(), stateful(node))

    def kill(self, node: str) -> None:
        self.collect()
        del self.nodes[node]
        self.sink(Died(name=node, reason="was killed"))

    def collect(self) -> None:
        for peer, message in self.told:
            if isinstance(message, Task):
                self.nodes[peer.decode()].append(message)
        self.told = [(p, m) for p, m in self.told if not isinstance(m, Task)]

    def work(self) -> bool:
        """Let each node answer one task, the last of them first."""
        self.collect()
        busy = [node for node in reversed(self.nodes) if self.nodes[node]]
        for node in busy:
            task = self.nodes[node].pop(0)
            self.say(node.encode(), vote(task))
        return bool(busy)

    def labels(self) -> list[str]:
        while self.work():
            self.seen()
        return [v.label for v in self.events(Verdict) if v.final]


def speak(hub: Desk, first: int, last: int) -> None:
    for sequence in range(first, last):
        hub.say(FRONT, fakes.segment(sequence))


# --- the law, without processes -------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [("S1-0",), ("S1-0", "S1-1"), ("S1-0", "S1-1", "S1-2")])
def test_one_node_and_replicas_give_the_same_verdicts(nodes: tuple[str, ...]) -> None:
    hub = Table(*nodes)
    hub.front()
    speak(hub, 0, 4)
    labels = hub.labels()
    speak(hub, 4, 8)
    hub.labels()
    speak(hub, 8, COUNT)
    assert hub.labels() == told()
    assert labels == told(4)


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("others", [(), ("S1-1",)])
def test_a_node_killed_in_between_changes_no_verdict(after: int, others: tuple[str, ...]) -> None:
    hub = Table("S1-0", *others)
    hub.front()
    speak(hub, 0, 4)
    for _ in range(after):
        hub.work()
    hub.kill("S1-0")
    hub.work()
    hub.start("S1-0")
    assert hub.labels() == told(4)


def test_a_hub_started_again_goes_on_with_what_the_front_has_kept() -> None:
    hub = Table("S1-0")
    hub.front()
    speak(hub, 0, 4)
    assert hub.labels() == told(4)
    kept = hub.to(FRONT, Credit)[-1]
    assert kept.acknowledged == 4
    hub.broker = Broker(fakes.config(**VOTERS), "hub-2")
    hub.sink(Subscribe(sink="recorder", confirm=True, run=fakes.RUN))
    hub.notices.clear()
    hub.start("S1-0")
    hub.say(FRONT, fakes.hello(fakes.info(), first=4))
    assert hub.to(FRONT, Welcome)[-1].streams[0].next_sequence == 4
    for service, state in kept.states.items():
        hub.say(FRONT, Known(stream="call", service=service, state=state))
    speak(hub, 4, 8)
    assert hub.labels() == told(8)[4:]


def test_a_segment_waits_for_the_one_before_and_no_longer_than_for_its_verdict() -> None:
    hub = Table("S1-0", "S1-1")
    hub.front(live=True)
    speak(hub, 0, 2)
    hub.collect()
    assert [len(tasks) for tasks in hub.nodes.values()] == [1, 0]
    hub.tick(2.0)  # the deadline of live segments
    hub.say(b"S1-0", fakes.ready("S1", "S1-0", stateful=True))
    hub.collect()
    assert [v.sequence for v in hub.events(Verdict)] == [0, 1]
    assert {v.missing[0].reason for v in hub.events(Verdict)} == {
        "late: its node was still at work",
        "late: was waiting for the segment before",
    }
    assert {task.sequence for tasks in hub.nodes.values() for task in tasks} == {0, 1}


@pytest.mark.parametrize("how", ["gap", "shed", "abstained", "failed", "end"])
def test_nothing_waits_for_a_segment_that_comes_to_nothing(how: str) -> None:
    hub = Table("S1-0")
    hub.front(live=True)
    speak(hub, 0, 1)
    hub.work()
    if how == "gap":
        hub.say(FRONT, fakes.gap(1))
    elif how == "shed":
        hub.kill("S1-0")
        speak(hub, 1, 6)  # three of them may wait
        hub.start("S1-0")
        hub.collect()
        (task,) = hub.nodes["S1-0"]
        assert (task.sequence, task.states["S1"]) == (3, chained(b"", 0)[1])
        return
    elif how == "end":
        hub.say(FRONT, End(stream="call", sequence=1, position=2 * fakes.SECOND))
        hub.seen()
        assert hub.stream().states == {}
        return
    else:
        speak(hub, 1, 2)
        for _ in range(1 if how == "abstained" else 2):
            hub.collect()
            (task,) = hub.nodes["S1-0"]
            hub.nodes["S1-0"].clear()
            hub.say(b"S1-0", fakes.failed(task, "S1", retry=how == "failed"))
    speak(hub, 2, 3)
    hub.collect()
    (task,) = hub.nodes["S1-0"]
    assert (task.sequence, task.states["S1"]) == (2, chained(b"", 0)[1])


def test_a_part_is_given_the_state_and_what_comes_back_with_it_is_dropped() -> None:
    hub = Table("S1-0")
    hub.front(live=True)
    speak(hub, 0, 1)
    hub.work()
    for part in (1, 2):
        hub.say(FRONT, fakes.partial(1, part=part))
        hub.collect()
        assert hub.nodes["S1-0"][0].states == {"S1": chained(b"", 0)[1]}
        hub.work()
    speak(hub, 1, 2)
    assert hub.labels() == told(2)


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({"stateful": True}, b"x" * 70_000, "S1 gave a state of 70000 bytes, over 65536"),
        ({}, b"x", "S1 gave a state, which it did not announce"),
    ],
)
def test_a_state_that_is_too_large_or_not_announced_does_not_count(
    changes: dict[str, bool], state: bytes, reason: str
) -> None:
    hub = Desk(**VOTERS)
    hub.say(b"S1-0", fakes.ready("S1", **changes))
    hub.front()
    speak(hub, 0, 1)
    hub.say(b"S1-0", replace(fakes.vote(0, "S1"), state=state))
    assert hub.verdict().missing[0].reason == reason


@pytest.mark.parametrize(
    "known",
    [
        Known(stream="call", service="S9", state=b"x"),
        Known(stream="call", service="S1", state=b"x" * 70_000),
    ],
)
def test_a_front_cannot_hand_back_what_no_service_gave(known: Known) -> None:
    hub = Table("S1-0")
    hub.front()
    hub.say(FRONT, known)
    assert hub.stream().states == {}
    assert hub.status().refused == {"a state of an unknown service, or too large": 1}


def test_states_before_the_last_that_is_written_are_forgotten() -> None:
    hub = Table("S1-0")
    hub.front()
    speak(hub, 0, 4)
    hub.labels()
    assert list(hub.stream().states["S1"]) == [3]


def test_a_late_task_of_an_open_segment_still_gets_the_state_before_it() -> None:
    stream = Stream(fakes.info(), FRONT, next_sequence=3, acknowledged=0)
    stream.keep_state(0, "ST1", b"0")
    stream.keep_state(2, "ST1", b"02")
    stream.acknowledged = 3
    stream.delete_states_before(first_open=1)
    assert stream.states_before(1, ["ST1"]) == {"ST1": b"0"}
    stream.delete_states_before(first_open=3)
    assert stream.states_before(3, ["ST1"]) == {"ST1": b"02"}
    assert list(stream.states["ST1"]) == [2]


# --- several answers to one task ------------------------------------------------------------------


def ears(*stateful: str, needs: tuple[str, ...] = ("asr", "S1", "T2", "ST1")) -> Ready:
    ready = fakes.ready(" ".join(needs), "ears-0", credits=4)
    gives = tuple(replace(s, stateful=s.name in stateful) for s in ready.gives)
    return replace(ready, gives=gives)


def asked(hub: Desk, peer: bytes = b"ears-0") -> list[tuple[int, tuple[str, ...], str | None]]:
    return [(t.sequence, t.services, t.transcript) for t in hub.to(peer, Task)]


def test_a_node_that_gives_all_is_asked_once_and_handed_no_transcript() -> None:
    hub = Desk()
    hub.say(b"ears-0", ears())
    hub.front()
    speak(hub, 0, 1)
    assert asked(hub) == [(0, ("asr", "S1", "T2", "ST1"), None)]
    assert [(n.service, n.held) for n in hub.status().nodes] == [
        ("asr", 1),
        ("S1", 1),
        ("T2", 1),
        ("ST1", 1),
    ]
    for service in ("asr", "S1", "T2", "ST1"):
        hub.say(b"ears-0", fakes.answer(fakes.task(0), service))
    assert len(asked(hub)) == 1
    assert [(n.held, n.done) for n in hub.status().nodes] == [(0, 1)] * 4
    assert len(hub.verdict().votes) == 3


def test_what_is_beside_a_stateful_service_waits_with_it_and_comes_along() -> None:
    hub = Desk()
    hub.say(b"ears-0", ears("S1"))
    hub.front()
    speak(hub, 0, 2)
    assert asked(hub) == [(0, ("asr", "S1", "T2", "ST1"), None)]
    hub.say(b"ears-0", fakes.answer(fakes.task(0), "asr"))
    assert len(asked(hub)) == 1
    hub.say(b"ears-0", replace(fakes.vote(0, "S1"), state=b"voice"))
    assert asked(hub)[1:] == [(1, ("asr", "S1", "T2", "ST1"), None)]
    assert hub.to(b"ears-0", Task)[-1].states == {"S1": b"voice"}


def test_a_guest_is_asked_apart_once_the_transcript_has_come_from_elsewhere() -> None:
    hub = Desk().up("asr", "T2")
    hub.say(b"ears-0", ears(needs=("S1", "ST1")))
    hub.front()
    speak(hub, 0, 1)
    assert asked(hub) == [(0, ("S1",), None)]
    hub.answer(0, "asr")
    assert asked(hub) == [(0, ("S1",), None), (0, ("ST1",), "words of 0")]


def test_if_the_transcript_of_a_task_fails_its_voters_wait_for_the_next_try() -> None:
    hub = Desk()
    hub.say(b"ears-0", ears())
    hub.front()
    speak(hub, 0, 1)
    for service in ("asr", "T2", "ST1"):
        hub.say(b"ears-0", fakes.failed(fakes.task(0), service, retry=True))
    assert asked(hub)[1:] == [(0, ("asr",), None)], "the voters had not failed yet"
    hub.say(b"ears-0", fakes.answer(fakes.task(0), "asr"))
    assert asked(hub)[2:] == [(0, ("T2", "ST1"), "words of 0")]
    for service in ("S1", "T2", "ST1"):
        hub.say(b"ears-0", fakes.answer(fakes.task(0), service))
    assert hub.verdict().missing == ()


def test_a_replica_that_still_has_other_things_to_say_is_not_cancelled() -> None:
    hub = Desk()
    hub.say(b"ears-0", ears())
    hub.front()
    speak(hub, 0, 1)
    hub.up("S1")
    hub.say(b"ears-0", fakes.failed(fakes.task(0), "S1", retry=True))
    hub.say(b"S1-0", fakes.vote(0, "S1"))
    assert hub.to(b"ears-0", Cancel) == []


def test_a_part_asks_for_all_that_a_node_gives_in_one_go() -> None:
    hub = Desk()
    ready = ears()
    tried = tuple(replace(service, trial_ms=20.0) for service in ready.gives)
    hub.say(b"ears-0", replace(ready, gives=tried))
    hub.front(live=True)
    hub.say(FRONT, fakes.partial(0))
    assert asked(hub) == [(0, ("asr", "S1", "T2", "ST1"), None)]
    for service in ("asr", "S1", "T2", "ST1"):
        assert hub.passing() == []
        hub.say(b"ears-0", fakes.answer(fakes.task(0, part=1), service))
    (verdict,) = hub.passing()
    assert len(verdict.votes) == 3
    hub.say(FRONT, fakes.partial(0, part=2))
    assert len(asked(hub)) == 2, "it is idle again"


# --- the law, with real processes -----------------------------------------------------------------

CHAIN = '''
"""A voter whose label depends on every segment before, hooked into each process of ours."""
import hashlib
import time
from abhinaya.models import registry
from abhinaya.models.base import Ballot, Card
from abhinaya.models.labels import LABELS

registry.MODELS["chain"] = ("sitecustomize", "Chain")


class Chain:
    card = Card(model="chain", version="1", needs=frozenset({"audio"}), labels=LABELS,
                licence="MIT", stateful=True, served=True)

    def __init__(self, salt=""):
        self.salt = salt.encode()

    def vote(self, batch):
        time.sleep(0.02)
        digests = [
            hashlib.sha256(self.salt + u.state + u.samples.tobytes()).digest() for u in batch
        ]
        return [Ballot(LABELS[d[0] % 8], state=d) for d in digests]
'''


class Collector:
    """A sink that keeps what it is told, and calls `strike` after the third verdict."""

    def __init__(self, strike: Callable[[], None]) -> None:
        self.votes: list[tuple[str, int, tuple[tuple[str, str], ...]]] = []
        self.strike = strike

    def write(self, event: Event, now_unix_s: float) -> None:
        if isinstance(event, Verdict):
            votes = tuple((vote.voter, vote.label) for vote in event.votes)
            self.votes.append((event.stream, event.sequence, votes))
            if len(self.votes) == 3:
                self.strike()

    def close(self) -> None:
        pass


class Silent:
    """An observer that wants to know nothing."""

    def loading(self, stages: dict[str, Stage]) -> None:
        pass

    def trouble(self, message: str) -> None:
        pass


def run_call(profile: Path, replicas: int, victim: str = "") -> list[object]:
    config = profile_files.load(
        str(profile),
        {
            "voters.S1.replicas": replicas,
            "voters.ST1.replicas": replicas,
            "supervise.backoff_s": 0.1,
            "flow.file_window": 3,
        },
    )

    def strike() -> None:
        pid = run.supervisor.pid(victim) if victim else None
        if pid:
            os.kill(pid, signal.SIGKILL)

    sink = Collector(strike)
    inputs = (Input("call", InputConfig(str(CALL), channels="split")),)
    with run_directory() as directory:
        run = Run(Plan(config=config, inputs=inputs), directory, [sink], Silent())
        assert run.run() == 0
    return sorted(sink.votes)


@pytest.mark.processes
def test_one_node_two_replicas_and_killed_processes_give_the_same_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CHAIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    profile = tmp_path / "chained.toml"
    profile.write_text(
        textwrap.dedent(
            """
            [voters.S1]
            model = "chain"
            options = { salt = "1" }
            [voters.ST1]
            model = "chain"
            host = "S1"
            options = { salt = "2" }
            """
        )
    )
    alone = run_call(profile, 1)
    assert len(alone) >= 8
    assert all(len(votes) == 2 for _, _, votes in alone)
    assert run_call(profile, 2) == alone
    assert run_call(profile, 1, victim="S1-0") == alone
    assert run_call(profile, 1, victim="hub") == alone
