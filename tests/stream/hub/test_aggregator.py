"""Votes in, verdicts out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.vote.ensemble import Rule
from abhinaya.stream.hub.aggregator import Aggregator, Facts, Outcome
from abhinaya.stream.hub.dispatch_state import Key
from abhinaya.stream.wire.messages import Gap, StreamEnded, Transcript, Verdict

VOTERS = ("S1", "T2", "ST1")
STAGES = ("capture", "segment", "queue", "asr", "voters", "vote")


def explain(key: Key, voter: str) -> str:
    return f"late: {voter}"


def aggregator(revise_s: float = 5.0, voters: tuple[str, ...] = VOTERS, **rule: Any) -> Aggregator:
    return Aggregator(voters, Rule(**rule), revise_s)


def facts(sequence: int, stream: str = "call", **changes: Any) -> Facts:
    start = sequence * fakes.SECOND
    fields: dict[str, Any] = {
        "stream": stream,
        "sequence": sequence,
        "start": start,
        "end": start + 16,
        "start_unix_s": 1_000_000.0 + sequence,
        "captured_unix_s": 1_000_001.0 + sequence,
        "capture_ms": 0.0,
        "segment_ms": 0.0,
    }
    return Facts(**(fields | changes))


def transcript(sequence: int) -> Transcript:
    answer = fakes.answer(fakes.task(sequence), "asr")
    assert isinstance(answer, Transcript)
    return answer


def vote_all(
    votes: Aggregator, now: float, sequence: int, label: str = "happy", stream: str = "call"
) -> None:
    for voter in VOTERS:
        votes.voted(now, fakes.vote(sequence, voter, label, stream), explain)


def names(outcomes: list[Outcome]) -> list[tuple[str, int]]:
    return [(type(o).__name__, o.sequence) for o in outcomes]


def only_verdict(outcomes: list[Outcome]) -> Verdict:
    (verdict,) = outcomes
    assert isinstance(verdict, Verdict)
    return verdict


# --- when -----------------------------------------------------------------------------------------


def test_a_verdict_comes_when_every_vote_is_in_and_not_before() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=9.0)
    for voter in VOTERS[:2]:
        votes.voted(1.0, fakes.vote(0, voter), explain)
    assert votes.collect(1.0, explain) == []
    votes.voted(2.0, fakes.vote(0, "ST1"), explain)
    verdict = only_verdict(votes.collect(2.0, explain))
    assert verdict.label == "happy"
    assert verdict.agreement == 1.0
    assert verdict.confidence == pytest.approx(0.65)
    assert [v.voter for v in verdict.votes] == list(VOTERS)
    assert verdict.missing == ()
    assert (verdict.revision, verdict.final) == (0, True)
    assert votes.collect(99.0, explain) == []


def test_a_verdict_repeats_the_facts_of_its_segment() -> None:
    votes = aggregator()
    votes.open(0.0, facts(7), due=9.0)
    votes.transcribed(1.0, transcript(7))
    vote_all(votes, 1.0, 7)
    verdict = only_verdict(votes.collect(1.0, explain))
    assert (verdict.stream, verdict.sequence) == ("call", 7)
    assert (verdict.start, verdict.end) == (7 * fakes.SECOND, 7 * fakes.SECOND + 16)
    assert verdict.start_unix_s == 1_000_007.0
    assert verdict.captured_unix_s == 1_000_008.0
    assert verdict.transcript == transcript(7)


def test_at_the_deadline_it_comes_with_those_present_and_says_who_is_missing_and_why() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=2.0)
    votes.voted(1.0, fakes.vote(0, "S1", "sad"), explain)
    votes.absent(1.0, ("call", 0), "T2", "no transcript: no words")
    assert votes.collect(1.999, explain) == []
    verdict = only_verdict(votes.collect(2.0, explain))
    assert verdict.label == "sad"
    assert [(m.voter, m.reason) for m in verdict.missing] == [
        ("T2", "no transcript: no words"),
        ("ST1", "late: ST1"),
    ]


def test_it_waits_for_nobody_who_will_not_vote() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=9.0)
    votes.voted(1.0, fakes.vote(0, "S1"), explain)
    votes.absent(1.0, ("call", 0), "T2", "abstained")
    votes.absent(1.0, ("call", 0), "ST1", "abstained")
    assert names(votes.collect(1.0, explain)) == [("Verdict", 0)]


def test_a_voter_that_was_given_up_and_votes_after_all_is_not_missing() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=9.0)
    votes.absent(1.0, ("call", 0), "S1", "was killed")
    vote_all(votes, 1.5, 0)
    assert only_verdict(votes.collect(1.5, explain)).missing == ()


def test_a_service_that_is_no_voter_is_never_missing() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=9.0)
    votes.absent(1.0, ("call", 0), "asr", "no words")
    vote_all(votes, 1.0, 0)
    assert only_verdict(votes.collect(1.0, explain)).missing == ()


def test_below_the_quorum_the_label_is_unknown_and_says_why() -> None:
    votes = aggregator(quorum=2)
    votes.open(0.0, facts(0), due=2.0)
    votes.voted(1.0, fakes.vote(0, "S1"), explain)
    verdict = only_verdict(votes.collect(2.0, explain))
    assert verdict.label == "unknown"
    assert verdict.reason == "1 vote of at least 2"
    assert verdict.confidence is None
    assert verdict.agreement == 0.0
    assert len(verdict.votes) == 1


def test_a_withheld_label_is_shown_as_leading_with_its_figures() -> None:
    votes = aggregator(min_confidence=0.7)
    votes.open(0.0, facts(0), due=2.0)
    votes.voted(1.0, fakes.vote(0, "S1", "happy"), explain)
    votes.voted(1.0, fakes.vote(0, "T2", "happy"), explain)
    votes.voted(1.0, fakes.vote(0, "ST1", "sad"), explain)
    verdict = only_verdict(votes.collect(2.0, explain))
    assert (verdict.label, verdict.leading) == ("unknown", "happy")
    assert "below 0.7" in verdict.reason
    assert verdict.confidence == pytest.approx((0.65 + 0.65 + 0.05) / 3)
    assert verdict.agreement == pytest.approx(2 / 3)
    assert verdict.margin == pytest.approx(1 / 3)


def test_a_late_vote_that_makes_it_sure_enough_gives_the_label() -> None:
    votes = aggregator(min_confidence=0.5)
    votes.open(0.0, facts(0), due=2.0)
    votes.voted(1.0, fakes.vote(0, "S1", "sad"), explain)
    votes.voted(1.0, fakes.vote(0, "T2", "happy"), explain)
    assert only_verdict(votes.collect(2.0, explain)).label == "unknown"
    votes.voted(3.0, fakes.vote(0, "ST1", "happy"), explain)
    assert votes.collect(3.0, explain) == []  # 0.45 for happy: still not enough
    sure = aggregator(min_confidence=0.4)
    sure.open(0.0, facts(0), due=2.0)
    sure.voted(1.0, fakes.vote(0, "S1", "sad"), explain)
    sure.voted(1.0, fakes.vote(0, "T2", "happy"), explain)
    assert only_verdict(sure.collect(2.0, explain)).label == "unknown"
    sure.voted(3.0, fakes.vote(0, "ST1", "happy"), explain)
    revised = only_verdict(sure.collect(3.0, explain))
    assert (revised.label, revised.revision, revised.reason) == ("happy", 1, "")


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        (("too little speech",) * 3, "too little speech"),
        (("too little speech", "no words", "too little speech"), "0 votes of at least 1"),
        (("too little speech",) * 2, "0 votes of at least 1"),
    ],
)
def test_if_all_abstain_for_one_reason_it_is_that_of_the_verdict(
    reasons: tuple[str, ...], reason: str
) -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), 2.0)
    for voter, why in zip(VOTERS, reasons, strict=False):
        votes.absent(0.5, ("call", 0), voter, why)
    verdict = only_verdict(votes.collect(2.0, explain))
    assert (verdict.label, verdict.leading, verdict.reason) == ("unknown", "", reason)


def test_without_any_vote_the_label_is_unknown_and_every_voter_is_missing() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=2.0)
    verdict = only_verdict(votes.collect(2.0, explain))
    assert verdict.label == "unknown"
    assert [m.voter for m in verdict.missing] == list(VOTERS)


# --- in what order --------------------------------------------------------------------------------


def test_a_verdict_waits_for_the_one_before_it() -> None:
    votes = aggregator()
    for sequence in range(3):
        votes.open(0.0, facts(sequence), due=9.0)
    vote_all(votes, 1.0, 2)
    vote_all(votes, 1.0, 1)
    assert votes.collect(1.0, explain) == []
    vote_all(votes, 2.0, 0)
    assert names(votes.collect(2.0, explain)) == [("Verdict", 0), ("Verdict", 1), ("Verdict", 2)]


def test_one_stream_does_not_wait_for_another() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0, "slow"), due=9.0)
    votes.open(0.0, facts(0, "fast"), due=9.0)
    vote_all(votes, 1.0, 0, stream="fast")
    assert [o.stream for o in votes.collect(1.0, explain)] == ["fast"]


def test_gaps_and_the_end_keep_their_places() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=9.0)
    votes.append(fakes.gap(1))
    votes.open(0.0, facts(2), due=9.0)
    votes.append(StreamEnded(stream="call", sequence=3, position=99))
    vote_all(votes, 1.0, 2)
    assert votes.collect(1.0, explain) == []
    vote_all(votes, 1.0, 0)
    assert names(votes.collect(1.0, explain)) == [
        ("Verdict", 0),
        ("Gap", 1),
        ("Verdict", 2),
        ("StreamEnded", 3),
    ]


def test_a_gap_that_is_next_comes_at_once() -> None:
    votes = aggregator()
    votes.append(fakes.gap(0))
    assert votes.collect(0.0, explain) == [fakes.gap(0)]


def test_what_is_shed_becomes_a_gap_in_its_place() -> None:
    votes = aggregator()
    for sequence in range(2):
        votes.open(0.0, facts(sequence), due=9.0)
    votes.shed(("call", 1), "overload")
    assert votes.collect(0.0, explain) == []
    vote_all(votes, 1.0, 0)
    _, gap = votes.collect(1.0, explain)
    assert gap == Gap(
        stream="call",
        sequence=1,
        start=fakes.SECOND,
        end=fakes.SECOND + 16,
        reason="overload",
    )


def test_what_has_its_verdict_is_not_shed_any_more() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=1.0)
    votes.collect(1.0, explain)
    votes.shed(("call", 0), "overload")
    assert votes.collect(9.0, explain) == []


def test_a_vote_for_what_was_shed_changes_nothing() -> None:
    votes = aggregator()
    votes.open(0.0, facts(0), due=9.0)
    votes.shed(("call", 0), "overload")
    vote_all(votes, 1.0, 0)
    assert names(votes.collect(1.0, explain)) == [("Gap", 0)]


# --- revisions ------------------------------------------------------------------------------------


def late(label: str) -> tuple[Aggregator, list[Outcome]]:
    """S1 says happy in time; T2 and ST1 say `label` after the verdict."""
    votes = aggregator()
    votes.open(0.0, facts(0), due=1.0)
    votes.voted(0.5, fakes.vote(0, "S1", "happy"), explain)
    votes.collect(1.0, explain)
    votes.voted(2.0, fakes.vote(0, "T2", label), explain)
    votes.voted(2.0, fakes.vote(0, "ST1", label), explain)
    return votes, votes.collect(2.0, explain)


def test_late_votes_that_change_the_label_make_a_revision() -> None:
    _, outcomes = late("sad")
    verdict = outcomes[-1]
    assert isinstance(verdict, Verdict)
    assert (verdict.label, verdict.sequence) == ("sad", 0)
    assert verdict.revision == len(outcomes)
    assert verdict.missing == ()


def test_late_votes_that_agree_make_none() -> None:
    _, outcomes = late("happy")
    assert outcomes == []


def test_revisions_are_numbered_without_holes() -> None:
    votes = aggregator(priority=("ST1", "T2", "S1"))
    votes.open(0.0, facts(0), due=1.0)
    revisions = list(votes.collect(1.0, explain))
    for now, (voter, label) in enumerate((("S1", "happy"), ("T2", "sad"), ("ST1", "fear")), 2):
        votes.voted(float(now), fakes.vote(0, voter, label), explain)
        revisions += votes.collect(float(now), explain)
    assert [v.label for v in revisions if isinstance(v, Verdict)] == [
        "unknown",
        "happy",
        "sad",
        "fear",
    ]
    assert [v.revision for v in revisions if isinstance(v, Verdict)] == [0, 1, 2, 3]


def test_after_the_time_for_revisions_a_vote_changes_nothing() -> None:
    votes = aggregator(revise_s=5.0)
    votes.open(0.0, facts(0), due=1.0)
    votes.collect(1.0, explain)
    assert votes.closed(5.999) == []
    assert votes.closed(6.0) == [("call", 0)]
    vote_all(votes, 6.0, 0)
    assert votes.collect(6.0, explain) == []


def test_a_segment_is_closed_at_once_when_everybody_has_answered() -> None:
    votes = aggregator(revise_s=5.0)
    votes.open(0.0, facts(0), due=9.0)
    vote_all(votes, 1.0, 0)
    assert votes.closed(1.0) == []
    votes.collect(1.0, explain)
    assert votes.closed(1.0) == [("call", 0)]
    assert votes.closed(99.0) == []


def test_the_last_late_answer_closes_the_segment_once() -> None:
    votes = aggregator(revise_s=5.0)
    votes.open(0.0, facts(0), due=1.0)
    votes.voted(0.5, fakes.vote(0, "S1"), explain)
    votes.collect(1.0, explain)
    votes.absent(2.0, ("call", 0), "T2", "was killed")
    assert votes.closed(2.0) == []
    votes.voted(3.0, fakes.vote(0, "ST1"), explain)
    assert votes.closed(3.0) == [("call", 0)]
    assert votes.closed(99.0) == []


# --- what it says of itself -----------------------------------------------------------------------


def test_next_due_is_the_next_deadline_or_the_end_of_the_time_for_revisions() -> None:
    votes = aggregator(revise_s=5.0)
    assert votes.next_due() is None
    votes.open(0.0, facts(0), due=2.0)
    assert votes.next_due() == 2.0
    votes.collect(2.0, explain)
    assert votes.next_due() == 7.0
    votes.closed(7.0)
    assert votes.next_due() is None


def test_undecided_counts_what_has_no_verdict() -> None:
    votes = aggregator()
    for sequence in range(2):
        votes.open(0.0, facts(sequence), due=9.0)
    assert votes.undecided == 2
    vote_all(votes, 1.0, 0)
    votes.collect(1.0, explain)
    assert votes.undecided == 1


def test_the_stages_follow_a_segment_on_its_way() -> None:
    votes = aggregator()
    votes.open(10.0, facts(0, capture_ms=5.0, segment_ms=400.0), due=99.0)
    votes.begun(10.1, ("call", 0))
    votes.begun(10.2, ("call", 0))  # only the first counts
    votes.transcribed(10.4, transcript(0))
    vote_all(votes, 10.7, 0)
    stages = only_verdict(votes.collect(10.75, explain)).stages_ms
    expected = {"capture": 5, "segment": 400, "queue": 100, "asr": 300, "voters": 300, "vote": 50}
    assert stages == pytest.approx(expected)
    assert tuple(stages) == STAGES


moments = st.none() | st.floats(0, 3)


@fakes.patient
@given(begun=moments, transcribed=moments, voted=st.tuples(moments, moments, moments))
def test_the_stages_are_never_negative_and_add_up(
    begun: float | None, transcribed: float | None, voted: tuple[float | None, ...]
) -> None:
    votes = aggregator()
    votes.open(100.0, facts(0, capture_ms=7.0, segment_ms=11.0), due=102.0)
    happened: list[tuple[float, int]] = []
    for kind, moment in enumerate((begun, transcribed, *voted)):
        if moment is not None:
            happened.append((moment, kind))
    verdict: Verdict | None = None
    decided = 0.0
    for moment, kind in [*sorted(happened), (3.0, 9)]:
        now = 100.0 + moment
        for outcome in votes.collect(now, explain) if verdict is None else ():
            assert isinstance(outcome, Verdict)
            verdict, decided = outcome, now
        if kind == 0:
            votes.begun(now, ("call", 0))
        elif kind == 1:
            votes.transcribed(now, transcript(0))
        elif kind < 9:
            votes.voted(now, fakes.vote(0, VOTERS[kind - 2]), explain)
        for outcome in votes.collect(now, explain) if verdict is None else ():
            assert isinstance(outcome, Verdict)
            verdict, decided = outcome, now
    assert verdict is not None
    assert all(value >= 0 for value in verdict.stages_ms.values())
    total = math.fsum(verdict.stages_ms.values())
    assert total == pytest.approx(7.0 + 11.0 + 1000 * (decided - 100.0))


@fakes.patient
@given(
    st.lists(st.sampled_from(["segment", "gap"]), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_in_whatever_order_votes_come_outcomes_keep_the_order_of_the_stream(
    kinds: list[str], random: Any
) -> None:
    votes = aggregator()
    for sequence, kind in enumerate(kinds):
        if kind == "segment":
            votes.open(0.0, facts(sequence), due=100.0)
        else:
            votes.append(fakes.gap(sequence))
    segments = [s for s, kind in enumerate(kinds) if kind == "segment"]
    ballots = list(itertools.product(segments, VOTERS))
    random.shuffle(ballots)
    told = votes.collect(0.0, explain)
    for sequence, voter in ballots:
        votes.voted(1.0, fakes.vote(sequence, voter), explain)
        told += votes.collect(1.0, explain)
    assert [o.sequence for o in told] == list(range(len(kinds)))


# --- a second opinion -----------------------------------------------------------------------------


def refined(
    sequence: int = 0, rule: str = "majority", **more: Any
) -> tuple[Aggregator, Verdict, list[tuple[Key, tuple[str, ...]]]]:
    """A tie of three, decided by the tie-breaker, with a transcript."""
    votes = aggregator(method=rule, refine_margin=0.2, refine_top=3, **more)
    votes.open(0.0, facts(sequence), due=9.0)
    votes.transcribed(0.5, transcript(sequence))
    for voter, label in zip(VOTERS, ("happy", "sad", "fear"), strict=True):
        votes.voted(1.0, fakes.vote(sequence, voter, label), explain)
    return votes, only_verdict(votes.collect(1.0, explain)), votes.contested()


def test_a_close_verdict_goes_out_at_once_and_is_then_asked_about() -> None:
    votes, verdict, contested = refined()
    assert (verdict.label, verdict.revision, verdict.refinement) == ("fear", 0, None)
    assert contested == [(("call", 0), ("fear", "happy", "sad"))]
    assert votes.contested() == [], "asked once"
    assert votes.closed(1.0) == [], "kept until the answer"


def test_a_refinement_makes_a_revision_that_shows_it() -> None:
    votes, _, _ = refined()
    answer = fakes.vote(0, "refiner", "sad")
    votes.refined(2.0, answer, explain)
    revised = only_verdict(votes.collect(2.0, explain))
    assert (revised.label, revised.revision, revised.refinement) == ("sad", 1, answer)
    assert {v.voter for v in revised.votes} == set(VOTERS), "it casts no vote"
    assert revised.agreement == pytest.approx(1 / 3)
    assert votes.closed(2.0) == [("call", 0)]


@pytest.mark.parametrize("label", ["fear", "angry"])
def test_a_refinement_that_confirms_or_strays_changes_nothing(label: str) -> None:
    votes, _, _ = refined()
    votes.refined(2.0, fakes.vote(0, "refiner", label), explain)
    assert votes.collect(2.0, explain) == []
    assert votes.closed(2.0) == [("call", 0)]


def test_no_answer_means_that_the_verdict_stands() -> None:
    votes, _, _ = refined()
    votes.unrefined(2.0, ("call", 0))
    assert votes.collect(2.0, explain) == []
    assert votes.closed(2.0) == [("call", 0)]


def test_an_answer_after_the_time_for_revisions_is_nobodys() -> None:
    votes, _, _ = refined(revise_s=3.0)
    assert votes.closed(3.9) == []
    assert votes.closed(4.0) == [("call", 0)]
    votes.refined(4.1, fakes.vote(0, "refiner", "sad"), explain)
    votes.unrefined(4.1, ("call", 0))
    assert votes.collect(4.1, explain) == []


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    votes = aggregator(refine_margin=0.2, refine_top=3)
    votes.open(0.0, facts(0), due=2.0)
    votes.transcribed(0.5, transcript(0))
    votes.voted(1.0, fakes.vote(0, "S1", "sad"), explain)
    votes.refined(1.1, fakes.vote(0, "refiner", "happy"), explain)
    assert only_verdict(votes.collect(2.0, explain)).refinement is None
    assert votes.contested() == [], "one vote is not close"


def test_without_words_nobody_is_asked() -> None:
    votes = aggregator(refine_margin=0.2, refine_top=3)
    votes.open(0.0, facts(0), due=9.0)
    for voter, label in zip(VOTERS, ("happy", "sad", "fear"), strict=True):
        votes.voted(1.0, fakes.vote(0, voter, label), explain)
    assert len(votes.collect(1.0, explain)) == 1
    assert votes.contested() == []
    assert votes.closed(1.0) == [("call", 0)]


def test_a_late_vote_that_settles_it_ends_the_refiners_say() -> None:
    votes = aggregator(refine_margin=0.2, refine_top=2)
    votes.open(0.0, facts(0), due=2.0)
    votes.transcribed(0.5, transcript(0))
    votes.voted(1.0, fakes.vote(0, "S1", "happy"), explain)
    votes.voted(1.0, fakes.vote(0, "T2", "sad"), explain)
    first = only_verdict(votes.collect(2.0, explain))
    ((_, choices),) = votes.contested()
    other = next(label for label in choices if label != first.label)
    votes.refined(2.5, fakes.vote(0, "refiner", other), explain)
    assert only_verdict(votes.collect(2.5, explain)).label == other
    assert votes.closed(2.5) == [], "a voter may still come"
    votes.voted(3.0, fakes.vote(0, "ST1", first.label), explain)
    settled = only_verdict(votes.collect(3.0, explain))
    assert (settled.label, settled.revision) == (first.label, 2)
    assert votes.closed(3.0) == [("call", 0)]
