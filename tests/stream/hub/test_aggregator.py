"""Votes in, verdicts out: when, in which order, and what a verdict says."""

from __future__ import annotations

import itertools
import math
from typing import Any

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.vote.ensemble import Rule
from abhinaya.stream.hub.aggregator import Aggregator, Outcome
from abhinaya.stream.hub.segments import Record, Segments, Stream
from abhinaya.stream.wire.messages import Gap, StreamEnded, Transcript, Verdict

VOTERS = ("S1", "T2", "ST1")
STAGES = ("capture", "segment", "queue", "asr", "voters", "vote")


class Count:
    """An aggregator and the segments of one stream."""

    def __init__(self, revise_s: float = 5.0, **rule: Any) -> None:
        self.segments = Segments()
        self.stream = Stream(fakes.info(), b"front", 0, 0)
        self.votes = Aggregator(VOTERS, Rule(**rule), revise_s, lambda _, voter: f"late: {voter}")

    def open(self, sequence: int = 0, due: float = 2.0, now: float = 0.0, **changes: Any) -> Record:
        segment = fakes.segment(sequence, **changes)
        record = self.segments.open(self.stream, segment, now, due)
        self.votes.open(record)
        return record

    def vote(
        self, now: float, labels: str, sequence: int = 0, voters: tuple[str, ...] = VOTERS
    ) -> list[Outcome]:
        """Labels of the voters in turn, with spaces between; `-` for one that abstains."""
        record = self.segments.get(fakes.key(sequence))
        assert record is not None
        for voter, label in zip(voters, labels.split(), strict=False):
            if label == "-":
                self.votes.absent(now, record, voter, "abstained")
            else:
                self.votes.voted(now, record, fakes.vote(sequence, voter, label))
        return self.collect(now)

    def collect(self, now: float) -> list[Outcome]:
        collected = self.votes.collect(now)
        assert all(stream is self.stream for stream, _ in collected)
        return [outcome for _, outcome in collected]

    def say(self, now: float, record: Record) -> None:
        said = fakes.answer(fakes.task(record.key[1]), "asr")
        assert isinstance(said, Transcript)
        record.transcript, record.transcribed = said, now


def only(outcomes: list[Outcome]) -> Verdict:
    (verdict,) = outcomes
    assert isinstance(verdict, Verdict)
    return verdict


# --- when -----------------------------------------------------------------------------------------


def test_a_verdict_comes_when_every_vote_is_in_and_repeats_the_facts_of_its_segment() -> None:
    count = Count()
    record = count.open(7)
    count.say(0.5, record)
    assert count.vote(1.0, "happy happy", 7) == []
    verdict = only(count.vote(1.5, "happy", 7, ("ST1",)))
    assert (verdict.label, verdict.agreement, verdict.missing) == ("happy", 1.0, ())
    assert verdict.confidence == pytest.approx(0.65)
    assert [v.voter for v in verdict.votes] == list(VOTERS)
    assert (verdict.revision, verdict.final, verdict.sequence) == (0, True, 7)
    assert (verdict.start, verdict.end) == (7 * fakes.SECOND, 7 * fakes.SECOND + 16)
    assert (verdict.start_unix_s, verdict.captured_unix_s) == (1_000_007.0, 1_000_000.0)
    assert verdict.transcript == record.transcript
    assert count.collect(99.0) == []


def test_at_the_deadline_it_comes_with_those_present_and_says_who_is_missing_and_why() -> None:
    count = Count()
    count.open()
    assert count.vote(1.999, "sad -") == []
    verdict = only(count.collect(2.0))
    assert verdict.label == "sad"
    assert [(m.voter, m.reason) for m in verdict.missing] == [
        ("T2", "abstained"),
        ("ST1", "late: ST1"),
    ]


def test_it_waits_for_nobody_who_will_not_vote_and_counts_one_that_does_after_all() -> None:
    count = Count()
    count.open()
    assert only(count.vote(1.0, "sad - -")).label == "sad"
    count.open(1)
    count.votes.absent(1.0, count.segments.get(fakes.key(1)), "asr", "is no voter")  # type: ignore[arg-type]
    count.vote(1.0, "-", 1)
    assert only(count.vote(1.0, "sad sad sad", 1)).missing == ()


