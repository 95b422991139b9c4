"""What the recorder lets through: everything once, whatever a hub repeats."""

from __future__ import annotations

import itertools

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from abhinaya.models.labels import Attributes
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.run.recorder import Inbox
from abhinaya.stream.wire.messages import (
    NodeDown,
    Notice,
    StreamEnded,
    StreamStarted,
    Verdict,
)


def ended(sequence: int, stream: str = "call") -> StreamEnded:
    return StreamEnded(stream=stream, sequence=sequence, position=sequence * fakes.SECOND)


def test_a_segment_that_was_told_as_a_gap_is_not_told_again_as_a_verdict() -> None:
    ledger = Ledger()
    assert ledger.admit(fakes.gap(0))
    assert not ledger.admit(fakes.verdict(0))
    assert not ledger.admit(fakes.gap(0))


def better(sequence: int, voters: int, label: str, revision: int = 1) -> Verdict:
    """A verdict of `sequence` by so many voters."""
    votes = tuple(fakes.vote(sequence, f"V{i}") for i in range(voters))
    return fakes.verdict(sequence, votes=votes, label=label, revision=revision)


def test_a_revision_passes_once_and_an_older_one_not_after_it() -> None:
    ledger = Ledger()
    ledger.admit(better(0, 1, "happy", 0))
    assert ledger.admit(better(0, 2, "sad", 1)) == better(0, 2, "sad", 1)
    assert not ledger.admit(better(0, 2, "sad", 1))
    assert not ledger.admit(better(0, 1, "happy", 0))
    assert ledger.admit(better(0, 3, "fear", 2)) == better(0, 3, "fear", 2)


def test_a_new_hub_that_finds_the_same_label_again_says_nothing_new() -> None:
    ledger = Ledger()
    ledger.admit(better(0, 1, "happy", 0))
    assert not ledger.admit(better(0, 1, "sad", 0))  # no more votes than before: the first stands
    assert not ledger.admit(better(0, 2, "happy", 0))
    assert not ledger.admit(better(0, 2, "sad", 0))


def test_attributes_that_come_later_are_a_revision_and_the_same_again_are_none() -> None:
    ledger, rated = Ledger(), {"attributes": Attributes(1.0, 4.0, 7.0)}
    ledger.admit(better(0, 1, "happy", 0))
    late = replace(better(0, 2, "happy", 1), **rated)
    assert ledger.admit(late) == late
    assert not ledger.admit(replace(better(0, 3, "happy", 2), **rated))


def test_a_new_hub_that_knows_more_revises_what_the_old_one_said() -> None:
    ledger = Ledger()
    ledger.admit(better(0, 0, "unknown", 0))
    assert ledger.admit(better(0, 3, "sad", 0)) == better(0, 3, "sad", 1)


def test_what_the_refiner_adds_is_told_once_and_votes_without_it_not_again() -> None:
    ledger = Ledger()
    votes = better(0, 3, "sad", 0)
    refined = replace(better(0, 3, "happy", 1), refinement=fakes.vote(0, "refiner", "happy"))
    assert ledger.admit(votes) == votes
    assert ledger.admit(refined) == refined
    assert ledger.admit(refined) is None
    assert ledger.admit(better(0, 3, "sad", 0)) is None  # of a new hub, before it has asked


def test_the_first_telling_is_revision_0_and_what_was_a_gap_stays_one() -> None:
    ledger = Ledger()
    assert ledger.admit(better(0, 2, "sad", 1)) == better(0, 2, "sad", 0)
    ledger.admit(fakes.gap(1))
    assert not ledger.admit(better(1, 3, "sad", 1))


def test_revisions_of_the_latest_segments_only_are_remembered() -> None:
    ledger = Ledger(remembered=2)
    for sequence in range(3):
        ledger.admit(better(sequence, 1, "happy", 0))
    assert not ledger.admit(better(0, 2, "sad"))
    assert ledger.admit(better(1, 2, "sad"))


def test_a_node_comes_up_once_until_it_goes_down() -> None:
    ledger = Ledger()
    down = NodeDown(node="S1-0", incarnation="1", service="S1", reason="was killed")
    assert ledger.admit(fakes.node_up())
    assert not ledger.admit(fakes.node_up())
    assert ledger.admit(down)
    assert ledger.admit(fakes.node_up())


def test_a_standing_says_where_a_successor_goes_on() -> None:
    ledger = Ledger()
    ledger.admit(StreamStarted(info=fakes.info("a", front="front-0")))
    ledger.admit(StreamStarted(info=fakes.info("b", front="front-1")))
    ledger.admit(fakes.verdict(0, "a"))
    ledger.admit(fakes.gap(1, "a"))
    (standing,) = ledger.standings("a")
    assert standing.stream == "a"
    assert standing.next_sequence == standing.acknowledged == 2
    assert standing.position == fakes.SECOND + 16
    assert standing.start_unix_s == fakes.info().start_unix_s
    assert ledger.standings("nobody") == ()


def test_an_input_is_over_when_every_stream_of_it_that_began_has_ended() -> None:
    ledger = Ledger()
    for stream in ("a", "b"):
        ledger.admit(StreamStarted(info=fakes.info(stream, of_input="call")))
    ledger.admit(ended(0, "a"))
    assert not ledger.over("call")
    ledger.admit(ended(0, "b"))
    assert ledger.over("call")


