"""What the hub does with each message, without sockets and with a clock that is moved by hand."""

from __future__ import annotations

import math
from typing import Any

import fakes
import numpy as np
import pytest
from desk import FRONT, SERVICES, Desk, desk
from msgspec.structs import replace

from abhinaya.models.labels import LABELS, Attributes
from abhinaya.models.vote.combiner import Combiner, Member
from abhinaya.models.vote.fitted import Fitted, Layers
from abhinaya.stream.settings.config import DeadlineConfig, FlowConfig, WorkerConfig
from abhinaya.stream.settings.vote import VoteConfig
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.messages import (
    Beat,
    Cancel,
    Credit,
    Died,
    Drain,
    End,
    Failed,
    FrontDown,
    Gap,
    Introduce,
    Message,
    NodeDown,
    NodeUp,
    Notice,
    Payload,
    Ready,
    Refused,
    Remark,
    Seen,
    Segment,
    StreamEnded,
    StreamStarted,
    Subscribe,
    Task,
    ToSink,
    Transcript,
    Verdict,
    Vote,
    Welcome,
)

# --- who may say what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [fakes.segment(0), fakes.vote(0, "S1"), Beat(name="x")],
    ids=lambda m: type(m).__name__,
)
def test_an_unknown_peer_is_asked_to_introduce_itself(message: Message) -> None:
    hub = Desk()
    hub.say(b"who", message)
    assert hub.told == [(b"who", Introduce())]


def test_a_hundred_queued_messages_of_an_unknown_peer_are_answered_once_a_second() -> None:
    """A cut of minutes heals: 414 `NodeUp` within a second, once."""
    hub = desk()
    hub.told.clear()
    for _ in range(100):
        hub.say(b"who", Beat(name="who"))
        hub.sink(Seen(hub="hub-1-1", number=1), b"what")
        hub.tick(0.009)
    assert hub.told == [(b"who", Introduce()), (b"what", Introduce())]
    hub.tick(0.2)
    hub.say(b"who", Beat(name="who"))
    assert hub.told[2:] == [(b"who", Introduce())]


def test_a_node_that_reconnects_is_no_new_node_and_gets_its_tasks_again() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    ups = hub.events(NodeUp)
    for _ in range(5):  # more often than a task is tried
        hub.say(b"S1-0", fakes.ready("S1"))
    assert hub.events(NodeUp) == ups
    assert [task.sequence for task in hub.to(b"S1-0", Task)] == [0] * 6
    hub.say(b"S1-0", fakes.ready("S1", incarnation="2"))
    assert len(hub.events(NodeUp)) == len(ups) + 1


def test_a_node_that_leaves_keeps_its_tasks_and_gets_no_more() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    hub.say(b"S1-0", fakes.ready("S1", credits=0))
    assert hub.to(b"S1-0", Drain)
    hub.say(FRONT, fakes.segment(1))
    hub.answer(0)
    assert [task.sequence for task in hub.to(b"S1-0", Task)] == [0]
    assert hub.verdict().missing == ()
    hub.say(b"stranger", fakes.ready("S1", node="S1-9", credits=0))
    assert hub.to(b"stranger", Drain)


def test_live_segments_that_a_cut_has_held_back_get_time_and_are_no_sign_of_overload() -> None:
    hub = Desk().up(*SERVICES).front(live=True)
    live_s = fakes.config().deadlines.live_s
    for sequence in range(3):
        late = fakes.segment(sequence, sent_unix_s=1_000_060.0, held_ms=60_000.0)
        hub.say(FRONT, late)
    hub.tick(live_s + 0.5)
    assert hub.events(Verdict) == []
    assert not hub.broker._coordinator.admission._arrivals
    for sequence in range(3):
        hub.answer(sequence)
    assert [v.missing for v in hub.events(Verdict)] == [(), (), ()]
    hub.say(FRONT, fakes.segment(3))
    hub.tick(live_s + 0.5)
    assert hub.events(Verdict)[-1].missing