@pytest.mark.parametrize(
    ("rule", "labels", "label", "reason"),
    [
        ({"quorum": 2}, "sad", "unknown", "1 vote of at least 2"),
        ({}, "- - -", "unknown", "abstained"),
        ({}, "- -", "unknown", "0 votes of at least 1"),
        ({"min_confidence": 0.7}, "happy happy sad", "unknown", "0.45"),
        ({"min_confidence": 0.4}, "happy happy sad", "happy", ""),
    ],
)
def test_what_is_not_sure_enough_is_unknown_and_says_why(
    rule: dict[str, Any], labels: str, label: str, reason: str
) -> None:
    count = Count(**rule)
    count.open()
    verdict = only([*count.vote(1.0, labels), *count.collect(2.0)])
    assert verdict.label == label
    assert reason in verdict.reason
    assert verdict.leading == ("happy" if "happy" in labels else "")


# --- in what order --------------------------------------------------------------------------------


def test_gaps_the_end_and_what_is_shed_keep_their_places() -> None:
    count = Count()
    for sequence in range(3):
        count.open(sequence, due=9.0)
    count.votes.append(count.stream, fakes.gap(3))
    count.votes.append(count.stream, StreamEnded(stream="call", sequence=4, position=99))
    assert count.vote(1.0, "sad sad sad", 2) == []
    shed = count.segments.get(fakes.key(1))
    assert shed is not None
    count.votes.shed(shed, "overload")
    outcomes = count.vote(1.0, "sad sad sad", 0)
    assert [o.sequence for o in outcomes] == [0, 1, 2, 3, 4]
    assert outcomes[1] == Gap(
        stream="call", sequence=1, start=fakes.SECOND, end=fakes.SECOND + 16, reason="overload"
    )