def test_the_position_never_goes_back() -> None:
    ledger = Ledger()
    ledger.admit(StreamStarted(info=fakes.info()))
    ledger.admit(fakes.verdict(0, end=500))
    ledger.admit(fakes.gap(1, end=100))
    assert ledger.standings("call")[0].position == 500


@fakes.patient
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from(["sad", "happy", "fear"])),
        max_size=40,
    )
)
def test_whatever_hubs_repeat_each_revision_is_told_once_and_changes_the_label(
    said: list[tuple[int, int, str]],
) -> None:
    ledger = Ledger()
    told: list[Verdict] = []
    for sequence, voters, label in said:
        event = ledger.admit(better(sequence, voters, label))
        if isinstance(event, Verdict):
            told.append(event)
    for sequence in range(6):
        mine = [v for v in told if v.sequence == sequence]
        assert [v.revision for v in mine] == list(range(len(mine)))
        assert all(a.label != b.label for a, b in itertools.pairwise(mine))
        assert all(len(a.votes) < len(b.votes) for a, b in itertools.pairwise(mine))


# --- provisional verdicts -------------------------------------------------------------------------


def test_the_parts_of_a_segment_pass_once_each_and_in_order() -> None:
    ledger = Ledger()
    parts = [fakes.verdict(0, part=part) for part in (1, 3, 2, 3, 4)]
    assert [v.part for v in parts if ledger.admit(v)] == [1, 3, 4]


@pytest.mark.parametrize("outcome", [fakes.verdict(0), fakes.gap(0), ended(0)])
def test_nothing_provisional_passes_after_the_outcome(outcome: Verdict) -> None:
    ledger = Ledger()
    ledger.admit(fakes.verdict(0, part=1))
    assert ledger.admit(outcome)
    assert not ledger.admit(fakes.verdict(0, part=2))


def test_the_next_segment_may_be_spoken_of_before_the_last_is_decided() -> None:
    ledger = Ledger()
    assert ledger.admit(fakes.verdict(1, part=1))
    assert ledger.admit(fakes.verdict(0))
    assert ledger.admit(fakes.verdict(1, part=2))
    assert ledger.admit(fakes.verdict(1))


def test_what_it_remembers_of_ended_streams_and_of_nodes_is_bounded() -> None:
    ledger = Ledger()
    for number in range(3000):
        name = f"episode-{number}"
        assert ledger.admit(fakes.verdict(0, name))
        assert ledger.admit(ended(1, name))
        assert ledger.admit(fakes.node_up(f"S1-{number}"))
    assert sum(bool(track.published) for track in ledger._tracks.values()) <= 100
    assert len(ledger._up) <= 1000
    # the latest may still be revised, and nothing old comes twice
    assert not ledger.admit(fakes.node_up("S1-2999"))
    assert not ledger.admit(fakes.verdict(0, "episode-0"))
    votes = (fakes.vote(0, "S1"), fakes.vote(0, "T2"))
    assert ledger.admit(fakes.verdict(0, "episode-2999", label="sad", votes=votes, revision=1))


# --- notices --------------------------------------------------------------------------------------


def taken(inbox: Inbox, *numbers: int, hub: str = "1") -> list[int]:
    """Return the numbers that are to be written."""
    new = []
    for number in numbers:
        if inbox.take(Notice(number=number, hub=hub, event=fakes.gap(number))):
            new.append(number)
            inbox.written = max(inbox.written, number)
    return new


def test_after_a_lost_notice_nothing_is_written_before_it_has_come() -> None:
    """Else the next confirmation would cover it, and the hub would forget it."""
    inbox = Inbox()
    assert taken(inbox, 1, 2, 4, 5) == [1, 2]
    assert inbox.incomplete
    assert taken(inbox, 0) == [0]
    assert inbox.incomplete
    assert taken(inbox, 2, 3, 4, 5) == [3, 4, 5]
    assert not inbox.incomplete


def test_a_new_hub_counts_from_one_again() -> None:
    inbox = Inbox()
    taken(inbox, 1, 2, 3)
    assert taken(inbox, 2, hub="2") == []
    assert inbox.incomplete
    assert taken(inbox, 1, 2, hub="2") == [1, 2]


@given(st.data())
def test_two_hubs_that_know_a_stream_bring_out_each_item_once_and_in_order(
    data: st.DataObject,
) -> None:
    """The second one begins with what is not written; the first one is late, or comes back."""
    ledger, written = Ledger(), []
    total = data.draw(st.integers(1, 8))
    items = [data.draw(st.sampled_from((fakes.gap, fakes.verdict)))(n) for n in range(total)]
    items.append(ended(total))
    reached = data.draw(st.integers(0, total))
    begin = data.draw(st.integers(0, reached))  # the front may not know yet what is written
    for item in items[:reached]:
        written.append(ledger.admit(item))
    late, others = items[reached : data.draw(st.integers(reached, total + 1))], items[begin:]
    while late or others:
        mine = data.draw(st.booleans()) if late and others else bool(late)
        written.append(ledger.admit((late if mine else others).pop(0)))
    assert [event for event in written if event is not None] == items
