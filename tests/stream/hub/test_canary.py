"""The known second of speech that goes through each node from time to time."""

from __future__ import annotations

import re
from dataclasses import replace as changed
from typing import Any

import fakes
import pytest
from desk import Desk
from msgspec.structs import replace

from abhinaya.models.labels import LABELS
from abhinaya.stream.hub.canary import CANARY, Canary
from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.messages import (
    Beat,
    Failed,
    NodeDown,
    Refused,
    Service,
    Task,
    ToNode,
    Transcript,
    Verdict,
    Vote,
)

COST: dict[str, Any] = {"queue_ms": 0.0, "run_ms": 1.0, "batch_size": 1}
CALM = tuple(0.9 if label == "neutral" else 0.1 / 7 for label in LABELS)
ANGRY = tuple(0.9 if label == "angry" else 0.1 / 7 for label in LABELS)


def service(name: str, trial_ms: float | None = 5.0) -> Service:
    return Service(
        name=name,
        kind="transcript" if name == "asr" else "vote",
        needs=("audio",),
        labels=() if name == "asr" else LABELS,
        model="m",
        version="1",
        licence="MIT",
        trial_ms=trial_ms,
    )


def node(name: str = "n", *services: Service) -> Node:
    return Node(name, "1", {s.name: s for s in services or (service("asr"), service("S1"))}, 4)


def vote(task: Task, probabilities: tuple[float, ...] = CALM) -> Vote:
    label = LABELS[max(range(8), key=probabilities.__getitem__)]
    return Vote(
        stream=CANARY, sequence=task.sequence, voter="S1", label=label,
        probabilities=probabilities, model="m", version="1", **COST,
    )  # fmt: skip


def words(task: Task, text: str = "How can I help you?") -> Transcript:
    return Transcript(stream=CANARY, sequence=task.sequence, text=text, model="m", **COST)


def asked(canary: Canary, now: float, *nodes: Node) -> list[Task]:
    return [task for _, task in canary.tasks(now, nodes)]


def begun(*nodes: Node) -> Canary:
    canary = Canary(30.0, 60.0)
    assert not asked(canary, 0.0, *nodes), "a new node has just had its trial"
    return canary


def test_each_node_is_asked_every_30_s_and_answers_once() -> None:
    a = node()
    canary = begun(a)
    assert not asked(canary, 29.9, a)
    transcribe, judge = asked(canary, 30.0, a)
    assert (transcribe.services, transcribe.transcript) == (("asr",), None)
    assert (judge.services, judge.transcript) == (("S1",), "How can I help you?")
    assert judge.samples is not None
    assert judge.samples.shape == (16_000,)
    assert canary.answered(31.0, a, words(transcribe)) == ""
    assert canary.answered(31.0, a, vote(judge)) == ""
    assert canary.answered(45.0, a, vote(judge, ANGRY)) == "", "nobody asked for a second answer"
    assert {n.service: n.checked_s for n in a.loads(50.0)} == {"asr": 19.0, "S1": 19.0}
    assert not asked(canary, 59.0, a)
    assert len(asked(canary, 60.0, a)) == 2


def test_a_busy_node_waits_one_turn_only() -> None:
    a = node()
    canary = begun(a)
    a.held[("s", 0, 0)] = {"S1"}
    assert not asked(canary, 59.9, a)
    assert asked(canary, 60.0, a)


def test_services_without_a_trial_and_a_hub_without_checks_ask_nothing() -> None:
    served = node("n", service("T1", None))
    canary = begun(served)
    assert not asked(canary, 100.0, served)
    off = Canary(0.0, 60.0)
    assert not asked(off, 0.0, node())
    assert not asked(off, 100.0, node())


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda t: vote(t, ANGRY), r"S1: .*wrong: \w+ 0\.\d\d, not 0\.\d\d"),
        (lambda t: replace(vote(t, ANGRY), probabilities=None), "S1: it says angry"),
        (
            lambda t: Failed(
                stream=CANARY, sequence=t.sequence, service="S1", reason="NaN", retry=True
            ),
            "S1 failed on the test recording: NaN",
        ),
        (
            lambda t: Failed(
                stream=CANARY, sequence=t.sequence, service="S1", reason="short", retry=False
            ),
            "S1: Failed to the test recording, Vote before",
        ),
    ],
)
def test_a_voter_that_answers_otherwise_is_named(wrong, reason) -> None:
    a = node("n", service("S1"))
    canary = begun(a)
    (task,) = asked(canary, 30.0, a)
    assert canary.answered(31.0, a, vote(task, tuple(p + 0.001 for p in CALM))) == ""
    (task,) = asked(canary, 60.0, a)
    fault = canary.answered(31.0, a, wrong(task))
    assert fault
    assert re.search(reason, fault), fault


