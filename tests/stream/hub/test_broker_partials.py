"""Speech that is still going on, as the hub sees it: parts in idle time, and never in the way."""

from __future__ import annotations

from typing import Any

import fakes
import msgspec
import pytest
from desk import FRONT, SERVICES, Desk
from msgspec.structs import replace

from abhinaya.stream.settings.config import DeadlineConfig, VoteConfig
from abhinaya.stream.wire.messages import (
    Activity,
    Cancel,
    Died,
    End,
    Refused,
    Task,
    Verdict,
)

LIMIT_S = DeadlineConfig().provisional_s


def node(service: str, number: int = 0) -> bytes:
    return f"{service}-{number}".encode()


def line_up(*services: str) -> dict[str, Any]:
    """Settings for a run of just these services."""
    worker = fakes.config().asr
    voters = {service: worker for service in services if service != "asr"}
    return {"voters": voters, "asr": worker if "asr" in services else None}


def talking(*services: str, **changes: Any) -> Desk:
    """A live stream whose segment 0 all services have answered quickly; segment 1 is to come."""
    services = services or SERVICES
    hub = Desk(**(line_up(*services) | changes)).up(*services).front(live=True)
    hub.say(FRONT, fakes.segment(0))
    hub.answer(0, *services)
    hub.told.clear()
    hub.notices.clear()
    return hub


def parts(hub: Desk, service: str, number: int = 0) -> list[tuple[int, int]]:
    tasks = hub.to(node(service, number), Task)
    return [(task.sequence, task.part) for task in tasks if task.part]


def says(hub: Desk, service: str, part: int = 1, sequence: int = 1, **changes: Any) -> None:
    task = fakes.task(sequence, part=part)
    hub.say(node(service), fakes.answer(task, service, **changes))


def cancels(hub: Desk, service: str, number: int = 0) -> list[tuple[int, int]]:
    return [(c.sequence, c.part) for c in hub.to(node(service, number), Cancel)]


# --- from part to verdict -------------------------------------------------------------------------


def test_a_part_goes_to_the_fast_and_the_words_to_those_who_need_them() -> None:
    hub = talking()
    hub.say(FRONT, fakes.partial(1))
    assert parts(hub, "S1") == parts(hub, "asr") == [(1, 1)]
    (task,) = hub.to(node("S1"), Task)
    assert not task.final
    assert task.samples is not None
    assert parts(hub, "T2") == parts(hub, "ST1") == []
    says(hub, "asr")
    assert parts(hub, "T2") == parts(hub, "ST1") == [(1, 1)]
    assert [t.transcript for t in hub.to(node("T2"), Task)] == ["words of 1"]


def test_the_verdict_is_given_when_all_who_were_asked_have_answered() -> None:
    hub = talking()
    hub.say(FRONT, fakes.partial(1, length=32))
    for service in ("S1", "asr", "T2"):
        says(hub, service, label="sad") if service != "asr" else says(hub, service)
        assert hub.passing() == []
    says(hub, "ST1")
    (verdict,) = hub.passing()
    assert (verdict.sequence, verdict.part, verdict.revision, verdict.final) == (1, 1, 0, False)
    assert (verdict.label, len(verdict.votes), verdict.missing) == ("sad", 3, ())
    assert verdict.end - verdict.start == 32
    assert verdict.transcript is not None
    assert not verdict.transcript.final
    assert [n.number for n in hub.notices] == [0], "nobody need confirm it"


def test_at_the_limit_those_present_decide() -> None:
    hub = talking()
    hub.say(FRONT, fakes.partial(1))
    says(hub, "S1")
    hub.tick(LIMIT_S - 0.01)
    assert hub.passing() == []
    hub.tick(0.02)
    (verdict,) = hub.passing()
    assert [v.voter for v in verdict.votes] == ["S1"]
    assert {m.voter: m.reason for m in verdict.missing} == {
        "T2": "late for a provisional label",
        "ST1": "late for a provisional label",
    }
    assert verdict.transcript is None