def test_a_front_whose_items_were_lost_is_asked_until_it_sends_them_again() -> None:
    hub = desk()
    hub.say(FRONT, *(fakes.segment(sequence) for sequence in (1, 2, 3)))
    assert len(hub.to(FRONT, Introduce)) == 1
    hub.tick(1.1)
    hub.say(FRONT, Beat(name="front-0"))  # the request was lost too, and nothing else may be sent
    assert len(hub.to(FRONT, Introduce)) == 2
    hub.say(FRONT, fakes.hello(), fakes.segment(0))
    hub.tick(1.1)
    hub.say(FRONT, Beat(name="front-0"))
    assert len(hub.to(FRONT, Introduce)) == 2


@pytest.mark.parametrize(
    "message", [Seen(hub="hub-1-1", number=1), Died(name="S1-0", reason="x", final=True)]
)
def test_an_unknown_sink_is_asked_to_introduce_itself_and_not_obeyed(message: Message) -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    hub.sink(message, b"who")
    assert hub.told[-1] == (b"who", Introduce())
    assert hub.events(NodeDown) == []
    assert hub.to(FRONT, Credit) == []


@pytest.mark.parametrize("message", [fakes.vote(0, "S1"), fakes.failed(fakes.task(0), "S1", False)])
def test_a_front_may_not_vote(message: Message) -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0), message)
    (refused,) = hub.to(FRONT, Refused)
    assert refused.reason == f"a front may not send {type(message).__name__}"
    hub.answer()
    assert len(hub.verdict().votes) == 3


@pytest.mark.parametrize(
    "message", [fakes.segment(0), fakes.gap(0), End(stream="call", sequence=0, position=0)]
)
def test_a_node_may_not_send_audio(message: Message) -> None:
    hub = desk()
    hub.say(b"S1-0", message)
    (refused,) = hub.to(b"S1-0", Refused)
    assert refused.reason == f"a node may not send {type(message).__name__}"
    assert hub.events(Verdict) == hub.events(Gap) == hub.events(StreamEnded) == []


def test_a_front_may_not_become_a_node() -> None:
    hub = desk()
    hub.say(FRONT, fakes.ready("S1", node="front-0"))
    assert len(hub.to(FRONT, Refused)) == 1
    hub.say(FRONT, fakes.segment(0))
    assert hub.to(FRONT, Task) == []
    hub.answer()
    assert hub.verdict().missing == ()


def test_a_node_may_not_become_a_front() -> None:
    hub = desk()
    hub.say(b"S1-0", fakes.hello(fakes.info("other"), front="S1-0"))
    assert len(hub.to(b"S1-0", Refused)) == 1
    assert len(hub.events(StreamStarted)) == 1


def test_one_peer_may_not_be_two_nodes() -> None:
    """Else the loss of one would take the record of the other with it."""
    hub = desk()
    hub.say(b"S1-0", fakes.ready("T2", node="T2-9"))
    assert len(hub.to(b"S1-0", Refused)) == 1
    hub.tick(10.0)
    hub.tick(10.0)
    assert sorted(e.node for e in hub.events(NodeDown) if "silent" in e.reason) == [
        "S1-0",
        "ST1-0",
        "T2-0",
        "asr-0",
    ]


def test_a_front_may_not_send_in_the_name_of_another() -> None:
    hub = desk()
    hub.say(b"front-1", fakes.hello(fakes.info("mine", front="front-1"), front="front-1"))
    hub.say(b"front-1", fakes.segment(0, "call"))
    assert hub.to(b"front-1", Refused)[0].reason == "stream 'call' is not this front's"
    hub.say(b"front-1", fakes.hello(fakes.info("call", front="front-1"), front="front-1"))
    assert hub.to(b"front-1", Refused)[1].reason == "stream 'call' is being sent by front-0"


@pytest.mark.parametrize("changes", [{"first_sequences": ()}, {"first_sequences": (0, 0)}])
def test_a_greeting_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    hub = Desk()
    hub.say(FRONT, fakes.hello(**changes))
    assert len(hub.to(FRONT, Refused)) == 1
    assert hub.to(FRONT, Welcome) == []


