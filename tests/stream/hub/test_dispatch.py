"""Who gets which task next, with a clock that stands still until it is moved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import fakes
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from abhinaya.stream.hub.dispatch import Dispatch
from abhinaya.stream.hub.dispatch_state import Absent, Action, Assign, Key, Limits, Lost, Retract
from abhinaya.stream.wire.messages import Service

LIMITS = Limits(silent_s=3.0, task_s=10.0, attempts=2)
VOTE: dict[str, Any] = {"needs": ("audio",), "kind": "vote"}
TEXT: dict[str, Any] = {"needs": ("transcript",), "kind": "vote"}
ASR: dict[str, Any] = {"needs": ("audio",), "kind": "transcript"}


def gives(name: str, needs: tuple[Any, ...], kind: Any, stateful: bool = False) -> Service:
    return Service(
        name=name, kind=kind, needs=needs, stateful=stateful, model="m", version="1", licence="MIT"
    )


def ready(
    dispatch: Dispatch, now: float, node: str, *services: Service, credits: int = 1
) -> list[Action]:
    return dispatch.ready(now, node, services, credits)


def key(sequence: int) -> Key:
    return "call", sequence


def lend(dispatch: Dispatch, service: str, key: Key, part: int) -> str | None:
    node = dispatch.idle(service, key)
    if node is not None:
        dispatch.lend(node, key, part, (service,))
    return node


def one_service(**limits: Any) -> Dispatch:
    values = {"silent_s": 3.0, "task_s": 10.0, "attempts": 2} | limits
    return Dispatch(["S1"], Limits(**values))


def with_transcripts() -> Dispatch:
    """A transcriber `asr-0` and a text voter `T-0`, both ready and free."""
    dispatch = Dispatch(["asr", "T"], LIMITS)
    ready(dispatch, 0.0, "asr-0", gives("asr", **ASR))
    ready(dispatch, 0.0, "T-0", gives("T", **TEXT))
    return dispatch


# --- credits and order ----------------------------------------------------------------------------


def test_a_node_gets_no_more_than_it_can_hold() -> None:
    dispatch = one_service()
    for sequence in range(4):
        assert dispatch.submit(key(sequence), 1.0) == []
    actions = ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE), credits=2)
    assert actions == [Assign("S1-0", key(0), ("S1",)), Assign("S1-0", key(1), ("S1",))]
    assert dispatch.waiting == 2
    counts, actions = dispatch.answered("S1-0", key(0), "S1")
    assert counts
    assert actions == [Assign("S1-0", key(2), ("S1",))]


def test_the_earliest_due_goes_first_and_of_equals_the_first_to_come() -> None:
    dispatch = one_service()
    for sequence, due in enumerate((9.0, 5.0, 5.0, 7.0)):
        dispatch.submit(key(sequence), due)
    actions = ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE), credits=4)
    assert [a.key for a in actions if isinstance(a, Assign)] == [key(1), key(2), key(3), key(0)]


def test_replicas_share_the_work_evenly() -> None:
    dispatch = one_service()
    for name in ("S1-0", "S1-1"):
        ready(dispatch, 0.0, name, gives("S1", **VOTE), credits=4)
    actions = [dispatch.submit(key(sequence), 1.0) for sequence in range(4)]
    assert Counter(a.node for (a,) in actions if isinstance(a, Assign)) == {"S1-0": 2, "S1-1": 2}


def test_every_service_gets_every_segment() -> None:
    dispatch = Dispatch(["S1", "S2"], LIMITS)
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    ready(dispatch, 0.0, "S2-0", gives("S2", **VOTE))
    assert set(dispatch.submit(key(0), 1.0)) == {
        Assign("S1-0", key(0), ("S1",)),
        Assign("S2-0", key(0), ("S2",)),
    }


def test_a_replica_that_is_added_takes_what_waits() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    dispatch.submit(key(1), 1.0)
    assert ready(dispatch, 1.0, "S1-1", gives("S1", **VOTE)) == [Assign("S1-1", key(1), ("S1",))]


def test_loads_say_what_each_node_holds_and_has_done() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    dispatch.submit(key(1), 1.0)
    dispatch.answered("S1-0", key(0), "S1")
    assert list(dispatch.loads()) == [("S1-0", "S1", 1, 1)]


# --- what depends on what -------------------------------------------------------------------------


def test_who_needs_a_transcript_waits_for_it() -> None:
    dispatch = with_transcripts()
    assert dispatch.submit(key(0), 1.0) == [Assign("asr-0", key(0), ("asr",))]
    assert dispatch.answered("asr-0", key(0), "asr") == (True, [Assign("T-0", key(0), ("T",))])


def test_the_order_follows_from_what_is_declared_and_from_no_name() -> None:
    dispatch = Dispatch(["alpha", "beta"], LIMITS)
    dispatch.submit(key(0), 1.0)
    assert ready(dispatch, 0.0, "alpha-0", gives("alpha", **TEXT)) == []
    assert ready(dispatch, 0.0, "beta-0", gives("beta", **ASR)) == [
        Assign("beta-0", key(0), ("beta",))
    ]
    _, actions = dispatch.answered("beta-0", key(0), "beta")
    assert actions == [Assign("alpha-0", key(0), ("alpha",))]


def test_a_text_voter_waits_while_someone_undeclared_might_transcribe() -> None:
    dispatch = Dispatch(["asr", "T"], LIMITS)
    ready(dispatch, 0.0, "T-0", gives("T", **TEXT))
    assert dispatch.submit(key(0), 1.0) == []
    assert dispatch.explain(key(0), "T") == "late: was waiting for the transcript"


def test_if_nobody_transcribes_a_text_voter_is_absent_and_says_so() -> None:
    dispatch = Dispatch(["S1", "T"], LIMITS)
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    ready(dispatch, 0.0, "T-0", gives("T", **TEXT))
    actions = dispatch.submit(key(0), 1.0)
    assert Absent(key(0), "T", "no transcript: nobody transcribes") in actions
    assert Assign("S1-0", key(0), ("S1",)) in actions


def test_a_transcript_that_fails_leaves_the_text_voters_absent_with_its_reason() -> None:
    dispatch = with_transcripts()
    dispatch.submit(key(0), 1.0)
    actions = dispatch.failed("asr-0", key(0), "asr", "no words", retry=False)
    assert actions == [
        Absent(key(0), "asr", "no words"),
        Absent(key(0), "T", "no transcript: no words"),
    ]
    assert dispatch.explain(key(0), "T") == "no transcript: no words"


def test_a_second_transcriber_may_still_give_what_the_first_could_not() -> None:
    dispatch = Dispatch(["fast", "slow", "T"], LIMITS)
    for name in ("fast", "slow"):
        ready(dispatch, 0.0, f"{name}-0", gives(name, **ASR))
    ready(dispatch, 0.0, "T-0", gives("T", **TEXT))
    dispatch.submit(key(0), 1.0)
    assert dispatch.failed("fast-0", key(0), "fast", "no words", retry=False) == [
        Absent(key(0), "fast", "no words")
    ]
    assert dispatch.answered("slow-0", key(0), "slow") == (True, [Assign("T-0", key(0), ("T",))])


# --- what goes wrong ------------------------------------------------------------------------------


def test_the_work_of_a_node_that_dies_goes_to_another_at_once() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    ready(dispatch, 0.0, "S1-1", gives("S1", **VOTE))
    assert dispatch.gone(1.0, "S1-0", "was killed") == [
        Lost("S1-0", "was killed"),
        Assign("S1-1", key(0), ("S1",)),
    ]


def test_without_another_it_is_tried_again_after_the_restart() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert dispatch.gone(1.0, "S1-0", "was killed") == [Lost("S1-0", "was killed")]
    assert ready(dispatch, 2.0, "S1-0", gives("S1", **VOTE)) == [Assign("S1-0", key(0), ("S1",))]


def test_a_node_that_comes_back_unnoticed_has_lost_what_it_held() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert ready(dispatch, 1.0, "S1-0", gives("S1", **VOTE)) == [
        Lost("S1-0", "was started again"),
        Assign("S1-0", key(0), ("S1",)),
    ]


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_after_its_last_attempt_a_voter_is_absent_and_names_the_node(attempts: int) -> None:
    dispatch = one_service(attempts=attempts)
    dispatch.submit(key(0), 1.0)
    for attempt in range(attempts):
        assert ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE)) == [
            Assign("S1-0", key(0), ("S1",))
        ], attempt
        actions = dispatch.gone(1.0, "S1-0", "was killed")
    assert actions[1:] == [Absent(key(0), "S1", "S1-0 was killed")]
    assert ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE)) == []


def test_a_failure_that_may_pass_is_tried_again_and_then_absent() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert dispatch.failed("S1-0", key(0), "S1", "out of memory", retry=True) == [
        Assign("S1-0", key(0), ("S1",))
    ]
    assert dispatch.failed("S1-0", key(0), "S1", "out of memory", retry=True) == [
        Absent(key(0), "S1", "out of memory")
    ]


def test_an_abstention_is_not_tried_again() -> None:
    dispatch = one_service(attempts=9)
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert dispatch.failed("S1-0", key(0), "S1", "too short", retry=False) == [
        Absent(key(0), "S1", "too short")
    ]


def test_a_node_is_silent_only_past_its_limit() -> None:
    dispatch = one_service(silent_s=3.0)
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert dispatch.beat(2.0, "S1-0", None) == []
    assert dispatch.tick(5.0) == []
    assert dispatch.tick(5.1) == [Lost("S1-0", "has been silent for 3.1 s")]
    assert dispatch.tick(9.0) == []


def test_a_node_that_beats_but_works_for_too_long_is_given_up() -> None:
    dispatch = one_service(task_s=10.0)
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    ready(dispatch, 0.0, "S1-1", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert dispatch.beat(9.0, "S1-0", 10.0) == []
    assert dispatch.beat(9.5, "S1-0", 10.5) == [
        Lost("S1-0", "has been stuck for 10.5 s in one batch"),
        Assign("S1-1", key(0), ("S1",)),
    ]


def test_a_stranger_is_neither_heard_nor_lost() -> None:
    dispatch = one_service()
    assert dispatch.beat(0.0, "who", 99.0) == []
    assert dispatch.gone(0.0, "who", "is gone") == []
    assert dispatch.failed("who", key(0), "S1", "broke", retry=True) == []


# --- answers that come twice, late, or from elsewhere ---------------------------------------------


def test_a_second_answer_does_not_count() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert dispatch.answered("S1-0", key(0), "S1")[0]
    assert not dispatch.answered("S1-0", key(0), "S1")[0]


def test_an_answer_after_the_end_does_not_count_but_frees_the_node() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    dispatch.submit(key(1), 1.0)
    assert dispatch.close(key(0)) == [Retract("S1-0", key(0))]
    assert dispatch.answered("S1-0", key(0), "S1") == (False, [Assign("S1-0", key(1), ("S1",))])


def test_an_answer_from_a_node_that_was_given_up_counts_and_stops_the_other() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    ready(dispatch, 0.0, "S1-1", gives("S1", **VOTE))
    dispatch.gone(1.0, "S1-0", "has been silent")
    assert dispatch.answered("S1-0", key(0), "S1") == (True, [Retract("S1-1", key(0))])


def test_an_answer_while_the_retry_still_waits_takes_it_out_of_the_queue() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    dispatch.gone(1.0, "S1-0", "has been silent")
    assert dispatch.waiting == 1
    assert dispatch.answered("S1-0", key(0), "S1") == (True, [])
    assert dispatch.waiting == 0
    assert ready(dispatch, 2.0, "S1-1", gives("S1", **VOTE)) == []


def test_a_late_answer_of_an_absent_voter_counts() -> None:
    dispatch = one_service(attempts=1)
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    dispatch.gone(1.0, "S1-0", "has been silent")
    assert dispatch.answered("S1-0", key(0), "S1")[0]


def test_a_failure_of_what_another_node_has_by_now_changes_nothing() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    ready(dispatch, 0.0, "S1-1", gives("S1", **VOTE))
    dispatch.gone(1.0, "S1-0", "has been silent")
    ready(dispatch, 2.0, "S1-0", gives("S1", **VOTE))
    assert dispatch.failed("S1-0", key(0), "S1", "broke", retry=True) == []
    assert dispatch.answered("S1-1", key(0), "S1")[0]


def test_closing_tells_all_who_still_work_on_it_and_frees_what_waits() -> None:
    dispatch = Dispatch(["S1", "S2"], LIMITS)
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert dispatch.waiting == 0
    assert dispatch.close(key(0)) == [Retract("S1-0", key(0))]
    assert dispatch.close(key(0)) == []
    assert ready(dispatch, 0.0, "S2-0", gives("S2", **VOTE)) == []


# --- giving up a service --------------------------------------------------------------------------


def test_an_abandoned_service_is_absent_now_and_later() -> None:
    dispatch = Dispatch(["S1", "S2"], LIMITS)
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    dispatch.submit(key(0), 1.0)
    assert dispatch.abandon(["S2"], "died too often") == [Absent(key(0), "S2", "died too often")]
    assert Absent(key(1), "S2", "died too often") in dispatch.submit(key(1), 1.0)


def test_abandoning_the_transcriber_leaves_the_text_voters_absent() -> None:
    dispatch = Dispatch(["asr", "T"], LIMITS)
    ready(dispatch, 0.0, "T-0", gives("T", **TEXT))
    dispatch.submit(key(0), 1.0)
    assert dispatch.abandon(["asr"], "died too often") == [
        Absent(key(0), "asr", "died too often"),
        Absent(key(0), "T", "no transcript: died too often"),
    ]


def test_a_service_that_comes_back_is_given_up_no_longer() -> None:
    dispatch = one_service()
    dispatch.abandon(["S1"], "died too often")
    assert dispatch.submit(key(0), 1.0) == [Absent(key(0), "S1", "died too often")]
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    assert dispatch.submit(key(1), 1.0) == [Assign("S1-0", key(1), ("S1",))]


# --- words ----------------------------------------------------------------------------------------


def test_explain_says_what_each_late_voter_is_waiting_for() -> None:
    dispatch = with_transcripts()
    dispatch.submit(key(0), 1.0)
    dispatch.submit(key(1), 2.0)
    assert dispatch.explain(key(0), "asr") == "late: its node was still at work"
    assert dispatch.explain(key(1), "asr") == "late: every node was busy"
    assert dispatch.explain(key(0), "T") == "late: was waiting for the transcript"
    dispatch.gone(0.0, "T-0", "was killed")
    assert dispatch.explain(key(0), "T") == "late: no node is ready"


def test_only_what_no_node_has_begun_is_unstarted() -> None:
    dispatch = one_service()
    ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE))
    for sequence in range(3):
        dispatch.submit(key(sequence), float(sequence))
    dispatch.submit(("other", 0), 9.0)
    assert dispatch.unstarted("call") == [key(1), key(2)]
    dispatch.gone(1.0, "S1-0", "was killed")
    assert key(0) not in dispatch.unstarted("call")


# --- parts of segments that are still spoken ------------------------------------------------------


def replicas(count: int) -> Dispatch:
    dispatch = one_service()
    for number in range(count):
        ready(dispatch, 0.0, f"S1-{number}", gives("S1", **VOTE), credits=2)
    return dispatch


def test_only_a_node_that_holds_nothing_is_lent_and_only_once_at_a_time() -> None:
    dispatch = replicas(2)
    dispatch.submit(key(0), 1.0)
    assert lend(dispatch, "S1", key(1), 1) == "S1-1"
    assert lend(dispatch, "S1", key(1), 2) is None
    dispatch.returned("S1-1", key(1), 1, "S1")
    assert lend(dispatch, "S1", key(1), 2) == "S1-1"


def test_only_the_part_that_was_lent_for_is_returned() -> None:
    dispatch = replicas(1)
    lend(dispatch, "S1", key(1), 2)
    dispatch.returned("S1-0", key(1), 1, "S1")
    dispatch.returned("S1-0", key(2), 2, "S1")
    dispatch.returned("S1-9", key(1), 2, "S1")
    assert lend(dispatch, "S1", key(2), 1) is None


def test_nobody_is_lent_where_there_is_nobody() -> None:
    dispatch = one_service()
    assert lend(dispatch, "S1", key(0), 1) is None
    assert dispatch.close(key(0)) == []


def test_a_node_with_a_part_takes_tasks_at_once_but_after_the_idle() -> None:
    dispatch = replicas(2)
    assert lend(dispatch, "S1", key(9), 1) == "S1-0"
    assert [dispatch.submit(key(n), 1.0) for n in range(4)] == [
        [Assign("S1-1", key(0), ("S1",))],
        [Assign("S1-0", key(1), ("S1",))],
        [Assign("S1-1", key(2), ("S1",))],
        [Assign("S1-0", key(3), ("S1",))],
    ]


def test_parts_and_their_segment_go_to_the_same_node_if_it_is_as_free_as_others() -> None:
    dispatch = replicas(3)
    assert lend(dispatch, "S1", key(5), 1) == "S1-0"
    assert lend(dispatch, "S1", key(6), 1) == "S1-1"
    dispatch.returned("S1-0", key(5), 1, "S1")
    dispatch.returned("S1-1", key(6), 1, "S1")
    assert lend(dispatch, "S1", key(6), 2) == "S1-1"
    dispatch.returned("S1-1", key(6), 2, "S1")
    assert dispatch.submit(key(6), 1.0) == [Assign("S1-1", key(6), ("S1",))]


def test_a_segment_that_is_finished_elsewhere_can_be_forgotten_by_who_had_its_parts() -> None:
    dispatch = replicas(2)
    lend(dispatch, "S1", key(5), 1)
    actions = dispatch.submit(key(5), 1.0)
    assert actions == [Retract("S1-0", key(5)), Assign("S1-1", key(5), ("S1",))]
    assert dispatch.close(key(5)) == [Retract("S1-1", key(5))]


def test_a_segment_that_never_comes_can_be_forgotten() -> None:
    dispatch = replicas(2)
    lend(dispatch, "S1", key(5), 1)
    dispatch.returned("S1-0", key(5), 1, "S1")
    assert dispatch.close(key(5)) == [Retract("S1-0", key(5))]
    assert dispatch.close(key(5)) == []


def test_a_node_that_is_gone_need_not_forget() -> None:
    dispatch = replicas(2)
    lend(dispatch, "S1", key(5), 1)
    lend(dispatch, "S1", key(6), 1)
    dispatch.gone(0.0, "S1-0", "was killed")
    dispatch.gone(0.0, "S1-1", "was killed")
    assert dispatch.close(key(5)) == []
    assert dispatch.submit(key(6), 1.0) == []
    assert ready(dispatch, 0.0, "S1-0", gives("S1", **VOTE)) == [Assign("S1-0", key(6), ("S1",))]


def test_a_lent_node_is_no_task() -> None:
    dispatch = replicas(1)
    lend(dispatch, "S1", key(5), 1)
    assert dispatch.waiting == 0
    assert dispatch.unstarted("call") == []
    assert list(dispatch.loads()) == [("S1-0", "S1", 0, 0)]


# --- any order of events --------------------------------------------------------------------------

DECLARED = {
    "asr": gives("asr", **ASR),
    "S": gives("S", **VOTE, stateful=True),
    "T": gives("T", **TEXT),
    "J": gives("J", ("audio", "transcript"), "vote", stateful=True),
}
KINDS = {"asr": ("asr",), "S": ("S",), "T": ("T",), "J": ("J",)} | {
    "ears": ("asr", "S", "T", "J"),
    "pair": ("S", "J"),
}
"""What the nodes of a name give."""
NODES = [f"{kind}-{i}" for kind in KINDS for i in (0, 1)]
nodes = st.sampled_from(NODES)
Held = dict[Key, set[str]]


def given_by(node: str) -> tuple[str, ...]:
    return KINDS[node.partition("-")[0]]


class AnyOrder(RuleBasedStateMachine):
    """Keeps its own books of what each node was told, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.dispatch = Dispatch(DECLARED, LIMITS)
        self.credits: dict[str, int] = {}
        self.held: dict[str, Held] = {}
        self.lent: dict[str, tuple[Key, int, str]] = {}
        self.parts = 0
        self.tries: Counter[tuple[Key, str]] = Counter()
        self.outcome: dict[tuple[Key, str], str] = {}
        self.open: list[Key] = []
        self.decided: set[Key] = set()
        self.had: dict[Key, set[str]] = {}
        """Who has had parts of a segment."""
        self.count = 0

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Lost):
                del self.held[action.node], self.credits[action.node]
                self.lent.pop(action.node, None)
            elif isinstance(action, Retract):
                had = action.node in self.had.get(action.key, ())
                assert had or action.key in self.held[action.node]
            elif isinstance(action, Absent):
                self.outcome[action.key, action.service] = "absent"
            else:
                for service in action.services:
                    self.assigned(action, service)

    def assigned(self, action: Assign, service: str) -> None:
        assert service in given_by(action.node)
        assert (action.key, service) not in self.outcome
        holders = [held for held in self.held.values() if service in held.get(action.key, ())]
        assert not holders, "assigned twice"
        if "transcript" in DECLARED[service].needs:
            along = "asr" in action.services
            assert along or self.outcome[action.key, "asr"] == "answered"
        if DECLARED[service].stateful:
            for before in self.open:
                settled = (before, service) in self.outcome or before in self.decided
                assert settled or before >= action.key, "the state is not there yet"
        self.tries[action.key, service] += 1
        self.held[action.node].setdefault(action.key, set()).add(service)

    @rule(node=nodes, credits=st.integers(1, 3))
    def starts(self, node: str, credits: int) -> None:
        # the books must know the node before it is given anything
        services = [DECLARED[name] for name in given_by(node)]
        actions = self.dispatch.ready(self.now, node, services, credits)
        if node in self.held:
            cut = next(i for i, a in enumerate(actions) if isinstance(a, Lost)) + 1
            self.take(actions[:cut])
            actions = actions[cut:]
        self.held[node], self.credits[node] = {}, credits
        self.take(actions)

    @rule(node=nodes)
    def dies(self, node: str) -> None:
        self.take(self.dispatch.gone(self.now, node, "was killed"))
        assert node not in self.held

    @rule(node=nodes, age=st.sampled_from([None, 1.0, 11.0]))
    def beats(self, node: str, age: float | None) -> None:
        self.take(self.dispatch.beat(self.now, node, age))

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(self.dispatch.tick(self.now))

    @rule(patience=st.sampled_from([1.0, 5.0]))
    def arrives(self, patience: float) -> None:
        self.open.append(key(self.count))
        self.take(self.dispatch.submit(key(self.count), self.now + patience))
        self.count += 1

    def pick(self, node: str, place: int) -> tuple[Key, str] | None:
        """One of what a node has not answered; its books say that it has, then."""
        held = self.held.get(node, {})
        tasks = [(k, s) for k, services in held.items() for s in given_by(node) if s in services]
        if not tasks:
            return None
        picked = tasks[place % len(tasks)]
        self.drop(node, *picked)
        return picked

    def drop(self, node: str, segment: Key, service: str) -> None:
        held = self.held.get(node, {})
        held.get(segment, set()).discard(service)
        if segment in held and not held[segment]:
            del held[segment]

    @rule(node=nodes, place=st.integers(0, 5))
    def answers(self, node: str, place: int) -> None:
        if picked := self.pick(node, place):
            self.answer(node, *picked)

    def answer(self, node: str, answered: Key, service: str) -> None:
        part = answered, service
        expected = answered in self.open and self.outcome.get(part) != "answered"
        if expected:
            self.outcome[part] = "answered"
        counts, actions = self.dispatch.answered(node, answered, service)
        assert counts is expected
        self.take(actions)

    @rule(node=nodes, sequence=st.integers(0, 9), place=st.integers(0, 3))
    def answers_out_of_the_blue(self, node: str, sequence: int, place: int) -> None:
        """Late, twice, or by a node that was given up; but never before anyone was asked."""
        service = given_by(node)[place % len(given_by(node))]
        if self.tries[key(sequence), service]:
            self.drop(node, key(sequence), service)
            self.answer(node, key(sequence), service)

    @rule(node=nodes, place=st.integers(0, 5), retry=st.booleans())
    def fails(self, node: str, place: int, retry: bool) -> None:
        if picked := self.pick(node, place):
            self.take(self.dispatch.failed(node, *picked, "broke", retry))

    @rule(place=st.integers(0, 5))
    def is_decided(self, place: int) -> None:
        if self.open:
            segment = self.open[place % len(self.open)]
            self.decided.add(segment)
            self.take(self.dispatch.decided(segment))

    @rule(place=st.integers(0, 5))
    def is_closed(self, place: int) -> None:
        if self.open:
            self.take(self.dispatch.close(self.open.pop(place % len(self.open))))

    @rule(service=st.sampled_from(sorted(DECLARED)))
    def is_lent(self, service: str) -> None:
        """A part of the next segment has come."""
        self.parts += 1
        node = lend(self.dispatch, service, key(self.count), self.parts)
        idle = [n for n in self.held if service in given_by(n) and not self.held[n]]
        assert (node is None) == (not [n for n in idle if n not in self.lent])
        if node is not None:
            assert node in idle
            self.lent[node] = key(self.count), self.parts, service
            self.had.setdefault(key(self.count), set()).add(node)

    @rule(node=nodes)
    def is_returned(self, node: str) -> None:
        if node in self.lent:
            self.dispatch.returned(node, *self.lent.pop(node))

    @invariant()
    def nobody_is_above_its_credits(self) -> None:
        for node, held in self.held.items():
            assert len(held) <= self.credits[node]

    @invariant()
    def the_books_agree(self) -> None:
        loads = {(node, service): held for node, service, held, _ in self.dispatch.loads()}
        assert loads == {
            (node, service): sum(service in services for services in held.values())
            for node, held in self.held.items()
            for service in given_by(node)
        }

    @invariant()
    def nothing_is_tried_more_often_than_allowed(self) -> None:
        assert all(count <= LIMITS.attempts for count in self.tries.values())

    @invariant()
    def no_node_is_idle_while_its_service_has_work(self) -> None:
        free = [n for n in self.held if len(self.held[n]) < self.credits[n]]
        for service in {service for node in free for service in given_by(node)}:
            for segment in self.open:
                assert self.dispatch.explain(segment, service) != "late: every node was busy"

    def teardown(self) -> None:
        """With every service at work and nothing going wrong, every part comes to an outcome."""
        for service in DECLARED:
            self.starts(f"{service}-0", 3)
        while any(self.held.values()):
            for node in list(self.held):
                while self.held[node]:
                    self.answers(node, 0)
        assert all((k, s) in self.outcome for k in self.open for s in DECLARED)
        assert self.dispatch.waiting == 0
        for segment in self.open:
            self.take(self.dispatch.close(segment))
        assert not self.dispatch._turns._open


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    fakes.patient,
    max_examples=150,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
