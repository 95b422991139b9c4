"""Arousal, valence and dominance in the hub: averaged, late, missing, refused, under load."""

from __future__ import annotations

import fakes
from desk import FRONT, Desk
from msgspec.structs import replace

from abhinaya.models.labels import LABELS, UNKNOWN, Attributes
from abhinaya.models.vote.combiner import Combiner, Member
from abhinaya.stream.hub.admission import Admission
from abhinaya.stream.hub.canary import CANARY, Canary
from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.hub.validation import fault_of_answer, fault_of_node
from abhinaya.stream.settings.config import WorkerConfig
from abhinaya.stream.wire.messages import NodeUp, Refused, Verdict, Vote

RATES = {"labels": (), "attributes": True}
VOTERS = {name: WorkerConfig(model="fake") for name in ("S1", "T2", "A")}


def alone(sequence: int, *values: float, part: int = 0) -> Vote:
    """The vote of A, which gives only attributes."""
    vote = fakes.vote(sequence, "A", "", part=part)
    return fakes.rated(vote, *values, probabilities=None)


def desk(live: bool = False, **changes: object) -> Desk:
    """S1 gives labels and attributes, T2 labels, A attributes."""
    hub = Desk(voters=VOTERS, asr=None, **changes).front(live)  # type: ignore[arg-type]
    hub.say(b"S1-0", fakes.ready("S1", attributes=True))
    hub.say(b"T2-0", fakes.ready("T2", needs=("audio",)))
    given = replace(fakes.service("S1", **RATES), name="A")
    hub.say(b"A-0", replace(fakes.ready("S1", node="A-0"), gives=(given,)))
    return hub


def test_the_mean_leaves_out_who_gave_none_and_only_labels_are_votes() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0), fakes.segment(1))
    hub.say(b"A-0", alone(0, 2.0, 4.0, 7.0), alone(1, 3.0, 3.0, 3.0))
    of_s1 = fakes.rated(fakes.vote(0, "S1", "sad"), 1.0, 6.0, 7.0)
    hub.say(b"S1-0", of_s1, fakes.vote(1, "S1", "sad"))
    hub.say(b"T2-0", fakes.vote(0, "T2", "sad"), fakes.failed(fakes.task(1), "T2", retry=False))
    first, second = hub.events(Verdict)
    assert first.attributes == Attributes(1.5, 5.0, 7.0)
    assert (first.label, first.agreement, len(first.votes)) == ("sad", 1.0, 3)
    assert second.attributes == Attributes(3.0, 3.0, 3.0)
    assert [m.voter for m in second.missing] == ["T2"]


def test_late_attributes_revise_a_verdict_whose_label_stands() -> None:
    hub = desk(live=True)
    hub.say(FRONT, fakes.segment(0))
    hub.say(b"S1-0", fakes.vote(0, "S1", "sad"))
    hub.say(b"T2-0", fakes.vote(0, "T2", "sad"))
    hub.tick(2.1)
    hub.say(b"A-0", alone(0, 2.0, 4.0, 6.0))
    before, after = hub.events(Verdict)
    assert (before.attributes, before.missing[0].voter) == (None, "A")
    assert after.attributes == Attributes(2.0, 4.0, 6.0)
    assert (after.label, after.revision, after.missing) == ("sad", 1, ())


def test_without_any_label_the_verdict_still_has_attributes() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    hub.say(b"A-0", alone(0, 2.0, 4.0, 6.0))
    for voter in ("S1", "T2"):
        hub.say(f"{voter}-0".encode(), fakes.failed(fakes.task(0), voter, retry=False))
    verdict = hub.verdict()
    assert (verdict.label, verdict.attributes) == (UNKNOWN, Attributes(2.0, 4.0, 6.0))
    assert "give only attributes" in verdict.reason


def test_provisional_verdicts_have_attributes_and_are_shown_for_them_alone() -> None:
    hub = Desk(voters=VOTERS, asr=None).front(live=True)
    given = replace(fakes.service("S1", **RATES, trial_ms=1.0), name="A")
    hub.say(b"A-0", replace(fakes.ready("S1", node="A-0"), gives=(given,)))
    hub.say(FRONT, fakes.partial(0, part=1))
    hub.say(b"A-0", alone(0, 2.0, 4.0, 6.0, part=1))
    (passing,) = hub.passing()
    assert (passing.label, passing.attributes) == (UNKNOWN, Attributes(2.0, 4.0, 6.0))