@pytest.mark.parametrize("first", [-1, 2**64 - 1])
def test_a_first_sequence_number_that_cannot_be_counted_on_from_is_refused(first: int) -> None:
    hub = Desk()
    hub.say(FRONT, fakes.hello(first=first))
    assert len(hub.to(FRONT, Refused)) == 1
    assert hub.events(StreamStarted) == []


@pytest.mark.parametrize(
    ("ready", "reason"),
    [
        (
            replace(fakes.ready("S1"), gives=(replace(fakes.service("S1"), name="S7"),)),
            "'S7' is not a service of this run (S1, ST1, T2, asr)",
        ),
        (fakes.ready("S1", labels=("happy", "bored", "calm")), "labels bored, calm are not among"),
        (fakes.ready("S1", labels=()), "S1 announces no labels"),
        (fakes.ready("S1", trial=(0.5, 0.5)), "S1 announces 2 probabilities for its trial, not 8"),
        (fakes.ready("S1", kind="transcript"), "S1 must give a vote, not a transcript"),
        (fakes.ready("asr", kind="vote"), "asr must give a transcript, not a vote"),
        (
            fakes.ready("asr", needs=("audio", "transcript")),
            "asr needs a transcript, but is the transcriber",
        ),
        (replace(fakes.ready("S1"), gives=()), "it has no services"),
        (fakes.ready("S1 S1"), "it has a service twice"),
    ],
)
def test_a_node_that_does_not_fit_is_refused_by_name(ready: Ready, reason: str) -> None:
    hub = Desk().front()
    hub.say(b"odd", ready)
    (refused,) = hub.to(b"odd", Refused)
    assert refused.reason.startswith(reason)
    (down,) = hub.events(NodeDown)
    assert down.reason == f"refused: {refused.reason}"
    assert hub.events(NodeUp) == []
    hub.say(FRONT, fakes.segment(0))
    assert hub.to(b"odd", Task) == []


def test_a_model_that_the_combiner_was_not_fitted_on_is_refused_with_the_remedy() -> None:
    ready = fakes.ready("S1")
    (given,) = ready.gives
    members = {"S1": Member(given.model, given.version), "T2": Member(given.model, "older")}
    hub = Desk(combiner=Combiner("mean", members | {"ST1": Member()})).up("asr", "S1", "T2", "ST1")
    (down,) = hub.events(NodeDown)
    assert down.service == "T2"
    assert down.reason.startswith("refused: it was fitted on fake older as T2, not")
    assert "fit vote.combiner again" in down.reason
    assert {n.service for n in hub.events(NodeUp)} == {"asr", "S1", "ST1"}


def test_a_fitted_combiner_decides() -> None:
    """One regression that listens to T2 alone, against a majority of two."""
    voters = ("S1", "ST1", "T2")
    weights = np.hstack([np.zeros((8, 16)), np.eye(8)])
    models = Fitted(LABELS, {voters: Layers((weights,), (np.zeros(8),))})
    fitted = Combiner("logistic", dict.fromkeys(voters, Member()), fitted=models)
    vote = VoteConfig(method="logistic")
    hub = Desk(combiner=fitted, vote=vote).up(*SERVICES).front()
    hub.say(FRONT, fakes.segment(0))
    hub.answer(0, "asr", "S1", "ST1")
    hub.answer(0, "T2", label="sad")
    verdict = hub.verdict()
    assert (verdict.label, verdict.agreement) == ("sad", pytest.approx(1 / 3))
    assert verdict.confidence is not None
    assert verdict.confidence <= 0.65


# --- a segment on its way -------------------------------------------------------------------------


def test_each_node_gets_what_it_said_it_needs_and_nothing_else() -> None:
    hub = desk()
    segment = fakes.segment(0)
    hub.say(FRONT, segment)
    (audio,) = hub.to(b"S1-0", Task)
    assert audio.samples is segment.samples
    assert audio.transcript is None
    assert (audio.stream, audio.sequence, audio.start, audio.end) == ("call", 0, 0, 16)
    assert hub.to(b"T2-0", Task) == hub.to(b"ST1-0", Task) == []
    hub.answer(0, "asr")
    (text,) = hub.to(b"T2-0", Task)
    assert (text.samples, text.transcript) == (None, "words of 0")
    (both,) = hub.to(b"ST1-0", Task)
    assert both.samples is segment.samples
    assert both.transcript == "words of 0"