def test_words_that_come_late_are_told_with_the_next_part() -> None:
    hub = talking("asr", "S1")
    hub.say(FRONT, fakes.partial(1, part=1))
    says(hub, "S1", part=1)
    hub.tick(LIMIT_S + 0.01)
    says(hub, "asr", part=1)
    hub.say(FRONT, fakes.partial(1, part=2))
    says(hub, "S1", part=2)
    hub.tick(LIMIT_S + 0.01)
    first, second = hub.passing()
    assert first.transcript is None
    assert second.transcript is not None
    assert (second.part, second.transcript.part) == (2, 1)
    hub.say(FRONT, fakes.segment(1))
    says(hub, "asr", part=2)
    hub.answer(1, "S1", "asr")
    hub.say(FRONT, fakes.partial(2))
    says(hub, "S1", sequence=2)
    hub.tick(LIMIT_S + 0.01)
    assert hub.passing()[-1].transcript is None, "they were of the segment before"


def test_what_is_known_of_segments_that_are_over_is_forgotten() -> None:
    hub = talking()
    for part in (1, 2):
        hub.say(FRONT, fakes.partial(1, part=part))
        says(hub, "asr", part=part)
    hub.say(FRONT, fakes.gap(1))
    says(hub, "asr", part=2)
    assert list(hub.broker._coordinator.segments) == []
    assert not hub.broker._coordinator._partials


def test_words_alone_are_worth_telling() -> None:
    hub = talking("asr", "S1")
    hub.say(FRONT, fakes.partial(1))
    says(hub, "asr")
    hub.tick(LIMIT_S + 0.01)
    (verdict,) = hub.passing()
    assert (verdict.label, verdict.votes) == ("unknown", ())
    assert verdict.reason
    assert verdict.transcript is not None
    assert verdict.transcript.text == "words of 1"


def test_fewer_votes_than_the_quorum_have_no_label() -> None:
    hub = talking("S1", "T2", vote=VoteConfig(quorum=2))
    hub.say(FRONT, fakes.partial(1))
    says(hub, "S1")
    hub.tick(LIMIT_S + 0.01)
    assert hub.passing() == []


# --- who is asked ---------------------------------------------------------------------------------


def test_a_slow_voter_is_not_asked_and_the_verdict_says_so() -> None:
    hub = Desk().up("S1", "asr").front(live=True)
    hub.say(FRONT, fakes.segment(0))
    hub.say(node("S1"), replace(fakes.vote(0, "S1"), run_ms=900.0))
    hub.answer(0, "asr")
    hub.told.clear()
    hub.say(FRONT, fakes.partial(1))
    assert parts(hub, "S1") == []
    says(hub, "asr")
    (verdict,) = hub.passing()
    reasons = {m.voter: m.reason for m in verdict.missing}
    assert reasons["S1"] == "too slow for provisional labels (900 ms)"
    assert reasons["T2"] == "no node is ready"


def test_a_voter_that_has_become_fast_again_is_asked_again() -> None:
    hub = talking("S1")

    def is_asked(after_ms: float, sequences: range) -> bool:
        for sequence in sequences:
            hub.say(FRONT, fakes.segment(sequence))
            hub.say(node("S1"), replace(fakes.vote(sequence, "S1"), run_ms=after_ms))
            hub.seen()
        hub.told.clear()
        hub.say(FRONT, fakes.partial(sequences.stop))
        return bool(parts(hub, "S1"))

    assert not is_asked(900.0, range(1, 9))
    assert not is_asked(2.0, range(9, 10)), "one fast batch proves nothing"
    assert is_asked(2.0, range(10, 19))


def test_nobody_is_asked_before_a_first_answer_but_for_the_incremental() -> None:
    hub = Desk().up("S1")
    hub.say(node("asr"), fakes.ready("asr", incremental=True, credits=9))
    hub.front(live=True)
    hub.say(FRONT, fakes.partial(0))
    assert parts(hub, "S1") == []
    assert parts(hub, "asr") == [(0, 1)]
    says(hub, "asr", sequence=0)
    (verdict,) = hub.passing()
    reasons = {m.voter: m.reason for m in verdict.missing}
    assert reasons["S1"] == "is not asked for provisional labels before it has voted once"


@pytest.mark.parametrize(("trial_ms", "asked"), [(20.0, [(0, 1)]), (700.0, [])])
def test_a_trial_tells_the_speed_before_a_first_answer(
    trial_ms: float, asked: list[tuple[int, int]]
) -> None:
    hub = Desk(**line_up("S1"))
    hub.say(node("S1"), fakes.ready("S1", trial_ms=trial_ms))
    hub.front(live=True)
    hub.say(FRONT, fakes.partial(0))
    assert parts(hub, "S1") == asked