def test_a_voter_of_attributes_needs_no_place_in_a_fitted_combiner() -> None:
    hub = desk(combiner=Combiner("mean", {"S1": Member(), "T2": Member()}))
    assert {up.service for up in hub.events(NodeUp)} == {"S1", "T2", "A"}
    for gives, reason in (
        (fakes.service("S1", labels=()), "S1 announces no labels"),
        (replace(fakes.service("S1"), name="A"), "it was fitted on S1, T2, not on A: fit vote."),
    ):
        hub.say(b"odd", replace(fakes.ready("S1", node="odd"), gives=(gives,)))
        assert hub.to(b"odd", Refused)[-1].reason.startswith(reason)


def test_a_node_that_rates_otherwise_than_before_is_named() -> None:
    service = replace(fakes.service("S1", **RATES, trial_ms=1.0), trial=())
    node = Node("n", "1", {"S1": service}, 9)
    canary = Canary(30.0, 60.0)
    assert not list(canary.tasks(0.0, [node]))
    faults = []
    for turn, arousal in enumerate((3.0, 3.2, 5.0), 1):
        ((_, task),) = canary.tasks(30.0 * turn, [node])
        vote = replace(alone(task.sequence, arousal, 4.0, 4.0), voter="S1", stream=CANARY)
        faults.append(canary.answered(30.0 * turn + 1, node, vote))
    assert faults[:2] == ["", ""]
    assert faults[2].endswith("wrong: arousal 5.00, not 3.00")


def test_a_node_with_the_right_labels_and_other_attributes_or_none_is_named() -> None:
    trial = (1.0, *[0.0] * (len(LABELS) - 1))
    service = replace(fakes.service("S1"), attributes=True, trial=trial, trial_ms=1.0)
    node = Node("n", "1", {"S1": service}, 9)
    canary = Canary(30.0, 60.0)
    assert not list(canary.tasks(0.0, [node]))
    faults = []
    for turn, rated in enumerate((Attributes(3, 4, 4), Attributes(5, 4, 4), None), 1):
        ((_, task),) = canary.tasks(30.0 * turn, [node])
        vote = fakes.vote(task.sequence, "S1")
        vote = replace(vote, stream=CANARY, label=LABELS[0], probabilities=trial, attributes=rated)
        faults.append(canary.answered(30.0 * turn + 1, node, vote))
    assert faults[0] == ""
    assert faults[1].endswith("wrong: arousal 5.00, not 3.00")
    assert faults[2].startswith("S1: it rates the test recording None, and A 3.0")


def test_a_fusion_that_was_fitted_on_another_model_of_attributes_is_refused() -> None:
    combiner = Combiner("mean", {"A": Member("other")})
    ready = replace(fakes.ready("S1"), gives=(replace(fakes.service("S1", **RATES), name="A"),))
    assert "as other, which is now" in fault_of_node(ready, frozenset({"A"}), combiner)


def test_a_refiner_must_answer_with_a_label() -> None:
    refiner = replace(fakes.service("refiner"), attributes=True)
    vote = replace(alone(0, 3.0, 4.0, 4.0), voter="refiner")
    assert "voted ''" in fault_of_answer({"refiner": refiner}, vote)


def test_under_load_attributes_go_before_labels_and_never_stand_alone() -> None:
    admission = Admission((), 2.0)
    service = fakes.service("S1", labels=LABELS)
    slow, rates = replace(service, name="slow"), replace(service, name="A", **RATES)
    admission.declared([slow, rates])
    admission.measured("slow", 1000.0, 1)
    admission.measured("A", 100.0, 1)
    live = [Stream(fakes.info(f"s{i}", live=True), b"front", 0, 0) for i in range(8)]
    for second in range(12):
        for stream in live[:2]:
            admission.arrived(100.0 + second, stream)
        admission.review(100.0 + second, live, {("slow", "A"): 1}, {"slow": 2.0})
    assert admission.shares["A"] == 0.0
    assert 0.0 < admission.shares["slow"] < 1.0
    assert "slow" not in admission.refused(live[0])