def test_a_live_segment_has_the_live_deadline_and_a_file_the_patient_one() -> None:
    patience = DeadlineConfig(live_s=2.0, file_s=60.0)
    # a live one has its deadline from the end of speech, also if that was long before it arrived
    for live, before_s, wait_s in ((1, 0, 2.0), (1, 0.5, 1.5), (1, 9, 1.0), (1, -9, 2), (0, 9, 60)):
        hub = Desk(deadlines=patience).front(bool(live))
        hub.say(FRONT, fakes.segment(0, sent_unix_s=1_000_000.0 + before_s))
        hub.tick(wait_s - 0.1)
        assert hub.events(Verdict) == []
        hub.tick(0.1)
        assert [m.reason for m in hub.verdict().missing] == ["late: no node is ready"] * 3


def test_a_verdict_has_its_words_also_where_no_voter_reads_them() -> None:
    for words in ("words of 0", ""):
        hub = Desk(voters={"S1": WorkerConfig("x")}).up("asr", "S1").front()
        hub.say(FRONT, fakes.segment(0))
        hub.answer(0, "S1")
        assert hub.events(Verdict) == []
        if words:
            hub.answer(0, "asr")
            transcript = hub.verdict().transcript
            assert transcript is not None
            assert transcript.text == words
        else:  # a transcriber that fails delays the verdict no longer
            failed = Failed(stream="call", sequence=0, service="asr", reason="broke", retry=False)
            hub.say(b"asr-0", failed)
            assert hub.verdict().transcript is None


def test_after_the_time_for_revisions_a_task_is_cancelled() -> None:
    hub = Desk().up("S1").front(live=True)
    hub.say(FRONT, fakes.segment(0))
    hub.tick(2.0)
    assert hub.to(b"S1-0", Cancel) == []
    hub.say(b"S1-0", Beat(name="S1-0"))
    hub.tick(2.5)
    hub.say(b"S1-0", Beat(name="S1-0"))
    hub.tick(2.5)
    assert hub.to(b"S1-0", Cancel) == [Cancel(stream="call", sequence=0)]


# --- answers that do not count --------------------------------------------------------------------


def odd(**changes: Any) -> Vote:
    return replace(fakes.vote(0, "S1"), **changes)


EIGHTH = (1 / len(LABELS),) * len(LABELS)


@pytest.mark.parametrize(
    ("vote", "reason"),
    [
        (odd(label="bored"), "S1 voted 'bored', which it did not announce"),
        (odd(label="sad"), "S1 voted 'sad', which it did not announce"),
        (odd(voter="ST1"), "a node of S1 answered as ST1"),
        (odd(probabilities=EIGHTH[:7]), "S1 gave 7 probabilities, not 8"),
        (odd(probabilities=()), "S1 gave 0 probabilities, not 8"),
        (odd(probabilities=(math.nan, *EIGHTH[1:])), "S1 gave numbers that are not prob"),
        (odd(probabilities=(math.inf, *EIGHTH[1:])), "S1 gave numbers that are not prob"),
        (odd(probabilities=(1.5, -0.5, *[0.0] * 6)), "S1 gave numbers that are not prob"),
        (odd(probabilities=(0.2,) * 8), "S1 gave numbers that are not prob"),
        (odd(probabilities=(0.0,) * 8), "S1 gave numbers that are not prob"),
        (odd(attributes=Attributes(1, 4, 7)), "S1 gave attributes, which it did not announce"),
        (odd(label="", probabilities=None), "S1 voted '', which it did not announce"),
    ],
)
def test_a_vote_that_cannot_be_counted_is_missing_with_the_reason(vote: Vote, reason: str) -> None:
    hub = Desk().up("asr", "T2", "ST1").front()
    hub.say(b"S1-0", fakes.ready("S1", labels=("happy", "angry")))
    hub.say(FRONT, fakes.segment(0))
    hub.say(b"S1-0", vote)
    hub.answer(0, "asr", "T2", "ST1")
    verdict = hub.verdict()
    (missing,) = verdict.missing
    assert missing.voter == "S1"
    assert missing.reason.startswith(reason)
    assert [v.voter for v in verdict.votes] == ["T2", "ST1"]
    assert list(hub.status().refused) == [missing.reason]


