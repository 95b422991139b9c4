"""Who gets which task next, with a clock that stands still until it is moved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import fakes
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from abhinaya.stream.hub import admission as load
from abhinaya.stream.hub.dispatch import Dispatch
from abhinaya.stream.hub.nodes import Absent, Action, Assign, Limits
from abhinaya.stream.hub.segments import Record, Segments, Stream
from abhinaya.stream.wire.messages import NodeDown, Service

NEEDS: dict[str, tuple[Any, ...]] = {"T": ("transcript",), "J": ("audio", "transcript")}
Done = tuple[Any, ...]
"""(node, sequence, services) of what is given, (what, ...) of all else."""


def gives(name: str, stateful: bool = False) -> Service:
    kind = "transcript" if name == "asr" else "vote"
    needs = NEEDS.get(name, ("audio",))
    made = fakes.service("S1", needs=needs, kind=kind, stateful=stateful)
    return replace(made, name=name)


def told(action: Action) -> Done:
    if isinstance(action, Assign):
        return (action.node.name, action.record.key[1], action.services)
    if isinstance(action, Absent):
        return ("absent", action.record.key[1], action.service, action.reason)
    if isinstance(action, NodeDown):
        return ("down", action.node, action.reason)
    return ("cancel", action.node, action.key[1])


class Bench:
    """A dispatch, the segments that it works on, and what it asks for."""

    def __init__(self, *services: str, **limits: Any) -> None:
        self.segments = Segments()
        values = {"silent_s": 3.0, "task_s": 10.0, "attempts": 2} | limits
        self.dispatch = Dispatch(services or ("S",), (), self.segments, Limits(**values))
        self.stream = Stream(fakes.info("call"), b"front", 0, 0)

    def done(self) -> list[Done]:
        return [told(action) for action in self.dispatch.actions()]

    def up(self, node: str, *services: str | Service, credits: int = 1) -> list[Done]:
        names = services or (node.partition("-")[0],)
        given = tuple(gives(s) if isinstance(s, str) else s for s in names)
        ready = replace(fakes.ready("S1", node, credits=credits), gives=given)
        self.dispatch.ready(0.0, ready)
        return self.done()

    def loads(self) -> list[Done]:
        return [
            (n.node, n.service, n.held, n.done)
            for node in self.dispatch.nodes.values()
            for n in node.loads(0.0)
        ]

    def record(self, sequence: int) -> Record:
        record = self.segments.get(fakes.key(sequence))
        assert record is not None
        return record

    def submit(self, sequence: int, due: float = 1.0) -> list[Done]:
        record = self.segments.open(self.stream, fakes.segment(sequence), 0.0, due)
        self.dispatch.submit(record)
        return self.done()

    def partial(self, sequence: int, part: int = 1, *services: str) -> list[Done]:
        record = self.segments.open(self.stream, fakes.partial(sequence, part), 0.0, 1.0)
        self.dispatch.submit(record, services or ("S",))
        self.dispatch.assign_partials()
        return self.done()

    def answer(self, node: str, sequence: int, service: str = "S", part: int = 0) -> list[Done]:
        """What follows; a first entry says whether the answer did not count."""
        counts = self.dispatch.answered(node, fakes.key(sequence), part, service)
        return ([] if counts else [("double",)]) + self.done()

    def fail(self, node: str, sequence: int, retry: bool, service: str = "S") -> list[Done]:
        self.dispatch.failed(node, fakes.key(sequence), 0, service, "broke", retry)
        return self.done()

    def down(self, node: str) -> list[Done]:
        self.dispatch.node_down(node, "was killed")
        return self.done()

    def beat(self, now: float, node: str, age: float | None) -> list[Done]:
        """What follows, if what the hub does with the reason is done at once."""
        if reason := self.dispatch.beat(now, self.dispatch.nodes[node], age):
            self.dispatch.node_down(node, reason)
        return self.done()

    def close(self, sequence: int) -> list[Done]:
        record = self.record(sequence)
        self.dispatch.close(record)
        self.segments.drop(record)
        return self.done()


def given(node: str, sequence: int, *services: str) -> Done:
    return (node, sequence, services or (node.partition("-")[0],))


# --- credits and order ----------------------------------------------------------------------------


def test_a_node_gets_no_more_than_it_can_hold_the_earliest_due_first_and_then_in_order() -> None:
    bench = Bench()
    for sequence, due in enumerate((9.0, 5.0, 5.0, 7.0)):
        assert bench.submit(sequence, due) == []
    assert bench.up("S-0", credits=2) == [given("S-0", 1), given("S-0", 2)]
    assert load.queued(bench.segments).total() == 2
    assert bench.answer("S-0", 2) == [given("S-0", 3)]
    assert bench.up("S-1") == [given("S-1", 0)]
    assert bench.loads() == [("S-0", "S", 2, 1), ("S-1", "S", 1, 0)]


def test_replicas_share_the_work_evenly_and_every_service_gets_every_segment() -> None:
    bench = Bench("S", "S2")
    for name in ("S-0", "S-1"):
        bench.up(name, credits=4)
    bench.up("S2-0", credits=4)
    tasks = [task for sequence in range(4) for task in bench.submit(sequence)]
    assert Counter(node for node, *_ in tasks) == {"S-0": 2, "S-1": 2, "S2-0": 4}


# --- what depends on what -------------------------------------------------------------------------


def test_a_service_that_needs_a_transcript_waits_for_it() -> None:
    bench = Bench("asr", "T")
    bench.up("T-0")
    assert bench.submit(0) == []
    assert bench.dispatch.explain(bench.record(0), "T") == "late: was waiting for the transcript"
    assert bench.up("asr-0") == [given("asr-0", 0)]
    assert bench.answer("asr-0", 0, "asr") == [given("T-0", 0)]


def test_without_a_transcript_text_voters_are_absent_and_say_why() -> None:
    bench = Bench("S", "T")
    bench.up("T-0")
    assert bench.submit(0) == [("absent", 0, "T", "no transcript: nobody transcribes")]
    bench = Bench("asr", "T")
    bench.up("asr-0")
    bench.up("T-0")
    bench.submit(0)
    assert bench.fail("asr-0", 0, retry=False, service="asr") == [
        ("absent", 0, "asr", "broke"),
        ("absent", 0, "T", "no transcript: broke"),
    ]
    assert bench.dispatch.explain(bench.record(0), "T") == "no transcript: broke"


# --- what goes wrong ------------------------------------------------------------------------------


def test_the_work_of_a_node_that_dies_goes_to_another_or_waits_for_the_restart() -> None:
    bench = Bench()
    bench.up("S-0")
    bench.submit(0)
    assert bench.up("S-0") == [given("S-0", 0)], "it came back unnoticed"
    bench = Bench()
    bench.up("S-0")
    bench.submit(0)
    assert bench.down("S-0") == [("down", "S-0", "was killed")]
    assert bench.up("S-1") == [given("S-1", 0)]
    bench = Bench()
    bench.up("S-0")
    bench.submit(0)
    bench.up("S-1")
    assert bench.down("S-0") == [("down", "S-0", "was killed"), given("S-1", 0)]


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_after_its_last_attempt_a_voter_is_absent_and_names_the_node(attempts: int) -> None:
    bench = Bench(attempts=attempts)
    bench.submit(0)
    for _ in range(attempts):
        assert bench.up("S-0") == [given("S-0", 0)]
        after = bench.down("S-0")
    assert ("absent", 0, "S", "S-0 was killed") in after
    assert bench.up("S-0") == []


def test_a_failure_that_may_pass_is_tried_again_and_an_abstention_is_not() -> None:
    bench = Bench()
    bench.up("S-0")
    bench.submit(0)
    assert bench.fail("S-0", 0, retry=True) == [given("S-0", 0)]
    assert bench.fail("S-0", 0, retry=True) == [("absent", 0, "S", "broke")]
    bench.submit(1)
    assert bench.fail("S-0", 1, retry=False) == [("absent", 1, "S", "broke")]


def test_a_node_is_silent_past_its_limit_and_stuck_if_it_works_too_long() -> None:
    bench = Bench()
    bench.up("S-0")
    assert bench.beat(2.0, "S-0", 10.0) == []
    bench.dispatch.tick(5.0)
    assert bench.done() == []
    bench.dispatch.tick(5.1)
    assert bench.done() == [("down", "S-0", "has been silent for 3.1 s")]
    bench.up("S-0")
    stuck = "has been stuck for 10.5 s in one batch"
    assert bench.beat(1.0, "S-0", 10.5) == [("down", "S-0", stuck)]


def test_a_node_that_says_it_is_idle_and_never_answers_goes_like_a_stuck_one() -> None:
    bench = Bench(supervised=True)
    bench.up("S-0", credits=3)
    bench.submit(0)
    assert bench.beat(0.0, "S-0", None) == bench.beat(9.0, "S-0", None) == []
    assert bench.answer("S-0", 0) == []
    bench.submit(1)
    assert bench.beat(9.5, "S-0", None) == bench.beat(12.0, "S-0", None) == []
    bench.dispatch.alive.paused(5.0)  # the hub itself did not run
    assert bench.beat(24.5, "S-0", None) == bench.beat(24.6, "S-0", 1.0) == []
    assert bench.beat(24.7, "S-0", None) == bench.beat(32.0, "S-0", None) == []
    bench.up("S-1")
    why = "holds a task, and has worked on nothing for 10.1 s"
    assert bench.beat(32.3, "S-0", None) == [("down", "S-0", why), given("S-1", 1)]


def test_a_node_that_waited_while_it_worked_or_was_silent_is_not_idle() -> None:
    bench = Bench(supervised=True)
    bench.up("S-0", credits=3)
    bench.submit(0)
    bench.submit(1)
    assert bench.beat(0.0, "S-0", None) == [], "both are on their way"
    for second in range(1, 12):
        assert bench.beat(second, "S-0", float(second)) == [], "a slow first batch, without 1"
    assert bench.answer("S-0", 0) == []
    assert bench.beat(12.0, "S-0", None) == bench.beat(13.0, "S-0", None) == [], "1 may wait so"
    bench.dispatch.tick(30.0)  # it starved
    assert bench.beat(30.0, "S-0", None) == [], "its first message, before it has read any"
    assert bench.beat(31.0, "S-0", 0.5) == bench.answer("S-0", 1) == []


def test_tasks_behind_the_oldest_one_may_still_be_on_their_way() -> None:
    bench = Bench(supervised=True)
    bench.up("S-0", credits=3)
    for sequence in range(3):
        bench.submit(sequence)
    for sequence in range(3):  # a slow network: each takes 8 s
        for second in range(0, 8, 2):
            assert bench.beat(8.0 * sequence + second, "S-0", None) == []
        assert bench.answer("S-0", sequence) == []


def test_answers_that_come_twice_late_or_from_a_node_that_was_given_up() -> None:
    bench = Bench()
    bench.up("S-0")
    for sequence in range(3):
        bench.submit(sequence)
    assert bench.answer("S-0", 0) == [given("S-0", 1)]
    assert bench.answer("S-0", 0) == [("double",)]
    assert bench.close(1) == [("cancel", "S-0", 1)]
    assert bench.answer("S-0", 1) == [("double",), given("S-0", 2)], "late, but the node is free"
    bench.up("S-1")
    bench.down("S-0")
    assert bench.answer("S-0", 2) == [("cancel", "S-1", 2)], "it counts, and stops the other"
    assert bench.answer("S-1", 2) == [("double",)]
    assert bench.submit(3) == [given("S-1", 3)]
    bench.down("S-1")
    assert load.queued(bench.segments).total() == 1
    assert bench.answer("S-9", 3) == [("double",)], "it was never asked"
    assert bench.answer("S-1", 3) == []
    assert load.queued(bench.segments).total() == 0
    assert bench.up("S-2") == [], "nothing is left to do"


def test_a_failure_of_what_another_node_has_by_now_changes_nothing() -> None:
    bench = Bench()
    bench.up("S-0")
    bench.submit(0)
    bench.up("S-1")
    bench.down("S-0")
    bench.up("S-0")
    assert bench.fail("S-0", 0, retry=True) == []
    assert bench.answer("S-1", 0) == []


def test_an_abandoned_service_is_absent_now_and_later_until_it_comes_back() -> None:
    bench = Bench("asr", "S", "T")
    bench.up("T-0")
    bench.submit(0)
    bench.dispatch.abandon("asr", "died too often")
    after = [
        ("absent", 0, "asr", "died too often"),
        ("absent", 0, "T", "no transcript: died too often"),
    ]
    assert bench.done() == after
    assert bench.submit(1) == [(what, 1, *rest) for what, _, *rest in after]
    bench.up("asr-0")
    assert bench.submit(2) == [given("asr-0", 2)]


def test_explain_says_what_each_late_voter_is_waiting_for() -> None:
    bench = Bench("asr", "T")
    bench.up("asr-0")
    bench.up("T-0")
    for sequence in range(2):
        bench.submit(sequence, float(sequence))
    explain = bench.dispatch.explain
    assert explain(bench.record(0), "asr") == "late: its node was still at work"
    assert explain(bench.record(1), "asr") == "late: every node was busy"
    bench.down("T-0")
    assert explain(bench.record(0), "T") == "late: no node is ready"


# --- partials -------------------------------------------------------------------------------------


def test_a_partial_is_for_a_node_that_holds_nothing_and_counts_nowhere() -> None:
    bench = Bench()
    bench.up("S-0", credits=2)
    assert bench.partial(1) == [given("S-0", 1)]
    assert load.queued(bench.segments).total() == 0
    assert bench.loads() == [("S-0", "S", 0, 0)]
    bench.up("S-1", credits=2)
    assert [bench.submit(n)[0][0] for n in (5, 6, 7, 8)] == ["S-1", "S-0", "S-1", "S-0"]
    assert bench.partial(9) == []


def test_partials_and_their_segment_go_to_the_same_node_if_it_is_as_free_as_others() -> None:
    bench = Bench()
    for number in range(3):
        bench.up(f"S-{number}", credits=2)
    assert bench.partial(5) == [given("S-0", 5)]
    assert bench.partial(6) == [given("S-1", 6)]
    bench.answer("S-0", 5, part=1)
    bench.answer("S-1", 6, part=1)
    assert bench.partial(6, 2) == [given("S-1", 6)]
    bench.answer("S-1", 6, part=2)
    assert bench.submit(6) == [given("S-1", 6)]
    assert bench.partial(7) == [given("S-0", 7)]
    assert bench.submit(7) == [("cancel", "S-0", 7), given("S-2", 7)], "it is at work"
    assert bench.close(5) == [("cancel", "S-0", 5)], "it may forget the partials"
    assert bench.close(7) == [("cancel", "S-2", 7)]


def test_nobody_tries_a_partial_again_or_answers_what_it_was_not_asked() -> None:
    bench = Bench()
    bench.up("S-0")
    bench.up("S-1")
    assert bench.partial(1) == [given("S-0", 1)]
    assert bench.answer("S-1", 1, part=1) == [("double",)]
    assert bench.down("S-0") == [
        ("absent", 1, "S", "S-0 was killed"),
        ("down", "S-0", "was killed"),
    ]


# --- any order of events --------------------------------------------------------------------------

DECLARED = {
    "asr": gives("asr"),
    "S": gives("S", stateful=True),
    "T": gives("T"),
    "J": gives("J", stateful=True),
}
KINDS = {name: (name,) for name in DECLARED} | {"ears": tuple(DECLARED), "pair": ("S", "J")}
"""What the nodes of a name give."""
NODES = [f"{kind}-{i}" for kind in KINDS for i in (0, 1)]
nodes = st.sampled_from(NODES)
places = st.integers(0, 5)


def given_by(node: str) -> tuple[str, ...]:
    return KINDS[node.partition("-")[0]]


class AnyOrder(RuleBasedStateMachine):
    """Keeps its own books of what each node was given, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.bench = Bench(*DECLARED)
        self.dispatch = self.bench.dispatch
        self.credits: dict[str, int] = {}
        self.held: dict[str, dict[int, set[str]]] = {}
        self.asked: set[tuple[str, int]] = set()
        """Node and segment, ever."""
        self.tries: Counter[tuple[int, str]] = Counter()
        self.outcome: dict[tuple[int, str], str] = {}
        self.open: list[int] = []
        self.count = 0
        self.processes = 0
        self.incarnations: dict[str, int] = {}

    def take(self) -> None:
        for done in self.bench.done():
            if done[0] == "down":
                del self.held[done[1]], self.credits[done[1]]
            elif done[0] == "absent":
                self.outcome[done[1], done[2]] = "absent"
            elif done[0] != "cancel":
                for service in done[2]:
                    self.assigned(*done, service)

    def assigned(self, node: str, sequence: int, along: tuple[str, ...], service: str) -> None:
        assert service in given_by(node)
        assert (sequence, service) not in self.outcome
        assert not [h for h in self.held.values() if service in h.get(sequence, ())], "twice"
        if "transcript" in DECLARED[service].needs:
            assert "asr" in along or self.outcome[sequence, "asr"] == "answered"
        if DECLARED[service].stateful:
            for before in (b for b in self.open if b < sequence):
                decided = self.bench.record(before).verdict is not None
                assert decided or (before, service) in self.outcome, "the state is not there yet"
        self.tries[sequence, service] += 1
        self.held[node].setdefault(sequence, set()).add(service)
        self.asked.add((node, sequence))

    @rule(node=nodes, credits=st.integers(1, 3))
    def starts(self, node: str, credits: int) -> None:
        self.processes += 1
        self.introduce(node, self.processes, credits)

    @rule(node=nodes)
    def reconnects(self, node: str) -> None:
        """The same process on a new connection: its tasks were lost, and no try is counted."""
        if node in self.held:
            lost = [(k, s) for k, held in self.held[node].items() for s in held]
            self.tries.subtract([task for task in lost if task not in self.outcome])
            self.introduce(node, self.incarnations[node], self.credits[node])

    def introduce(self, node: str, incarnation: int, credits: int) -> None:
        self.held[node], self.credits[node] = {}, credits
        self.incarnations[node] = incarnation
        services = tuple(DECLARED[name] for name in given_by(node))
        ready = fakes.ready("S1", node, str(incarnation), credits=credits)
        self.dispatch.ready(self.now, replace(ready, gives=services))
        self.take()

    @rule(node=nodes)
    def dies(self, node: str) -> None:
        self.dispatch.node_down(node, "was killed")
        self.take()
        assert node not in self.held

    @rule(node=nodes, age=st.sampled_from([None, 1.0, 11.0]))
    def beats(self, node: str, age: float | None) -> None:
        alive = self.dispatch.nodes.get(node)
        if alive and (reason := self.dispatch.beat(self.now, alive, age)):
            self.dispatch.node_down(node, reason)
        self.take()

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.dispatch.tick(self.now)
        self.take()

    @rule(patience=st.sampled_from([1.0, 5.0]))
    def arrives(self, patience: float) -> None:
        segment = fakes.segment(self.count)
        self.open.append(self.count)
        self.count += 1
        record = self.bench.segments.open(self.bench.stream, segment, self.now, self.now + patience)
        self.dispatch.submit(record)
        self.take()

    def pick(self, node: str, place: int) -> tuple[int, str] | None:
        """One of what a node has not answered; its books say that it has, then."""
        tasks = [(k, s) for k, held in self.held.get(node, {}).items() for s in sorted(held)]
        if not tasks:
            return None
        self.drop(node, *tasks[place % len(tasks)])
        return tasks[place % len(tasks)]

    def drop(self, node: str, sequence: int, service: str) -> None:
        held = self.held.get(node, {})
        held.get(sequence, set()).discard(service)
        if sequence in held and not held[sequence]:
            del held[sequence]

    @rule(node=nodes, place=places)
    def answers(self, node: str, place: int) -> None:
        if picked := self.pick(node, place):
            self.answer(node, *picked)

    def answer(self, node: str, sequence: int, service: str) -> None:
        counts = sequence in self.open and (node, sequence) in self.asked
        expected = counts and self.outcome.get((sequence, service)) != "answered"
        if expected:
            self.outcome[sequence, service] = "answered"
        assert self.dispatch.answered(node, fakes.key(sequence), 0, service) is expected
        self.take()

    @rule(node=nodes, sequence=st.integers(0, 9), place=st.integers(0, 3))
    def answers_out_of_the_blue(self, node: str, sequence: int, place: int) -> None:
        """Late, twice, by a node that was given up, or that was never asked for this segment."""
        service = given_by(node)[place % len(given_by(node))]
        if self.tries[sequence, service]:
            self.drop(node, sequence, service)
            self.answer(node, sequence, service)

    @rule(node=nodes, place=places, retry=st.booleans())
    def fails(self, node: str, place: int, retry: bool) -> None:
        if picked := self.pick(node, place):
            sequence, service = picked
            self.dispatch.failed(node, fakes.key(sequence), 0, service, "broke", retry)
            self.take()

    @rule(place=places)
    def is_decided(self, place: int) -> None:
        if self.open:
            record = self.bench.record(self.open[place % len(self.open)])
            record.verdict = fakes.verdict(0)
            self.dispatch.decided(record)
            self.take()

    @rule(place=places)
    def is_closed(self, place: int) -> None:
        if self.open:
            record = self.bench.record(self.open.pop(place % len(self.open)))
            self.dispatch.close(record)
            self.bench.segments.drop(record)
            self.take()

    @invariant()
    def nobody_is_above_its_credits_and_the_books_agree(self) -> None:
        assert all(len(held) <= self.credits[node] for node, held in self.held.items())
        assert {
            (n.node, n.service): n.held
            for node in self.dispatch.nodes.values()
            for n in node.loads(0.0)
        } == {
            (node, service): sum(service in services for services in held.values())
            for node, held in self.held.items()
            for service in given_by(node)
        }

    @invariant()
    def nothing_is_tried_more_often_than_allowed(self) -> None:
        assert all(count <= 2 for count in self.tries.values())

    @invariant()
    def no_node_is_idle_while_its_service_has_work(self) -> None:
        free = [n for n in self.held if len(self.held[n]) < self.credits[n]]
        for service in {service for node in free for service in given_by(node)}:
            for sequence in self.open:
                why = self.dispatch.explain(self.bench.record(sequence), service)
                assert why != "late: every node was busy"

    def teardown(self) -> None:
        """With every service at work and nothing going wrong, everything comes to an outcome."""
        for service in DECLARED:
            self.starts(f"{service}-0", 3)
        while any(self.held.values()):
            for node in list(self.held):
                while self.held[node]:
                    self.answers(node, 0)
        assert all((k, s) in self.outcome for k in self.open for s in DECLARED)
        assert load.queued(self.bench.segments).total() == 0


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    fakes.patient,
    max_examples=100,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