def test_a_slow_transcriber_that_is_not_incremental_is_spared() -> None:
    hub = Desk().up(*SERVICES).front(live=True)
    hub.say(FRONT, fakes.segment(0))
    hub.say(node("asr"), replace(fakes.answer(fakes.task(0), "asr"), run_ms=800.0))
    hub.answer(0, "S1", "T2", "ST1")
    hub.say(FRONT, fakes.partial(1))
    assert parts(hub, "asr") == []
    says(hub, "S1")
    (verdict,) = hub.passing()
    assert {m.voter: m.reason for m in verdict.missing} == {
        "T2": "no transcript during speech",
        "ST1": "no transcript during speech",
    }


# --- of the lowest rank ---------------------------------------------------------------------------


def test_a_part_that_finds_no_idle_node_waits_and_the_newest_takes_its_place() -> None:
    hub = talking("S1")
    hub.say(FRONT, fakes.segment(1))
    hub.say(FRONT, fakes.partial(2))
    hub.tick(LIMIT_S + 0.01)
    hub.say(FRONT, fakes.partial(2, part=2))
    hub.answer(1, "S1")
    assert parts(hub, "S1") == [(2, 2)]
    says(hub, "S1", part=2, sequence=2)
    assert [(v.sequence, v.part) for v in hub.passing()] == [(2, 2)]


def test_an_idle_node_is_given_one_part_at_a_time_and_the_oldest_first() -> None:
    hub = Desk().up("S1")
    infos = [fakes.info(name, live=True) for name in ("a", "b", "c")]
    hub.say(FRONT, fakes.hello(*infos))
    hub.say(FRONT, fakes.segment(0, "a"))
    hub.say(node("S1"), fakes.vote(0, "S1", stream="a"))
    hub.told.clear()
    for stream, sequence in (("a", 1), ("b", 0), ("c", 0)):
        hub.say(FRONT, fakes.partial(sequence, stream=stream))
    for stream in ("a", "b", "c"):
        task = hub.to(node("S1"), Task)[-1]
        assert (task.stream, task.part) == (stream, 1)
        hub.say(node("S1"), fakes.answer(task, "S1"))
    assert [v.stream for v in hub.passing()] == ["a", "b", "c"]


def test_the_next_part_waits_for_the_one_before_and_the_newest_of_them_is_taken() -> None:
    hub = talking("S1")
    for part in (1, 2, 3):
        hub.say(FRONT, fakes.partial(1, part=part))
    assert parts(hub, "S1") == [(1, 1)]
    assert cancels(hub, "S1") == [], "no work is thrown away"
    says(hub, "S1", part=1)
    assert [v.part for v in hub.passing()] == [1]
    assert parts(hub, "S1") == [(1, 1), (1, 3)]
    says(hub, "S1", part=3)
    assert [v.part for v in hub.passing()] == [1, 3]


def test_an_older_part_is_nothing_beside_a_newer() -> None:
    hub = talking("S1")
    hub.say(FRONT, fakes.partial(1, part=2))
    hub.say(FRONT, fakes.partial(1, part=1), fakes.partial(1, part=2))
    assert parts(hub, "S1") == [(1, 2)]
    assert cancels(hub, "S1") == []


def test_without_the_words_text_voters_are_missing_at_once() -> None:
    hub = talking()
    hub.say(FRONT, fakes.partial(1))
    hub.say(node("asr"), fakes.failed(fakes.task(1, part=1), "asr", False, "noise"))
    says(hub, "S1")
    (verdict,) = hub.passing()
    assert {m.voter: m.reason for m in verdict.missing} == {
        "T2": "no transcript: noise",
        "ST1": "no transcript: noise",
    }


def test_a_node_that_dies_over_a_part_leaves_the_others_to_decide() -> None:
    hub = talking("S1", "asr")
    hub.say(FRONT, fakes.partial(1))
    says(hub, "asr")
    hub.sink(Died(name="S1-0", reason="was killed"))
    (verdict,) = hub.passing()
    assert [(m.voter, m.reason) for m in verdict.missing] == [("S1", "S1-0 was killed")]
    hub.say(node("S1"), fakes.ready("S1"))
    hub.say(FRONT, fakes.partial(1, part=2))
    assert parts(hub, "S1")[-1] == (1, 2)