def test_a_second_transcript_does_not_replace_the_first() -> None:
    hub = Desk().up("asr").front()
    hub.say(FRONT, fakes.segment(0))
    hub.answer(0, "asr")
    first = fakes.answer(fakes.task(0), "asr")
    assert isinstance(first, Transcript)
    hub.say(b"asr-0", replace(first, text="other"))
    hub.up("T2")
    assert [t.transcript for t in hub.to(b"T2-0", Task)] == ["words of 0"]


def test_what_is_counted_as_refused_stays_small_whatever_a_peer_invents() -> None:
    hub = desk()
    for sequence in range(500):
        hub.say(b"S1-0", odd(label=f"mood {sequence}"))
    refused = hub.status().refused
    assert sum(refused.values()) == 500
    assert len(refused) <= 100


def fits(verdict: Verdict) -> bool:
    """Whether a sink can read it: what it cannot read ends the run."""
    notice = Notice(number=1, hub="hub-1", event=verdict)
    return Decoder[Message](ToSink).decode(Encoder().encode(notice)) == notice


def test_a_verdict_can_be_told_however_long_the_reasons_of_its_voters_are() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    for service in SERVICES:
        chatter = fakes.failed(fakes.task(0), service, retry=False, reason="x" * 200_000)
        hub.say(f"{service}-0".encode(), chatter)
    verdict = hub.verdict()
    assert fits(verdict)
    assert all(missing.reason for missing in verdict.missing)


def test_a_transcript_without_end_does_not_count() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    first = fakes.answer(fakes.task(0), "asr")
    assert isinstance(first, Transcript)
    hub.say(b"asr-0", replace(first, text="no " * 70_000))
    hub.answer(0, "S1")
    verdict = hub.verdict()
    assert verdict.transcript is None
    assert verdict.missing[0].reason == "no transcript: asr gave a transcript that is too long"


# --- segments that do not count -------------------------------------------------------------------

MAX = 10 * fakes.SECOND
BAD_SEGMENTS = [
    (
        fakes.segment(1, start=fakes.SECOND, end=fakes.SECOND + 15),
        "it has samples of shape (16,), not (15,)",
    ),
    (
        fakes.segment(1, samples=Payload.of(np.zeros((4, 4), np.int16))),
        "it has samples of shape (4, 4), not (16,)",
    ),
    (fakes.segment(1, start=8, end=24), "it overlaps the item before"),
    (fakes.segment(1, start=-32, end=-16), "it overlaps the item before"),
    (fakes.segment(1, start=3000, end=2000), "it overlaps the item before"),
    (fakes.segment(1, end=fakes.SECOND, length=16), "it is 0.00 s long, not up to 10 s"),
    (fakes.segment(1, length=MAX + 16), "it is 10.00 s long, not up to 10 s"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_SEGMENTS)
def test_a_malformed_segment_becomes_a_gap_and_the_stream_goes_on(
    bad: Segment, reason: str
) -> None:
    hub = Desk().up("S1").front()
    hub.say(FRONT, fakes.segment(0), bad, replace(fakes.segment(99), sequence=2))
    assert [t.sequence for t in hub.to(b"S1-0", Task)] == [0, 2]
    hub.tick(60.0)
    (gap,) = hub.events(Gap)
    assert gap.reason == f"refused by the hub: {reason}"
    assert gap.sequence == 1
    assert gap.start <= gap.end
    assert [v.sequence for v in hub.events(Verdict)] == [0, 2]
    assert hub.status().refused == {reason: 1}


def test_a_segment_that_comes_twice_is_dropped_counted_and_acknowledged_again() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    hub.told.clear()
    hub.say(FRONT, fakes.segment(0))
    assert hub.told == [(FRONT, Credit(stream="call", acknowledged=0, window=4))]
    assert hub.status().doubles == 1


def test_a_hole_makes_the_hub_ask_for_everything_again() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0), fakes.segment(2))
    assert len(hub.to(FRONT, Introduce)) == 1
    hub.say(FRONT, fakes.hello())
    assert hub.to(FRONT, Welcome)[-1].streams[0].next_sequence == 1
    assert hub.status().refused == {"out of turn": 1}