def test_a_replica_is_compared_with_the_same_model_on_another_node() -> None:
    a, b = node("a", service("S1")), node("b", service("S1"))
    canary = begun(a, b)
    first, second = asked(canary, 30.0, a, b)
    assert canary.answered(31.0, a, vote(first)) == ""
    assert canary.answered(31.0, b, vote(second, ANGRY))
    newer = changed(b, gives={"S1": replace(service("S1"), version="2")})
    third = asked(canary, 60.0, a, newer)
    assert canary.answered(31.0, newer, vote(third[1], ANGRY)) == "", "another version"


def test_what_the_card_says_counts_more_than_who_answered_first() -> None:
    known = replace(service("S1"), trial=CALM)
    wrong, right = node("a", known), node("b", known)
    canary = begun(wrong, right)
    first, second = asked(canary, 30.0, wrong, right)
    assert canary.answered(31.0, wrong, vote(first, ANGRY))
    assert canary.answered(31.0, right, vote(second)) == ""


def test_other_words_are_a_fault_and_a_changed_comma_is_not() -> None:
    a = node("n", service("asr"))
    canary = begun(a)
    for number, (text, right) in enumerate(
        (("How can I help you?", True), ("How can I help you,", True), ("Cow canal pew", False)), 1
    ):
        (task,) = asked(canary, 30.0 * number, a)
        assert (canary.answered(31.0, a, words(task, text)) == "") is right


def test_no_answer_for_a_minute_is_a_fault_and_a_new_process_starts_afresh() -> None:
    a = node("n", service("S1"))
    canary = begun(a)
    asked(canary, 30.0, a)
    assert not list(canary.late(90.0, [a]))
    assert not asked(canary, 89.0, a), "one question at a time"
    ((name, reason),) = canary.late(90.1, [a])
    assert (name, reason) == ("n", "S1 did not answer the test recording for 60 s")
    again = changed(a, incarnation="2")
    assert not list(canary.late(91.0, [again]))
    assert not asked(canary, 91.0, again)
    assert asked(canary, 121.0, again)


def test_the_hub_takes_a_node_out_that_answers_wrongly_and_says_why() -> None:
    hub = Desk(supervise=SuperviseConfig(silent_s=3.0))
    peer = b"S1-0"
    hub.say(peer, fakes.ready("S1", trial_ms=1.0))
    wrong: list[Vote] = []
    for _ in range(2):
        for _ in range(31):
            hub.tick(1.0)
            hub.say(peer, Beat(name="S1-0"))
        task = hub.to(peer, Task)[-1]
        assert task.stream == CANARY
        assert not hub.events(NodeDown)
        hub.say(peer, vote(task, ANGRY if wrong else CALM))
        wrong.append(vote(task))
    (down,) = hub.events(NodeDown)
    assert down.reason.startswith("S1: its answer to the test recording is wrong")
    (refused,) = hub.to(peer, Refused)
    assert refused.restart
    assert not hub.events(Verdict), "no sink hears of the recording"


def test_what_a_node_says_of_itself_can_be_sent_back_to_it_however_long_it_is() -> None:
    hub = Desk(supervise=SuperviseConfig(silent_s=3.0))
    hub.say(b"S1-0", fakes.ready("S1", trial_ms=1.0))
    hub.deliver(hub.broker.malformed(hub.now, b"S1-0", "\U000e0001" * 40_000))
    (refused,) = hub.to(b"S1-0", Refused)
    assert Decoder(ToNode).decode(Encoder().encode(refused)) == refused