def test_nobody_waits_for_a_service_without_a_node() -> None:
    hub = talking("S1", "asr", "T2")
    hub.sink(Died(name="asr-0", reason="was killed"))
    hub.say(FRONT, fakes.partial(1))
    says(hub, "S1")
    (verdict,) = hub.passing()
    assert [(m.voter, m.reason) for m in verdict.missing] == [("T2", "no transcript during speech")]
    hub.sink(Died(name="T2-0", reason="was killed"))
    hub.say(FRONT, fakes.partial(1, part=2))
    says(hub, "S1", part=2)
    assert [m.reason for m in hub.passing()[-1].missing] == ["no node is ready"]


# --- when the segment comes -----------------------------------------------------------------------


def test_the_segment_ends_what_is_provisional_of_it() -> None:
    hub = talking("S1")
    hub.say(FRONT, fakes.partial(1))
    hub.say(FRONT, fakes.segment(1))
    assert [type(m).__name__ for m in hub.to(node("S1"), Cancel | Task)] == [
        "Task",  # the part
        "Cancel",  # of the part
        "Task",  # the segment, at once
    ]
    assert cancels(hub, "S1") == [(1, 1)]
    says(hub, "S1")  # it had begun already
    hub.tick(LIMIT_S + 0.01)
    assert hub.passing() == []
    hub.answer(1, "S1", label="sad")
    hub.tick(2.0)
    assert [(v.sequence, v.label, v.revision) for v in hub.events(Verdict)] == [(1, "sad", 0)]


def test_a_part_that_comes_after_its_segment_is_nothing() -> None:
    hub = talking("S1")
    hub.say(FRONT, fakes.segment(1))
    hub.answer(1, "S1")
    hub.told.clear()
    hub.say(FRONT, fakes.partial(1), fakes.partial(3))
    assert parts(hub, "S1") == []
    assert hub.status().refused == {}


def test_who_had_parts_of_a_segment_that_is_refused_or_never_comes_is_told_to_forget() -> None:
    hub = talking("S1")
    hub.say(FRONT, fakes.partial(1))
    says(hub, "S1")
    hub.say(FRONT, fakes.segment(1, start=0))
    assert cancels(hub, "S1") == [(1, 0)]
    hub.say(FRONT, fakes.partial(2))
    says(hub, "S1", sequence=2)
    hub.say(FRONT, End(stream="call", sequence=2, position=3 * fakes.SECOND))
    assert cancels(hub, "S1") == [(1, 0), (2, 0)]


def test_a_front_that_will_not_come_back_leaves_nothing_provisional() -> None:
    hub = talking("S1")
    hub.say(FRONT, fakes.partial(1))
    hub.sink(Died(name="front-0", reason="was killed", final=True))
    says(hub, "S1")
    hub.tick(LIMIT_S + 0.01)
    assert hub.passing() == []
    assert (1, 0) in cancels(hub, "S1")


# --- what a front may say -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"part": -1}, "its part is -1, below 0"),
        ({"start": 0}, "it overlaps the item before"),
        ({"end": fakes.SECOND + 17}, "it has samples of shape (16,), not (17,)"),
        ({"end": 12 * fakes.SECOND}, "it is 11.00 s long, not up to 10 s"),
    ],
)
def test_an_impossible_part_is_refused_and_the_stream_goes_on(
    changes: dict[str, int], reason: str
) -> None:
    hub = talking("S1")
    hub.say(FRONT, fakes.partial(1, **changes))
    assert parts(hub, "S1") == []
    assert hub.status().refused == {reason: 1}
    hub.say(FRONT, fakes.partial(1))
    assert parts(hub, "S1") == [(1, 1)]


def test_what_is_another_fronts_stream_is_refused() -> None:
    hub = talking("S1")
    hub.say(b"front-1", fakes.hello(fakes.info("other"), front="front-1"))
    hub.say(b"front-1", fakes.partial(1), Activity(stream="call", position=0, speaking=True))
    assert len(hub.to(b"front-1", Refused)) == 2
    assert hub.events(Activity) == []


def test_who_speaks_is_passed_on_and_need_not_be_confirmed() -> None:
    hub = talking("S1")
    activity = Activity(stream="call", position=5, speaking=True)
    hub.say(FRONT, activity)
    assert hub.events(Activity) == [activity]
    assert [n.number for n in hub.notices] == [0]


# --- what was said before -------------------------------------------------------------------------


def contexts(hub: Desk, service: str) -> list[tuple[str, ...]]:
    tasks = hub.to(node(service), Task)
    return [task.previous if service == "asr" else task.context for task in tasks]


