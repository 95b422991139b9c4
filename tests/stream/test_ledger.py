"""What the recorder lets through: everything once, whatever a hub repeats."""

from __future__ import annotations

import fakes
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.stream.messages import (
    FrontDown,
    NodeDown,
    Remark,
    StreamEnded,
    StreamStarted,
    Verdict,
)
from abhinaya.stream.recorder import Ledger


def ended(sequence: int, stream: str = "call") -> StreamEnded:
    return StreamEnded(stream=stream, sequence=sequence, position=sequence * fakes.SECOND)


def test_a_verdict_passes_once() -> None:
    ledger = Ledger()
    assert ledger.is_new(fakes.verdict(0))
    assert not ledger.is_new(fakes.verdict(0))


def test_a_segment_that_was_told_as_a_gap_is_not_told_again_as_a_verdict() -> None:
    ledger = Ledger()
    assert ledger.is_new(fakes.gap(0))
    assert not ledger.is_new(fakes.verdict(0))
    assert not ledger.is_new(fakes.gap(0))


def test_the_end_passes_once() -> None:
    ledger = Ledger()
    ledger.is_new(fakes.verdict(0))
    assert ledger.is_new(ended(1))
    assert not ledger.is_new(ended(1))


def test_streams_do_not_know_of_each_other() -> None:
    ledger = Ledger()
    assert ledger.is_new(fakes.verdict(0, "a"))
    assert ledger.is_new(fakes.verdict(0, "b"))


def test_a_revision_passes_once_and_an_older_one_not_after_it() -> None:
    ledger = Ledger()
    ledger.is_new(fakes.verdict(0))
    assert ledger.is_new(fakes.verdict(0, revision=2))
    assert not ledger.is_new(fakes.verdict(0, revision=2))
    assert not ledger.is_new(fakes.verdict(0, revision=1))
    assert ledger.is_new(fakes.verdict(0, revision=3))


def test_a_revision_of_what_was_never_told_does_not_pass() -> None:
    ledger = Ledger()
    assert not ledger.is_new(fakes.verdict(0, revision=1))
    ledger.is_new(fakes.gap(0))
    assert not ledger.is_new(fakes.verdict(0, revision=1))


def test_revisions_of_the_latest_segments_only_are_remembered() -> None:
    ledger = Ledger(remembered=2)
    for sequence in range(3):
        ledger.is_new(fakes.verdict(sequence))
    assert not ledger.is_new(fakes.verdict(0, revision=1))
    assert ledger.is_new(fakes.verdict(1, revision=1))


def test_a_stream_starts_once() -> None:
    ledger = Ledger()
    assert ledger.is_new(StreamStarted(info=fakes.info()))
    assert not ledger.is_new(StreamStarted(info=fakes.info()))


def test_a_node_comes_up_once_until_it_goes_down() -> None:
    ledger = Ledger()
    down = NodeDown(node="S1-0", incarnation="1", service="S1", reason="was killed")
    assert ledger.is_new(fakes.node_up())
    assert not ledger.is_new(fakes.node_up())
    assert ledger.is_new(down)
    assert ledger.is_new(fakes.node_up())


def test_remarks_and_silent_fronts_always_pass() -> None:
    ledger = Ledger()
    for event in (
        Remark(source="call.wav", text="is quiet"),
        FrontDown(front="front-0", incarnation="1", reason="is silent"),
    ):
        assert ledger.is_new(event)
        assert ledger.is_new(event)


def test_a_standing_says_where_a_successor_of_the_front_goes_on() -> None:
    ledger = Ledger()
    ledger.is_new(StreamStarted(info=fakes.info("a", front="front-0")))
    ledger.is_new(StreamStarted(info=fakes.info("b", front="front-1")))
    ledger.is_new(fakes.verdict(0, "a"))
    ledger.is_new(fakes.gap(1, "a"))
    (standing,) = ledger.standings("front-0")
    assert standing.stream == "a"
    assert standing.next_sequence == standing.acknowledged == 2
    assert standing.position == fakes.SECOND + 16
    assert standing.start_unix_s == fakes.info().start_unix_s
    assert ledger.standings("nobody") == ()


def test_a_front_is_over_when_every_stream_it_began_has_ended() -> None:
    ledger = Ledger()
    for stream in ("a", "b"):
        ledger.is_new(StreamStarted(info=fakes.info(stream)))
    ledger.is_new(ended(0, "a"))
    assert not ledger.over("front-0")
    ledger.is_new(ended(0, "b"))
    assert ledger.over("front-0")


def test_the_position_never_goes_back() -> None:
    ledger = Ledger()
    ledger.is_new(StreamStarted(info=fakes.info()))
    ledger.is_new(fakes.verdict(0, end=500))
    ledger.is_new(fakes.gap(1, end=100))
    assert ledger.standings("front-0")[0].position == 500


@fakes.patient
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_whatever_a_hub_repeats_each_revision_is_told_once_and_upwards(
    said: list[tuple[int, int]],
) -> None:
    ledger = Ledger()
    told: list[Verdict] = []
    for sequence, revision in said:
        verdict = fakes.verdict(sequence, revision=revision)
        if ledger.is_new(verdict):
            told.append(verdict)
    for sequence in range(6):
        revisions = [v.revision for v in told if v.sequence == sequence]
        assert revisions == sorted(set(revisions))
        assert not revisions or revisions[0] == 0
    firsts = [v.sequence for v in told if v.revision == 0]
    assert firsts == sorted(set(firsts))