def test_nothing_is_taken_after_the_end() -> None:
    hub = desk()
    hub.say(FRONT, End(stream="call", sequence=0, position=16), fakes.segment(1))
    assert [e.position for e in hub.events(StreamEnded)] == [16]
    assert hub.to(b"S1-0", Task) == []


def test_a_gap_of_the_front_and_its_remarks_are_told() -> None:
    hub = desk()
    remark = Remark(source="call.wav", text="has 3 damaged packets")
    hub.say(FRONT, fakes.gap(0), remark)
    assert hub.events(Gap) == [fakes.gap(0)]
    assert hub.events(Remark) == [remark]


# --- flow -----------------------------------------------------------------------------------------


def test_a_welcome_tells_where_each_stream_stands_and_its_window() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0), fakes.segment(1))
    hub.answer(0)
    hub.seen()
    hub.say(FRONT, fakes.hello())
    standing = hub.to(FRONT, Welcome)[-1].streams[0]
    assert (standing.next_sequence, standing.acknowledged, standing.position) == (
        2,
        1,
        fakes.SECOND + 16,
    )
    assert standing.window == 4
    assert len(hub.events(StreamStarted)) == 1


def test_credit_is_given_only_when_the_verdict_is_written_down() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0), fakes.segment(1))
    hub.answer(0)
    assert hub.to(FRONT, Credit) == []
    hub.seen()
    assert hub.to(FRONT, Credit) == [Credit(stream="call", acknowledged=1, window=4)]


def test_past_its_backlog_the_oldest_unstarted_live_segment_becomes_a_gap() -> None:
    hub = Desk().front(live=True)  # a backlog of 3, and nobody works
    hub.say(FRONT, *[fakes.segment(s) for s in range(5)])
    gaps = hub.events(Gap)
    assert [g.sequence for g in gaps] == [0, 1]
    assert [(g.start, g.end) for g in gaps] == [(0, 16), (fakes.SECOND, fakes.SECOND + 16)]
    assert {g.reason for g in gaps} == {"overload: 3 later segments were waiting"}


def test_what_a_node_has_begun_is_not_shed() -> None:
    hub = Desk().front(live=True)
    hub.say(b"S1-0", fakes.ready("S1", credits=1))
    hub.say(FRONT, *[fakes.segment(s) for s in range(5)])
    assert hub.events(Gap) == []
    hub.tick(2.0)
    assert [(type(e).__name__, e.sequence) for e in hub.events(Verdict) + hub.events(Gap)] == [
        ("Verdict", 0),
        ("Verdict", 2),
        ("Verdict", 3),
        ("Verdict", 4),
        ("Gap", 1),
    ]


def test_a_file_is_never_shed() -> None:
    hub = Desk().front(live=False)
    hub.say(FRONT, *[fakes.segment(s) for s in range(20)])
    assert hub.events(Gap) == []
    # what goes beyond the front's credit is not taken: it is asked for again
    assert hub.status().open_segments == 4
    assert hub.status().refused == {"out of turn": 16}


