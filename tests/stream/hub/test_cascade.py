"""Voters that are asked only where the others disagree or are not sure."""

from __future__ import annotations

from typing import Any

import fakes
import pytest
from desk import FRONT, SERVICES, Desk
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from abhinaya.models.base import Ballot
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.ensemble import NOT_ASKED, Rule, cast, decide
from abhinaya.stream.hub.admission import Admission
from abhinaya.stream.settings.vote import VoteConfig
from abhinaya.stream.wire.messages import Died, Task, Verdict

NODE = b"ST1-0"
SURE = VoteConfig(cascade=("ST1",), cascade_confidence=0.6)
UNSURE = VoteConfig(cascade=("ST1",), cascade_confidence=0.7)
"""Fake votes have a confidence of 0.65."""


def cascade(vote: VoteConfig = SURE, live: bool = False, **changes: Any) -> Desk:
    return Desk(vote=vote, **changes).up(*SERVICES).front(live)


def say(hub: Desk, *labels: str, sequence: int = 0) -> None:
    """A segment with its words, and the votes of S1 and T2."""
    hub.say(FRONT, fakes.segment(sequence))
    hub.answer(sequence, "asr")
    for voter, label in zip(("S1", "T2"), labels, strict=False):
        hub.answer(sequence, voter, label=label)


def asked(hub: Desk) -> list[int]:
    return [task.sequence for task in hub.to(NODE, Task)]


def reasons(verdict: Verdict) -> dict[str, str]:
    return {missing.voter: missing.reason for missing in verdict.missing}


def test_where_the_others_agree_and_are_sure_the_verdict_is_out_at_once_and_says_so() -> None:
    hub = cascade()
    say(hub, "happy", "happy")
    verdict = hub.verdict()
    assert (verdict.label, reasons(verdict)) == ("happy", {"ST1": NOT_ASKED})
    assert asked(hub) == []
    hub.seen()
    hub.tick(1.0)
    assert hub.status().open_segments == 0
    assert list(hub.broker._coordinator.segments) == [], "nobody waits for a late vote"


def test_a_disagreement_asks_at_once_and_doubt_when_all_others_have_voted() -> None:
    hub = cascade()
    say(hub, "happy", "sad")
    assert asked(hub) == [0]
    assert hub.events(Verdict) == []
    hub.answer(0, "ST1", label="sad")
    assert (hub.verdict().label, hub.verdict().missing) == ("sad", ())
    doubtful = cascade(UNSURE)
    say(doubtful, "happy")
    assert asked(doubtful) == []
    doubtful.answer(0, "T2")
    assert asked(doubtful) == [0]


def test_the_voters_that_are_left_decide_whether_to_ask_and_none_left_is_a_reason() -> None:
    for alive, expected in ((("S1",), []), ((), [0])):
        hub = cascade()
        hub.say(FRONT, fakes.segment(0))
        hub.answer(0, "asr")
        for voter in ("S1", "T2"):
            if voter in alive:
                hub.answer(0, voter)
            else:
                hub.sink(Died(name=f"{voter}-0", reason="was killed", services=(voter,)))
        assert asked(hub) == expected
    assert hub.events(Verdict) == []
    hub.answer(0, "ST1", label="fear")
    assert hub.verdict().label == "fear"


def test_the_deadline_holds_and_a_late_disagreement_may_revise() -> None:
    hub = cascade(live=True)
    say(hub, "happy")
    hub.tick(2.0)
    first = hub.verdict()
    assert reasons(first) == {
        "T2": "late: its node was still at work",
        "ST1": "late: was waiting for the other voters",
    }
    hub.answer(0, "T2", label="sad")
    assert asked(hub) == [0]
    hub.answer(0, "ST1", label="sad")
    assert hub.events(Verdict)[-1].label == "sad"
    assert hub.events(Verdict)[-1].missing == ()


def test_a_cascade_without_a_node_holds_up_nobody() -> None:
    hub = cascade()
    hub.sink(Died(name="ST1-0", reason="was killed", services=("ST1",)))
    say(hub, "happy", "sad")
    assert reasons(hub.verdict())["ST1"] == "was killed"


def test_partials_follow_the_same_rule() -> None:
    hub = cascade(live=True)
    say(hub, "happy", "sad")
    hub.answer(0, "ST1")  # now the hub knows that it is fast
    for sequence, labels, expected in ((1, "happy happy", []), (2, "happy sad", [1])):
        hub.told.clear()
        hub.notices.clear()
        hub.say(FRONT, fakes.partial(sequence))
        for service, label in zip(("asr", "S1", "T2"), ("", *labels.split()), strict=True):
            answer = fakes.answer(fakes.task(sequence, part=1), service, label)
            hub.say(f"{service}-0".encode(), answer)
        assert [task.part for task in hub.to(NODE, Task)] == expected
        if not expected:
            assert reasons(hub.passing()[0]) == {"ST1": NOT_ASKED}
        hub.say(FRONT, fakes.segment(sequence))
        hub.answer(sequence)


@st.composite
def votes(draw: Any) -> dict[str, Ballot]:
    labels = draw(st.lists(st.sampled_from(LABELS[:3]), min_size=3, max_size=3))
    shares = draw(st.lists(st.sampled_from((0.3, 0.65, 0.9)), min_size=3, max_size=3))
    return {
        voter: Ballot(label, tuple(p if n == label else (1 - p) / 7 for n in LABELS))
        for voter, label, p in zip(("S1", "T2", "ST1"), labels, shares, strict=True)
    }


@given(votes(), st.permutations(("S1", "T2", "ST1")), st.sampled_from((0.0, 0.6, 0.8)))
def test_a_stream_gets_the_votes_that_the_rule_picks_from_stored_ones(
    ballots: dict[str, Ballot], order: list[str], confidence: float
) -> None:
    of_cascade = tuple(order[: 1 + (confidence > 0.6)])
    settings = VoteConfig(method="mean", cascade=of_cascade, cascade_confidence=confidence)
    rule = Rule("mean", cascade=of_cascade, cascade_confidence=confidence)
    hub = cascade(settings)
    hub.say(FRONT, fakes.segment(0))
    hub.answer(0, "asr")
    for voter in (*reversed(order), *of_cascade):
        if any(task.sequence == 0 for task in hub.to(f"{voter}-0".encode(), Task)):
            vote = fakes.vote(0, voter, ballots[voter].label)
            hub.say(
                f"{voter}-0".encode(), replace(vote, probabilities=ballots[voter].probabilities)
            )
    counted = cast(ballots, rule)
    assert {vote.voter for vote in hub.verdict().votes} == counted.keys()
    assert hub.verdict().label == decide(counted, rule).label
    assert set(reasons(hub.verdict()).values()) <= {NOT_ASKED}


def test_a_voter_that_is_seldom_asked_is_a_small_load() -> None:
    admission = Admission((), 2.0)
    admission.measured("ST1", 1000.0, 1)
    nodes = {("ST1",): 1}
    assert admission._load(2.0, nodes, {}) == pytest.approx(2.0)
    for i in range(400):
        admission.asked(("ST1",), i % 4 == 0)
    assert 0.3 < admission._load(2.0, nodes, {}) < 0.7