def test_who_asks_for_context_is_told_what_was_said_before() -> None:
    hub = Desk().up("asr", "ST1")
    hub.say(node("T2"), fakes.ready("T2", context_turns=2, credits=9))
    hub.front()
    for sequence in range(4):
        hub.say(FRONT, fakes.segment(sequence))
        hub.answer(sequence, "asr")
    assert contexts(hub, "T2") == [
        (),
        ("words of 0",),
        ("words of 0", "words of 1"),
        ("words of 1", "words of 2"),
    ]
    assert contexts(hub, "ST1") == [()] * 4


def test_the_transcriber_and_parts_have_context_as_well() -> None:
    hub = Desk()
    hub.say(node("asr"), fakes.ready("asr", context_turns=1, incremental=True))
    hub.front(live=True)
    hub.say(FRONT, fakes.segment(0))
    hub.answer(0, "asr")
    hub.say(FRONT, fakes.partial(1))
    assert contexts(hub, "asr") == [(), ("words of 0",)]


def test_text_voters_are_handed_the_translation_and_the_transcriber_the_original() -> None:
    hub = Desk()
    hub.say(node("asr"), fakes.ready("asr", context_turns=1, credits=9))
    hub.say(node("T2"), fakes.ready("T2", context_turns=1, credits=9))
    hub.front()
    for sequence in range(2):
        hub.say(FRONT, fakes.segment(sequence))
        said = fakes.answer(fakes.task(sequence), "asr")
        german = {"text": "gut", "translation": "good", "language": "de"}
        hub.say(node("asr"), msgspec.structs.replace(said, **german))
    assert contexts(hub, "asr") == [(), ("gut",)]
    assert contexts(hub, "T2") == [(), ("good",)]
    tasks = hub.to(node("T2"), Task)
    assert [(t.transcript, t.language) for t in tasks] == [("good", "en")] * 2


def test_a_segment_without_text_ends_the_context_of_the_transcriber_alone() -> None:
    hub = Desk()
    hub.say(node("asr"), fakes.ready("asr", context_turns=2, credits=9))
    hub.say(node("T2"), fakes.ready("T2", context_turns=2, credits=9))
    hub.front()
    for sequence in range(4):
        hub.say(FRONT, fakes.segment(sequence))
        said = fakes.answer(fakes.task(sequence), "asr")
        guarded = {"text": "", "reason": "the recogniser repeated itself"}
        changes = guarded if sequence == 1 else {}
        hub.say(node("asr"), msgspec.structs.replace(said, **changes))
    zero, two = "words of 0", "words of 2"
    assert contexts(hub, "asr") == [(), (zero,), (), (two,)]
    given = {task.sequence: task.context for task in hub.to(node("T2"), Task)}
    assert (given[2], given[3]) == ((zero,), (zero, two))


def test_words_of_a_part_of_later_segments_and_of_other_streams_are_no_context() -> None:
    hub = Desk()
    hub.say(node("asr"), fakes.ready("asr", incremental=True, credits=9))
    hub.say(node("T2"), fakes.ready("T2", context_turns=9, credits=9))
    hub.say(FRONT, fakes.hello(fakes.info("call", live=True), fakes.info("other", live=True)))
    hub.say(FRONT, fakes.segment(0, "other"))
    hub.say(node("asr"), fakes.answer(fakes.task(0, "other"), "asr"))
    for sequence in range(3):
        hub.say(FRONT, fakes.segment(sequence))
    hub.told.clear()
    hub.answer(2, "asr")
    hub.answer(0, "asr")
    hub.say(FRONT, fakes.partial(3))
    says(hub, "asr", sequence=3)
    hub.answer(1, "asr")
    finals = {t.sequence: t.context for t in hub.to(node("T2"), Task) if t.final}
    assert finals == {2: (), 0: (), 1: ("words of 0",)}


def test_context_is_bounded_and_ends_with_the_stream() -> None:
    hub = Desk(**line_up("asr", "T2")).up("T2")
    hub.say(node("asr"), fakes.ready("asr", context_turns=1000, credits=9))
    hub.front()
    for sequence in range(40):
        hub.say(FRONT, fakes.segment(sequence))
        hub.answer(sequence, "asr", "T2")
        hub.seen()
    longest = max(contexts(hub, "asr"), key=len)
    assert len(longest) == 16
    assert contexts(hub, "asr")[-1][-1] == "words of 38"
    hub.say(FRONT, End(stream="call", sequence=40, position=41 * fakes.SECOND))
    hub.seen()
    assert hub.stream().transcripts == {}