def test_of_many_files_the_first_are_processed_and_the_others_wait() -> None:
    flow = FlowConfig(file_window=4, files_window=7, live_backlog=3)
    hub = Desk(flow=flow).up("S1")

    def window_of(stream: str) -> int:
        standings = [s for w in hub.to(stream.encode(), Welcome) for s in w.streams]
        return standings[-1].window

    windows = []
    for number in range(9):
        name = f"file{number}"
        hub.say(name.encode(), fakes.hello(fakes.info(name, front=name), front=name))
        windows.append(window_of(name))
    assert windows == [4, 3, 0, 0, 0, 0, 0, 0, 0]
    hub.say(b"file0", *[fakes.segment(s, "file0") for s in range(4)])
    hub.tick(0.1)
    # the second ends, and the next one has its place; its front hears of it
    hub.say(b"file1", End(stream="file1", sequence=0, position=0, reason=""))
    hub.tick(0.1)
    assert [(c.stream, c.window) for c in hub.to(b"file2", Credit)] == [("file2", 3)]
    # that one finds no speech for a while, so another may begin; it keeps its window
    for name, windows in (("file3", [3]), ("file4", [3])):
        for _ in range(4):
            for peer in range(9):
                hub.say(f"file{peer}".encode(), Beat(name=f"file{peer}"))
            hub.tick(0.6)
        assert [c.window for c in hub.to(name.encode(), Credit)] == windows
    assert [c.window for c in hub.to(b"file2", Credit)] == [3]
    assert hub.status().refused == {}


# --- deaths ---------------------------------------------------------------------------------------


def test_a_silent_front_is_told_once_and_again_after_it_came_back() -> None:
    hub = desk()
    hub.tick(3.0)
    assert hub.events(FrontDown) == []
    hub.tick(0.5)
    hub.tick(5.0)
    (down,) = hub.events(FrontDown)
    assert (down.front, down.incarnation, down.reason) == (
        "front-0",
        "1",
        "has been silent for 3.5 s",
    )
    hub.say(FRONT, Beat(name="front-0"))
    hub.tick(4.0)
    assert len(hub.events(FrontDown)) == 2


def test_a_front_whose_streams_have_ended_may_be_silent() -> None:
    hub = desk()
    hub.say(FRONT, End(stream="call", sequence=0, position=0))
    hub.tick(99.0)
    assert hub.events(FrontDown) == []


def test_the_streams_of_a_front_that_stays_dead_end_with_the_reason() -> None:
    hub = Desk().up(*SERVICES)
    hub.say(FRONT, fakes.hello(fakes.info("call"), fakes.info("done")))
    hub.say(FRONT, fakes.segment(0), End(stream="done", sequence=0, position=0))
    hub.sink(Died(name="front-0", reason="was killed", final=True))
    assert [e.stream for e in hub.events(StreamEnded)] == ["done"]
    hub.answer(0)
    ended = hub.events(StreamEnded)[-1]
    assert (ended.stream, ended.sequence, ended.position) == ("call", 1, 16)
    assert ended.reason == "was killed"
    assert len(hub.events(Verdict)) == 1


def test_the_streams_of_a_front_that_will_be_started_again_go_on() -> None:
    hub = desk()
    hub.sink(Died(name="front-0", reason="was killed"))
    assert hub.events(StreamEnded) == []
    hub.say(b"front-0b", fakes.hello(incarnation="2"), fakes.segment(0))
    assert hub.to(b"S1-0", Task)


def test_a_node_that_hangs_or_is_silent_is_told_and_must_introduce_itself_again() -> None:
    hub = desk()
    hub.say(b"S1-0", Beat(name="S1-0", work_age_s=10.5))
    hub.say(b"T2-0", Beat(name="T2-0", work_age_s=9.5))
    assert [d.reason for d in hub.events(NodeDown)] == ["has been stuck for 10.5 s in one batch"]
    assert [r.restart for r in hub.to(b"S1-0", Refused)] == [True]
    hub.say(b"S1-0", Beat(name="S1-0"))
    assert hub.to(b"S1-0", Introduce)
    hub.tick(3.5)
    assert {d.node for d in hub.events(NodeDown)} == {"S1-0", "T2-0", "asr-0", "ST1-0"}


def test_a_file_hears_that_it_need_not_wait_also_if_a_new_front_brings_it_to_light() -> None:
    hub = Desk(flow=FlowConfig(file_window=4, files_window=4)).up(*SERVICES)
    for number in range(3):
        name = f"front-{number}"
        if number == 2:
            hub.now += 2.5  # the first file is idle, which no review has seen
        hub.say(name.encode(), fakes.hello(fakes.info(f"s{number}", front=name), front=name))
        hub.tick(0.1)
    assert [w.streams[0].window for w in hub.to(b"front-1", Welcome)] == [0]
    assert [credit.window for credit in hub.to(b"front-1", Credit)] == [4]


