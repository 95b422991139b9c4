"""Who may do what at a hub: every role with every message, and the runs and names of others."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

import fakes
import pytest

from abhinaya.stream.hub import rights
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.hub.publisher import Outgoing
from abhinaya.stream.hub.runs import MAX_OF_KEY
from abhinaya.stream.wire.keys import LOCAL, ROLES, Key
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
    Died,
    End,
    Event,
    Failed,
    FromSink,
    Gap,
    Hello,
    Introduce,
    Known,
    Message,
    NodeDown,
    NodeUp,
    Notice,
    Ready,
    Refused,
    Remark,
    Seen,
    Status,
    StreamEnded,
    StreamStarted,
    Subscribe,
    Task,
    ToHub,
    Verdict,
    Welcome,
)

E = TypeVar("E", bound=Event)
M = TypeVar("M", bound=Message)

KEYS = {role: Key(f"{role}-key", role, role) for role in ROLES}
INPUT, NODE, READER, OPERATOR = (KEYS[role] for role in ROLES)
OTHER = Key("other-input", "input", "other")

END = End(stream="call", sequence=0, position=0)
RECORD = Subscribe(sink="s", confirm=True, run="mine")
READ = Subscribe(sink="s", confirm=False, run="mine")
READ_ALL = Subscribe(sink="s", confirm=False)
DIED = Died(name="front-0", reason="was killed")
GIVEN_UP = Died(name="front-0", reason="was killed", services=("S1",))

TABLE: list[tuple[Message, str]] = [
    # message, roles that may send it about a run of their own (or about none)
    (fakes.hello(fakes.info("call")), "input operator"),
    (Known(stream="call", service="S1", state=b"x"), "input operator"),
    (fakes.segment(0), "input operator"),
    (Gap(stream="call", sequence=0, start=0, end=1, reason="x"), "input operator"),
    (END, "input operator"),
    (Remark(source="call", text="x"), "input operator"),
    (Activity(stream="call", position=0, speaking=True), "input operator"),
    (Beat(name="x"), "input node operator"),
    (fakes.ready("S1"), "node operator"),
    (fakes.answer(fakes.task(0), "asr"), "node operator"),
    (fakes.answer(fakes.task(0), "S1"), "node operator"),
    (Failed(stream="call", sequence=0, service="S1", reason="x", retry=False), "node operator"),
    (RECORD, "input operator"),
    (READ, "input reader operator"),
    (READ_ALL, "reader operator"),
    (Seen(hub="hub-1", number=1), "input operator"),
    (DIED, "input operator"),
    (GIVEN_UP, "operator"),
]


def run_of(message: Message) -> str:
    return "" if message == READ_ALL else "mine"


def test_the_table_has_every_message_that_a_hub_understands() -> None:
    assert {type(message) for message, _ in TABLE} == {*get_args(ToHub), *get_args(FromSink)}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("message", "roles"), TABLE, ids=lambda v: type(v).__name__)
def test_every_role_with_every_message(message: Message, roles: str, role: str) -> None:
    key, run = KEYS[role], run_of(message)
    for owner in (None, key):
        refusal = rights.refusal(key, message, run, owner)
        assert (not refusal) == (role in roles.split())
        assert not refusal or role in refusal


@pytest.mark.parametrize(("message", "_roles"), TABLE, ids=lambda v: type(v).__name__)
def test_what_names_a_run_is_refused_for_the_run_of_another_key(
    message: Message, _roles: str
) -> None:
    refusal = rights.refusal(INPUT, message, run_of(message), OTHER)
    names_a_run = isinstance(message, Hello | Subscribe | Died)
    assert ("only for its own run" in refusal) == names_a_run
    assert not rights.refusal(OPERATOR, message, run_of(message), OTHER)
    assert not rights.refusal(LOCAL, message, run_of(message), OTHER)


@pytest.mark.parametrize(("message", "_roles"), TABLE, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("role", ["", "admin", "Operator", "input "])
def test_a_key_without_a_role_may_send_nothing(message: Message, _roles: str, role: str) -> None:
    assert rights.refusal(Key("old", role, "p"), message, "mine", None) == "key 'old' has no role"


# --- through the broker ---------------------------------------------------------------------------


class Site:
    """A hub with keys, whose peers a test plays: each is known by (name, key)."""

    def __init__(self, **changes: Any) -> None:
        self.now = 100.0
        self.broker = Broker(fakes.config(**changes), "hub-1")
        self.got: list[tuple[bytes, Message]] = []
        self.keys = {key.public: key for key in (*KEYS.values(), OTHER)}

    def deliver(self, out: list[Outgoing]) -> None:
        self.got += [(item.peer, item.message) for item in out]

    def say(self, key: Key, peer: bytes, *messages: Message) -> None:
        for message in messages:
            sink = isinstance(message, Subscribe | Seen | Died)
            handle = self.broker.from_sink if sink else self.broker.from_worker
            self.deliver(handle(self.now, peer, message, key))

    def passes(self, seconds: float) -> None:
        for _ in range(round(10 * seconds)):
            self.now += 0.1
            self.deliver(self.broker.tick(self.now))

    def change_keys(self, *keys: Key) -> None:
        self.keys = {key.public: key for key in keys}
        self.deliver(self.broker.keys_changed(self.now, self.keys.get))

    def to(self, peer: bytes, kind: type[M]) -> list[M]:
        return [m for p, m in self.got if p == peer and isinstance(m, kind)]

    def events(self, peer: bytes, kind: type[E]) -> list[E]:
        return [n.event for n in self.to(peer, Notice) if isinstance(n.event, kind)]

    def refused(self, peer: bytes) -> Refused:
        (refused,) = self.to(peer, Refused)
        assert refused.rights
        return refused

    def begin(self, key: Key, run: str, live: bool = False) -> tuple[bytes, bytes]:
        """Begin a run with one stream; return its front and its recorder."""
        front, recorder = f"front of {run}".encode(), f"recorder of {run}".encode()
        self.say(key, recorder, Subscribe(sink="recorder", confirm=True, run=run))
        self.say(key, front, fakes.hello(fakes.info("call", live, run=run)))
        assert self.to(front, Welcome)
        return front, recorder


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (READER, RECORD),
        (NODE, READ_ALL),
        (INPUT, READ_ALL),
        (INPUT, fakes.ready("S1")),
        (NODE, fakes.hello(fakes.info("call"))),
        (READER, fakes.ready("S1")),
        (Key("old", "", "old"), RECORD),
    ],
)
def test_what_is_refused_has_no_effect_and_the_answer_names_the_remedy(
    key: Key, message: Message
) -> None:
    site = Site()
    site.say(OPERATOR, b"all", READ_ALL)
    site.say(key, b"peer", message)
    refused = site.refused(b"peer")
    assert f"abhinaya keys DIRECTORY {key.name} --role" in refused.remedy
    assert site.broker.refusals.counts() == {refused.reason: 1}
    site.passes(1.0)
    assert not site.to(b"peer", Notice)
    assert {type(e.event) for e in site.to(b"all", Notice)} == {Status}, "nobody heard of it"
    site.say(key, b"peer", END)
    assert not site.to(b"peer", Welcome)


def test_each_run_receives_its_own_streams_and_a_reader_those_of_all() -> None:
    site = Site()
    site.say(READER, b"reader", READ_ALL)
    _, mine = site.begin(INPUT, "mine")
    _, others = site.begin(OTHER, "others")
    assert [e.info.run for e in site.events(mine, StreamStarted)] == ["mine"]
    assert [e.info.run for e in site.events(others, StreamStarted)] == ["others"]
    assert [e.info.run for e in site.events(b"reader", StreamStarted)] == ["mine", "others"]


@pytest.mark.parametrize(
    "message",
    [
        Subscribe(sink="recorder", confirm=True, run="mine"),
        Subscribe(sink="recorder", confirm=False, run="mine"),
        fakes.hello(fakes.info("call", run="mine")),
        fakes.hello(fakes.info("another", run="mine"), front="front-9"),
    ],
)
def test_a_run_cannot_be_entered_with_another_key(message: Message) -> None:
    site = Site()
    front, recorder = site.begin(INPUT, "mine")
    site.say(OTHER, b"thief", message)
    assert "only for its own run" in site.refused(b"thief").reason
    site.say(INPUT, front, Gap(stream="call", sequence=0, start=0, end=1, reason="x"))
    site.passes(1.0)
    assert site.events(recorder, Gap)
    assert not site.to(b"thief", Notice)
    assert not site.to(front, Introduce)


def test_an_identity_is_bound_to_the_key_that_introduced_it() -> None:
    site = Site()
    front, recorder = site.begin(INPUT, "mine")
    site.say(OTHER, front, Gap(stream="call", sequence=0, start=0, end=1, reason="x"))
    assert "another key" in site.refused(front).reason
    assert not site.events(recorder, Gap)


def test_an_input_reports_deaths_of_its_own_fronts_only() -> None:
    site = Site()
    site.say(NODE, b"node", fakes.ready("S1", node="S1-0"))
    _, mine = site.begin(INPUT, "mine")
    _, others = site.begin(OTHER, "others")
    for died in (
        Died(name="S1-0", reason="it lies"),
        Died(name="front-0", reason="it lies", services=("S1",)),
    ):
        site.say(INPUT, mine, died)
    assert not site.events(mine, NodeDown)
    assert not site.to(mine, Refused), "a node that takes the name of a front must not end its run"
    assert sum(site.broker.refusals.counts().values()) == 1
    site.say(NODE, b"namesake", fakes.ready("S1", node="front-0"))
    site.say(INPUT, mine, Died(name="front-0", reason="was killed", final=True))
    site.passes(1.0)
    assert [e.reason for e in site.events(mine, StreamEnded)] == ["was killed"]
    assert not site.events(others, StreamEnded)
    assert not site.events(mine, NodeDown)
    site.say(OPERATOR, b"boss", Subscribe(sink="recorder", confirm=True, run="boss"))
    site.say(OPERATOR, b"boss", Died(name="S1-0", reason="was killed"))
    assert site.events(mine, NodeDown)


def test_who_only_reads_may_report_a_death_as_operator() -> None:
    """The controller of a cluster records no run."""
    site = Site()
    for key, downs in ((READER, 0), (OPERATOR, 1)):
        site.say(NODE, b"node", fakes.ready("S1", node="S1-0"))
        site.say(key, key.name.encode(), READ_ALL, Died(name="S1-0", reason="was killed"))
        assert len(site.events(OPERATOR.name.encode(), NodeDown)) == downs


def test_one_key_cannot_take_all_runs_of_a_hub() -> None:
    site = Site()
    for number in range(MAX_OF_KEY + 1):
        site.say(INPUT, f"s{number}".encode(), Subscribe(sink="s", confirm=True, run=f"r{number}"))
    (refused,) = site.to(f"s{MAX_OF_KEY}".encode(), Refused)
    assert f"has {MAX_OF_KEY} runs already" in refused.reason
    site.begin(OTHER, "others")


def test_a_process_cannot_leave_its_run_for_another() -> None:
    site = Site()
    front, recorder = site.begin(INPUT, "mine")
    site.say(INPUT, recorder, Subscribe(sink="recorder", confirm=True, run="second"))
    site.say(INPUT, front, fakes.hello(fakes.info("call", run="second")))
    for peer in (front, recorder):
        assert "another run" in site.to(peer, Refused)[0].reason
    assert [run.id for run in site.broker._runs] == ["mine"]


# --- names of nodes -------------------------------------------------------------------------------


@pytest.mark.parametrize("newcomer", [NODE, OPERATOR])
def test_the_name_of_a_node_is_not_taken_while_its_owner_lives(newcomer: Key) -> None:
    site = Site()
    site.say(READER, b"reader", READ_ALL)
    site.say(NODE, b"old", fakes.ready("S1", node="S1-0"))
    for _ in range(100):  # ten seconds, in which both beat
        site.say(NODE, b"old", Beat(name="S1-0"))
        site.say(newcomer, b"new", fakes.ready("S1", node="S1-0"))
        site.passes(0.1)
    assert not site.to(b"new", Refused), "it waits, and is not ended"
    assert len(site.events(b"reader", NodeUp)) == 1
    assert not site.events(b"reader", NodeDown)
    front, _ = site.begin(INPUT, "mine")
    site.say(INPUT, front, fakes.segment(0))
    assert site.to(b"old", Task)
    # the owner falls silent: the newcomer gets name and task
    for _ in range(60):
        site.say(newcomer, b"new", Beat(name="S1-0"))
        if site.to(b"new", Introduce):
            site.say(newcomer, b"new", fakes.ready("S1", node="S1-0"))
        site.passes(0.1)
    assert site.to(b"new", Task)
    assert not site.to(b"new", Refused)


def test_a_node_that_the_supervisor_reports_dead_is_replaced_at_once() -> None:
    site = Site()
    site.say(LOCAL, b"recorder", Subscribe(sink="recorder", confirm=True, run="mine"))
    site.say(LOCAL, b"old", fakes.ready("S1", node="S1-0"))
    site.say(LOCAL, b"recorder", Died(name="S1-0", reason="was killed"))
    site.say(LOCAL, b"new", fakes.ready("S1", node="S1-0"))
    assert len(site.events(b"recorder", NodeUp)) == 2


def test_a_faulty_node_under_the_name_of_another_does_not_announce_the_death_of_that() -> None:
    site = Site()
    site.say(READER, b"reader", READ_ALL)
    site.say(NODE, b"old", fakes.ready("S1", node="S1-0"))
    site.say(NODE, b"new", Ready(node="S1-0", incarnation="2", gives=(), credits=1))
    assert not site.events(b"reader", NodeDown)


def test_a_node_answers_only_what_it_was_asked() -> None:
    site = Site()
    front, recorder = site.begin(INPUT, "mine", live=True)
    site.say(NODE, b"asked", fakes.ready("S1", node="S1-0"))
    site.say(INPUT, front, fakes.segment(0))
    (task,) = site.to(b"asked", Task)
    site.say(NODE, b"other", fakes.ready("S1", node="S1-1"))
    lie = Failed(stream=task.stream, sequence=0, service="S1", reason="it lies", retry=False)
    site.say(NODE, b"other", fakes.answer(task, "S1", "angry"), lie)
    site.say(NODE, b"asked", fakes.answer(task, "S1", "happy"))
    site.passes(10.0)
    (verdict,) = site.events(recorder, Verdict)
    assert [vote.label for vote in verdict.votes] == ["happy"]


# --- revocation -----------------------------------------------------------------------------------


def without(key: Key) -> list[Key]:
    return [k for k in (*KEYS.values(), OTHER) if k != key]


@pytest.mark.parametrize("how", ["removed", "another role"])
def test_a_revoked_input_is_cut_off_and_the_others_are_not(how: str) -> None:
    site = Site()
    site.say(READER, b"reader", READ_ALL)
    front, recorder = site.begin(INPUT, "mine")
    others_front, others = site.begin(OTHER, "others")
    changed = [Key(INPUT.name, "node", INPUT.public)] if how == "another role" else []
    site.change_keys(*without(INPUT), *changed)
    for peer in (front, recorder):
        assert "removed" in site.refused(peer).reason
    (ended,) = site.events(b"reader", StreamEnded)
    assert "was revoked" in ended.reason
    site.got.clear()
    site.say(OTHER, others_front, Gap(stream="call", sequence=0, start=0, end=1, reason="x"))
    site.passes(1.0)
    assert site.events(others, Gap)
    assert site.events(others, Status)
    assert not site.to(recorder, Notice)
    if how == "another role":  # it is connected and knows a hub, but has lost its rights there
        site.say(changed[0], recorder, Subscribe(sink="recorder", confirm=True, run="mine"))
        assert "may not send Subscribe" in site.refused(recorder).reason


def test_the_tasks_of_a_revoked_node_go_to_another() -> None:
    site = Site()
    front, recorder = site.begin(INPUT, "mine")
    site.say(NODE, b"cut", fakes.ready("S1", node="S1-0"))
    site.say(INPUT, front, fakes.segment(0))
    assert site.to(b"cut", Task)
    site.say(OPERATOR, b"stays", fakes.ready("S1", node="S1-1"))
    site.change_keys(*without(NODE))
    assert site.to(b"stays", Task)
    assert site.refused(b"cut")
    assert [down.reason for down in site.events(recorder, NodeDown)] == [
        "key 'node-key' was revoked"
    ]


def test_a_reader_that_is_cut_off_receives_nothing_more() -> None:
    site = Site()
    site.say(READER, b"reader", READ_ALL)
    site.change_keys(*without(READER))
    site.got.clear()
    site.begin(INPUT, "mine")
    site.passes(1.0)
    assert not site.to(b"reader", Notice)


def test_peers_that_are_gone_are_forgotten() -> None:
    site = Site()
    for number in range(300):
        front, recorder = site.begin(INPUT, f"run{number}")
        site.say(INPUT, front, END)
        last = max(site.to(recorder, Notice), key=lambda notice: notice.number)
        site.say(INPUT, recorder, Seen(hub=last.hub, number=last.number))
        site.deliver(site.broker.unreachable(site.now, recorder))
        site.got.clear()
    site.passes(10.0)
    assert not site.broker._gate._keys
    assert not list(site.broker._runs)
