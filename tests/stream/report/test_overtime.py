"""The numbers over time, against calls whose numbers are known beforehand."""

from __future__ import annotations

import random
import sys

import pytest

from abhinaya.models.labels import LABELS
from abhinaya.stream.report.bins import Bins
from abhinaya.stream.report.shares import Shares
from abhinaya.stream.report.talk import Conversation, calls
from abhinaya.stream.report.track import Track
from abhinaya.stream.sinks.rows import Decided, Lost


def heard(start_s, end_s, label="neutral", stream="call", segment=0, **changes):
    return Decided(
        stream=stream, segment=segment, start_s=start_s, end_s=end_s, label=label, **changes
    )


def lost(start_s, end_s, stream="call", segment=0):
    return Lost(stream=stream, segment=segment, start_s=start_s, end_s=end_s)


def fed(accumulator, rows):
    for row in rows:
        accumulator.add(row)
    return accumulator


def in_a_row(labels, length_s=5.0):
    return [heard(i * length_s, (i + 1) * length_s, label) for i, label in enumerate(labels)]


# --- track ----------------------------------------------------------------------------------------


def changes(rows, **how):
    return [(c.at_s, c.before, c.after) for c in fed(Track(**how), rows).changes]


def test_one_odd_segment_does_not_change_the_track():
    rows = in_a_row(["neutral"] * 4 + ["angry"] + ["neutral"] * 4)
    assert changes(rows) == [(0.0, "unknown", "neutral")]


def test_a_change_that_lasts_is_dated_where_it_began():
    rows = in_a_row(["neutral"] * 6 + ["angry"] * 6)
    assert changes(rows) == [(0.0, "unknown", "neutral"), (30.0, "neutral", "angry")]


def test_a_change_is_dated_after_the_last_of_the_old():
    rows = in_a_row(["sad"] * 4 + ["happy", "sad"] + ["happy"] * 8)
    assert changes(rows)[1:] == [(30.0, "sad", "happy")]


def test_labels_that_take_turns_do_not_make_it_flicker():
    assert len(changes(in_a_row(["sad", "happy"] * 50))) == 1


def test_a_margin_of_one_would_flicker():
    """What the test above trusts."""
    assert len(changes(in_a_row(["sad", "happy"] * 50), margin=1.0)) == 100


def test_a_divided_vote_weighs_less():
    sure = in_a_row(["sad"] * 3) + [heard(15.0 + 5 * i, 20.0 + 5 * i, "happy") for i in range(4)]
    torn = in_a_row(["sad"] * 3) + [
        heard(15.0 + 5 * i, 20.0 + 5 * i, "happy", agreement=0.2) for i in range(4)
    ]
    assert [c[2] for c in changes(sure)] == ["sad", "happy"]
    assert [c[2] for c in changes(torn)] == ["sad"]


def test_gaps_unknown_and_provisional_verdicts_are_evidence_for_nothing():
    rows = [lost(0, 9), heard(9, 30, "unknown"), heard(30, 60, "angry", final=False)]
    track = fed(Track(), rows)
    assert (track.label, track.changes) == ("unknown", [])


# --- shares ---------------------------------------------------------------------------------------


def test_shares_and_the_longest_run():
    rows = [
        heard(0, 4, "sad"),
        heard(6, 10, "sad"),
        heard(10, 12, "happy"),
        heard(20, 26, "sad"),
        heard(26, 99, "angry", final=False),
    ]
    shares = fed(Shares(), rows)
    assert shares.seconds == {"sad": 14, "happy": 2}
    assert shares.share("sad") == 14 / 16
    assert shares.share("fear") == 0
    assert (shares.longest["sad"].start_s, shares.longest["sad"].end_s) == (0, 10)
    assert shares.longest["happy"].length_s == 2


def test_a_gap_and_a_long_silence_end_a_run():
    assert fed(Shares(), [heard(0, 4), lost(4, 5), heard(5, 8)]).longest["neutral"].length_s == 4
    assert fed(Shares(), [heard(0, 4), heard(34, 37)]).longest["neutral"].length_s == 37
    assert fed(Shares(), [heard(0, 4), heard(34.1, 37)]).longest["neutral"].length_s == 4


def test_no_speech_has_no_shares():
    assert Shares().share("sad") == 0


# --- bins and quarters ----------------------------------------------------------------------------


def test_quarters_of_a_call():
    rows = [heard(0, 10, "sad"), heard(20, 30, "happy"), heard(45, 55, "angry"), lost(60, 80)]
    parts = list(fed(Bins(), rows).parts(80.0))
    assert parts == [{"sad": 10}, {"happy": 10}, {"angry": 10}, {"gap": 20}]