def test_a_node_that_cannot_be_reached_is_lost() -> None:
    hub = desk()
    hub.deliver(hub.broker.unreachable(hub.now, b"S1-0"))
    assert [d.reason for d in hub.events(NodeDown)] == ["is not reachable"]
    hub.deliver(hub.broker.unreachable(hub.now, b"S1-0"))
    hub.deliver(hub.broker.unreachable(hub.now, b"nobody"))
    assert len(hub.events(NodeDown)) == 1


def test_a_peer_whose_message_cannot_be_used_must_go_and_a_stranger_is_only_counted() -> None:
    hub = desk()
    for peer in (b"stranger", FRONT, b"S1-0"):
        hub.deliver(hub.broker.malformed(hub.now, peer, "a name of 100 kB"))
    assert hub.to(b"stranger", Message) == []
    assert hub.to(FRONT, Refused)[0].restart
    assert hub.to(b"S1-0", Refused)[0].restart
    (down,) = hub.events(NodeDown)
    assert down.reason == "sent a message that cannot be used: a name of 100 kB"
    assert hub.status().refused == {"a name of 100 kB": 3}


def test_draining_asks_every_node_of_the_run_to_finish_but_those_of_others_wait() -> None:
    assert desk().broker.drain_nodes() == []
    hub = desk(supervised=True)
    out = hub.broker.drain_nodes()
    assert {o.peer for o in out} == {f"{s}-0".encode() for s in SERVICES}
    assert all(isinstance(o.message, Drain) for o in out)


# --- sinks ----------------------------------------------------------------------------------------


def test_notices_are_numbered_from_one_without_holes() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    hub.answer(0)
    assert [n.number for n in hub.notices] == list(range(1, len(hub.notices) + 1))
    assert {n.hub for n in hub.notices} == {"hub-1-1"}


def test_a_confirmation_of_an_earlier_hub_or_run_confirms_nothing() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0))
    hub.answer(0)
    for other in ("hub-0-1", "hub-1-2", ""):
        hub.sink(Seen(hub=other, number=99))
    assert hub.to(FRONT, Credit) == []
    hub.seen()
    assert [credit.acknowledged for credit in hub.to(FRONT, Credit)] == [1]


def test_a_recorder_that_takes_over_hears_what_was_not_confirmed_and_nothing_else() -> None:
    hub = desk()
    hub.say(FRONT, fakes.segment(0), fakes.segment(1))
    hub.answer(0)
    hub.seen()
    hub.answer(1)
    hub.notices.clear()
    hub.deliver(hub.broker.unreachable(hub.now, b"recorder"))
    hub.say(FRONT, fakes.segment(2))
    hub.answer(2)
    assert hub.notices == []
    hub.sink(Subscribe(sink="recorder", confirm=True, run=fakes.RUN))
    assert [v.sequence for v in hub.events(Verdict)] == [1, 2]


def test_a_sink_that_comes_late_learns_who_is_there() -> None:
    hub = desk()
    hub.seen()
    hub.notices.clear()
    hub.sink(Subscribe(sink="recorder", confirm=True, run=fakes.RUN))
    assert {e.node for e in hub.events(NodeUp)} == {f"{s}-0" for s in SERVICES}
    assert [e.info.stream for e in hub.events(StreamStarted)] == ["call"]
    assert {n.number for n in hub.notices} == {0}


def test_status_says_what_waits_what_is_open_and_what_each_node_holds() -> None:
    hub = Desk().up("asr").front()
    hub.say(b"S1-0", fakes.ready("S1", credits=1))
    hub.say(FRONT, *[fakes.segment(s) for s in range(3)])
    hub.answer(0, "S1")
    hub.broker.refusals.add("malformed")
    status = hub.status()
    loads = {n.node: (n.held, n.done) for n in status.nodes}
    assert loads == {"asr-0": (3, 0), "S1-0": (1, 1)}
    assert status.waiting == 1
    assert status.open_segments == 3
    assert status.refused == {"malformed": 1}
    assert hub.notices[-1].number == 0