@fakes.patient
@given(
    st.lists(st.sampled_from(["segment", "gap"]), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_in_whatever_order_votes_come_outcomes_keep_the_order_of_the_stream(
    kinds: list[str], random: Any
) -> None:
    count = Count()
    for sequence, kind in enumerate(kinds):
        if kind == "segment":
            count.open(sequence, due=100.0)
        else:
            count.votes.append(count.stream, fakes.gap(sequence))
    segments = [s for s, kind in enumerate(kinds) if kind == "segment"]
    ballots = list(itertools.product(segments, VOTERS))
    random.shuffle(ballots)
    published = count.collect(0.0)
    for sequence, voter in ballots:
        published += count.vote(1.0, "sad", sequence, (voter,))
    assert [o.sequence for o in published] == list(range(len(kinds)))


# --- revisions ------------------------------------------------------------------------------------


def test_late_votes_that_change_the_label_make_revisions_without_holes() -> None:
    count = Count(priority=("ST1", "T2", "S1"))
    count.open(due=1.0)
    verdicts = count.collect(1.0)
    for now, (voter, label) in enumerate((("S1", "happy"), ("T2", "sad"), ("ST1", "sad")), 2):
        verdicts += count.vote(float(now), label, voters=(voter,))
    labels = [(v.revision, v.label) for v in verdicts if isinstance(v, Verdict)]
    assert labels == [(0, "unknown"), (1, "happy"), (2, "sad")], "who agrees makes none"


def test_a_segment_is_closed_when_all_have_answered_or_after_the_time_for_revisions() -> None:
    count = Count(revise_s=5.0)
    for sequence in range(3):
        count.open(sequence, due=1.0)
    count.vote(0.5, "sad sad sad", 0)
    count.vote(0.5, "sad", 1)
    assert count.votes.closed(0.5) == [fakes.key(0)]
    count.collect(1.0)
    count.vote(2.0, "- sad", 1, ("T2", "ST1"))
    assert count.votes.closed(5.9) == [fakes.key(1)]
    assert fakes.key(2) in count.votes.closed(6.0)


# --- stages ---------------------------------------------------------------------------------------


def test_the_stages_follow_a_segment_on_its_way() -> None:
    count = Count()
    record = count.open(now=10.0, due=99.0, capture_ms=100.0)
    record.begun = 10.1
    count.say(10.4, record)
    count.vote(10.7, "sad sad")
    verdict = only(count.vote(10.75, "sad", voters=("ST1",)))
    expected = {"capture": 100, "segment": 400, "queue": 100, "asr": 300, "voters": 350, "vote": 0}
    assert verdict.stages_ms == pytest.approx(expected)
    assert tuple(verdict.stages_ms) == STAGES


moments = st.none() | st.floats(0, 3)


@fakes.patient
@given(begun=moments, transcribed=moments, voted=st.tuples(moments, moments, moments))
def test_the_stages_are_never_negative_and_add_up(
    begun: float | None, transcribed: float | None, voted: tuple[float | None, ...]
) -> None:
    count = Count()
    record = count.open(now=100.0, due=102.0, capture_ms=7.0)
    events = [(m, k) for k, m in enumerate((begun, transcribed, *voted)) if m is not None]
    verdict: Verdict | None = None
    decided = 0.0
    for moment, kind in [*sorted(events), (3.0, 9)]:
        now = 100.0 + moment
        outcomes = count.collect(now)
        if kind == 0:
            record.begun = now
        elif kind == 1:
            count.say(now, record)
        elif kind < 9:
            outcomes += count.vote(now, "happy", voters=(VOTERS[kind - 2],))
        for outcome in outcomes if verdict is None else ():
            assert isinstance(outcome, Verdict)
            verdict, decided = outcome, now
    assert verdict is not None
    assert all(value >= 0 for value in verdict.stages_ms.values())
    total = math.fsum(verdict.stages_ms.values())
    assert total == pytest.approx(500.0 + 1000 * (decided - 100.0))


# --- a second opinion -----------------------------------------------------------------------------


def refined(**more: Any) -> tuple[Count, Record]:
    """A tie of three, decided by the tie-breaker, with a transcript."""
    count = Count(refine_margin=0.2, refine_top=3, **more)
    record = count.open(due=9.0)
    count.say(0.5, record)
    verdict = only(count.vote(1.0, "happy sad fear"))
    assert (verdict.label, verdict.revision, verdict.refinement) == ("fear", 0, None)
    assert list(count.votes.second_stage()) == [(record, ("refiner",), True)]
    assert record.choices == ("fear", "happy", "sad")
    assert count.votes.closed(1.0) == [], "kept until the answer"
    return count, record


@pytest.mark.parametrize("label", ["sad", "fear", "angry", "-"])
def test_a_refinement_makes_a_revision_unless_it_confirms_strays_or_fails(label: str) -> None:
    count, _ = refined()
    outcomes = count.vote(2.0, label, voters=("refiner",))
    assert count.votes.closed(2.0) == [fakes.key(0)]
    if label != "sad":
        assert outcomes == []
        return
    revised = only(outcomes)
    assert (revised.label, revised.revision) == ("sad", 1)
    assert revised.refinement is not None
    assert {v.voter for v in revised.votes} == set(VOTERS), "it casts no vote"
    assert revised.agreement == pytest.approx(1 / 3)
    assert count.vote(3.0, "fear", voters=("refiner",)) == [], "nobody has asked again"


def test_without_words_or_without_a_close_call_nobody_is_asked() -> None:
    count = Count(refine_margin=0.2, refine_top=3)
    count.open()
    count.vote(1.0, "happy sad fear")
    record = count.open(1)
    count.say(0.5, record)
    count.vote(1.0, "sad", 1)
    count.collect(2.0)
    assert list(count.votes.second_stage()) == []
    assert fakes.key(0) in count.votes.closed(2.0)


def test_a_late_vote_that_settles_it_ends_the_refiners_say() -> None:
    count = Count(refine_margin=0.2, refine_top=2)
    record = count.open()
    count.say(0.5, record)
    count.vote(1.0, "happy sad")
    first = only(count.collect(2.0))
    other = next(label for label in record.choices if label != first.label)
    assert only(count.vote(2.5, other, voters=("refiner",))).label == other
    assert count.votes.closed(2.5) == [], "a voter may still come"
    settled = only(count.vote(3.0, first.label, voters=("ST1",)))
    assert (settled.label, settled.revision) == (first.label, 2)
    assert count.votes.closed(3.0) == [fakes.key(0)]
