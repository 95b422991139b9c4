"""A second opinion on close calls: asked after the verdict, and never waited for."""

from __future__ import annotations

from typing import Any

import fakes
from desk import FRONT, SERVICES, Desk, desk

from abhinaya.models.vote.combiner import Combiner, Member
from abhinaya.stream.settings.config import WorkerConfig
from abhinaya.stream.settings.vote import VoteConfig
from abhinaya.stream.wire.messages import Beat, Cancel, Died, NodeUp, Ready, Refused, Task, Verdict


def refined_desk(**changes: Any) -> Desk:
    """A line-up of which every tie is asked about, and a refiner."""
    worker = WorkerConfig(model="fake")
    vote = VoteConfig(refine_margin=0.2, refine_top=3)
    return Desk(refiner=worker, vote=vote, **changes).up(*SERVICES).front()


def tie(hub: Desk, sequence: int = 0) -> None:
    hub.say(FRONT, fakes.segment(sequence))
    hub.answer(sequence, "asr")
    for voter, label in (("S1", "happy"), ("T2", "sad"), ("ST1", "fear")):
        hub.answer(sequence, voter, label=label)


REFINER_PEER = b"refiner-0"


def wait(hub: Desk, seconds: int, *, refiner_lives: bool = True) -> None:
    """Let time pass in which the nodes beat."""
    names = [f"{service}-0" for service in (*SERVICES, *(["refiner"] if refiner_lives else []))]
    for _ in range(seconds):
        hub.tick(1.0)
        for name in names:
            hub.say(name.encode(), Beat(name=name))


def refiner() -> Ready:
    return fakes.ready("refiner", credits=9)


def test_a_close_call_goes_to_the_refiner_with_what_is_in_question() -> None:
    hub = refined_desk()
    hub.say(REFINER_PEER, refiner())
    tie(hub)
    assert hub.verdict().label == "fear", "out at once"
    (task,) = hub.to(REFINER_PEER, Task)
    assert task.choices == ("fear", "happy", "sad")
    assert task.transcript
    assert task.samples is not None
    hub.answer(0, "refiner", label="sad")
    first, second = hub.events(Verdict)
    assert (second.label, second.revision) == ("sad", 1)
    assert second.refinement is not None
    assert second.refinement.voter == "refiner"
    assert [v.voter for v in second.votes] == [v.voter for v in first.votes]
    assert second.missing == ()


def test_a_clear_verdict_is_not_asked_about_and_no_voter_sees_choices() -> None:
    hub = refined_desk()
    hub.say(REFINER_PEER, refiner())
    hub.say(FRONT, fakes.segment(0))
    hub.answer(0)
    assert hub.to(REFINER_PEER, Task) == []
    tie(hub, 1)
    for service in SERVICES:
        assert all(task.choices == () for task in hub.to(f"{service}-0".encode(), Task))


def test_without_a_refiner_that_is_ready_the_verdict_stands_and_is_not_delayed() -> None:
    hub = refined_desk()
    tie(hub)
    assert hub.verdict().label == "fear"
    assert hub.verdict().missing == ()
    wait(hub, 6, refiner_lives=False)
    hub.say(REFINER_PEER, refiner())
    assert hub.to(REFINER_PEER, Task) == [], "its time is over"


def test_a_refiner_that_comes_in_time_is_asked() -> None:
    hub = refined_desk()
    tie(hub)
    hub.say(REFINER_PEER, refiner())
    hub.answer(0, "refiner", label="happy")
    assert [v.label for v in hub.events(Verdict)] == ["fear", "happy"]


def test_a_refiner_that_abstains_fails_or_dies_leaves_the_verdict() -> None:
    for ending in ("abstains", "dies", "stays dead"):
        hub = refined_desk()
        hub.say(REFINER_PEER, refiner())
        tie(hub)
        (task,) = hub.to(REFINER_PEER, Task)
        if ending == "abstains":
            hub.say(REFINER_PEER, fakes.failed(task, "refiner", retry=False))
        else:
            service = "refiner" if ending == "stays dead" else ""
            hub.sink(Died(name="refiner-0", reason="was killed", services=(service,)))
        wait(hub, 6, refiner_lives=ending == "abstains")
        assert [v.label for v in hub.events(Verdict)] == ["fear"], ending
        tie(hub, 1)
        assert len(hub.events(Verdict)) == 2, "the line-up goes on"


def test_a_refiner_that_answers_after_its_time_is_counted_as_a_double() -> None:
    hub = refined_desk()
    hub.say(REFINER_PEER, refiner())
    tie(hub)
    wait(hub, 4)
    assert hub.to(REFINER_PEER, Cancel) == []
    wait(hub, 2)
    assert [c.sequence for c in hub.to(REFINER_PEER, Cancel)] == [0]
    hub.answer(0, "refiner", label="sad")
    assert len(hub.events(Verdict)) == 1
    assert hub.status().doubles == 1


def test_a_refiner_is_no_part_of_a_run_that_has_none() -> None:
    hub = desk()
    hub.say(REFINER_PEER, refiner())
    (refused,) = hub.to(REFINER_PEER, Refused)
    assert "'refiner' is not a service of this run" in refused.reason


def test_a_refiner_has_no_vote_also_beside_a_combiner_that_does_not_know_it() -> None:
    members = dict.fromkeys(("S1", "T2", "ST1"), Member())
    hub = refined_desk(combiner=Combiner("majority", members))
    hub.say(REFINER_PEER, refiner())
    assert hub.to(REFINER_PEER, Refused) == []
    assert "refiner" in {n.service for n in hub.events(NodeUp)}
    assert {load.service for load in hub.status().nodes} == {*SERVICES, "refiner"}