def test_a_segment_across_a_border_counts_on_both_sides():
    assert list(fed(Bins(), [heard(15, 25, "sad")]).parts(80.0))[:2] == [{"sad": 5}, {"sad": 5}]


def test_bins_hold_any_length_and_lose_no_second():
    dice = random.Random(4)
    bins, at_s, seconds = Bins(64), 0.0, dict.fromkeys(LABELS, 0.0)
    for _ in range(3000):
        start_s = at_s + dice.expovariate(1 / 4)
        at_s = start_s + dice.uniform(0.3, 10)
        label = dice.choice(LABELS)
        seconds[label] += at_s - start_s
        bins.add(heard(start_s, at_s, label))
        assert len(bins.bins) <= 64
    for count in (1, 4):
        parts = list(bins.parts(at_s, count))
        for label in LABELS:
            total = sum(part.get(label, 0) for part in parts)
            assert total == pytest.approx(seconds[label])


# --- conversation ---------------------------------------------------------------------------------

A, B = "call/agent", "call/customer"


def talked(rows, duration_s):
    conversation = fed(Conversation((A, B)), rows)
    return conversation.finish(duration_s)


def test_who_talks_interrupts_and_is_silent():
    talk = talked(
        [
            heard(1, 5, stream=A),
            heard(9, 12, stream=B),
            heard(11, 14, stream=A),  # interrupts the customer, both for 1 s
            heard(14.2, 16, stream=A),  # the same turn
            heard(15.8, 18, stream=B),  # 0.2 s at once are padding, no interruption
        ],
        20.0,
    )
    agent, customer = talk.channels[A], talk.channels[B]
    assert (agent.turns, customer.turns) == (2, 2)
    assert (agent.interruptions, customer.interruptions) == (1, 0)
    assert agent.talk_s == pytest.approx(4 + 3 + 1.8)
    assert customer.talk_s == pytest.approx(3 + 2.2)
    assert talk.share(A) == pytest.approx(8.8 / 14)
    assert talk.overlap_s == pytest.approx(1.2)
    assert talk.silence_s == pytest.approx(1 + 4 + 0.2 + 2)
    assert talk.longest_silence_s == 4
    assert talk.dead_air == 1


def test_an_interruption_counts_also_if_the_other_goes_on_in_another_segment():
    rows = [heard(0, 10, stream=A), heard(9.8, 13, stream=B), heard(10, 14, stream=A)]
    talk = talked(rows, 14.0)
    assert talk.channels[B].interruptions == 1
    assert talk.channels[A].interruptions == 0


def test_what_was_not_heard_is_no_silence():
    talk = talked([heard(0, 2, stream=A), lost(2, 9, stream=A), heard(10, 12, stream=B)], 12.0)
    assert talk.silence_s == 1
    assert talk.channels[A].talk_s == 2


def test_the_order_in_which_channels_are_told_does_not_matter():
    dice = random.Random(7)
    rows = []
    for name in (A, B):
        at_s = 0.0
        for i in range(200):
            start_s = at_s + dice.expovariate(1 / 3)
            at_s = start_s + dice.uniform(0.4, 10)
            rows.append(heard(start_s, at_s, stream=name, segment=i))
    duration_s = max(row.end_s for row in rows)
    by_start = talked(sorted(rows, key=lambda row: row.start_s), duration_s)
    assert talked(rows, duration_s) == by_start
    assert by_start.overlap_s > 0
    total_s = sum(c.talk_s for c in by_start.channels.values())
    assert total_s - by_start.overlap_s + by_start.silence_s == pytest.approx(duration_s)


def test_a_channel_that_never_speaks_does_not_fill_the_memory():
    conversation = Conversation((A, B))
    for i in range(10_000):
        conversation.add(heard(2 * i, 2 * i + 1, stream=A))
    assert len(conversation._waiting) <= 4096
    talk = conversation.finish(20_000.0)
    assert (talk.channels[A].talk_s, talk.silence_s) == (10_000, 10_000)
    assert talk.share(B) == 0


def test_channels_of_one_input_are_a_call():
    assert calls(["a/left", "b", "a/right", "c/left"]) == [("a/left", "a/right")]


# --- bounded memory -------------------------------------------------------------------------------


def test_eight_hours_leave_accumulators_small():
    dice = random.Random(1)
    track, shares, bins = Track(), Shares(), Bins()
    for i in range(6000):
        row = heard(5 * i, 5 * i + 4, dice.choice(LABELS), segment=i)
        for accumulator in (track, shares, bins):
            accumulator.add(row)
    assert len(bins.bins) <= 1024
    assert len(track.changes) <= 6000
    assert len(shares.longest) == len(shares.seconds) == 8
    assert sys.getsizeof(track.__dict__) < 1000
