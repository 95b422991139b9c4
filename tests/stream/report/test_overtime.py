"""The numbers over time, against calls whose numbers are known beforehand."""

from __future__ import annotations

import random

import pytest

from abhinaya.models.labels import LABELS
from abhinaya.stream.report.shares import parts, shares
from abhinaya.stream.report.talk import calls, talk
from abhinaya.stream.sinks.rows import Decided, Lost
from abhinaya.stream.sinks.track import Track


def heard(start_s, end_s, label="neutral", stream="call", segment=0, **changes):
    return Decided(
        stream=stream, segment=segment, start_s=start_s, end_s=end_s, label=label, **changes
    )


def lost(start_s, end_s, stream="call", segment=0):
    return Lost(stream=stream, segment=segment, start_s=start_s, end_s=end_s)


def in_a_row(labels, length_s=5.0):
    return [heard(i * length_s, (i + 1) * length_s, label) for i, label in enumerate(labels)]


def tracked(rows, **how):
    track = Track(**how)
    for row in rows:
        track.add(row.label, row.start_s, row.end_s, row.agreement)
    return track


def changes(rows, **how):
    return [(c.at_s, c.before, c.after) for c in tracked(rows, **how).changes]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["neutral"] * 4 + ["angry"] + ["neutral"] * 4, []),  # one odd segment changes nothing
        (["neutral"] * 6 + ["angry"] * 6, [(30.0, "neutral", "angry")]),
        (["sad"] * 4 + ["happy", "sad"] + ["happy"] * 8, [(30.0, "sad", "happy")]),
        (["sad", "happy"] * 50, []),
    ],
)
def test_a_change_that_lasts_is_dated_after_the_last_of_the_old(labels, expected):
    assert changes(in_a_row(labels)) == [(0.0, "unknown", labels[0]), *expected]


def test_a_margin_of_one_would_flicker():
    assert len(changes(in_a_row(["sad", "happy"] * 50), margin=1.0)) == 100


def test_a_divided_vote_weighs_less():
    for agreement, labels in ((1.0, ["sad", "happy"]), (0.2, ["sad"])):
        late = [heard(15 + 5 * i, 20 + 5 * i, "happy", agreement=agreement) for i in range(4)]
        assert [c[2] for c in changes([*in_a_row(["sad"] * 3), *late])] == labels


def test_unknown_is_evidence_for_nothing():
    track = tracked([heard(9, 30, "unknown")])
    assert (track.label, track.changes) == ("unknown", [])


def test_shares_and_the_longest_run():
    rows = [
        heard(0, 4, "sad"),
        heard(6, 10, "sad"),
        heard(10, 12, "happy"),
        heard(20, 26, "sad"),
        heard(26, 99, "angry", final=False),
    ]
    found = shares(rows)
    assert {label: share.seconds for label, share in found.items()} == {"sad": 14, "happy": 2}
    assert (found["sad"].run_start_s, found["sad"].run_s) == (0, 10)
    assert found["happy"].run_s == 2
    assert shares([]) == {}


def test_a_gap_and_a_long_silence_end_a_run():
    def run_s(*rows):
        return shares(rows)["neutral"].run_s

    assert run_s(heard(0, 4), lost(4, 5), heard(5, 8)) == 4
    assert run_s(heard(0, 4), heard(34, 37)) == 37
    assert run_s(heard(0, 4), heard(34.1, 37)) == 4


def test_parts_of_a_call():
    rows = [heard(0, 10, "sad"), heard(15, 25, "happy"), heard(45, 55, "angry"), lost(60, 80)]
    assert parts(rows, 80.0, 4) == [
        {"sad": 10, "happy": 5}, {"happy": 5}, {"angry": 10}, {"gap": 20}
    ]  # fmt: skip


def test_parts_lose_no_second():
    dice = random.Random(4)
    rows, at_s, seconds = [], 0.0, dict.fromkeys(LABELS, 0.0)
    for _ in range(3000):
        start_s = at_s + dice.expovariate(1 / 4)
        at_s = start_s + dice.uniform(0.3, 10)
        label = dice.choice(LABELS)
        seconds[label] += at_s - start_s
        rows.append(heard(start_s, at_s, label))
    for count in (1, 4, 1024):
        found = parts(rows, at_s, count)
        assert len(found) == count
        assert max(part.total() for part in found) <= at_s / count + 1e-6
        for label in LABELS:
            assert sum(part[label] for part in found) == pytest.approx(seconds[label])


A, B = "call/agent", "call/customer"


def talked(rows, duration_s):
    return talk((A, B), rows, duration_s)


def test_who_talks_interrupts_and_is_silent():
    found = talked(
        [
            heard(1, 5, stream=A),
            heard(9, 12, stream=B),
            heard(11, 14, stream=A),  # interrupts the customer, both for 1 s
            heard(14.2, 16, stream=A),  # the same turn
            heard(15.8, 18, stream=B),  # 0.2 s at once are padding, no interruption
        ],
        20.0,
    )
    agent, customer = found.channels[A], found.channels[B]
    assert (agent.turns, customer.turns) == (2, 2)
    assert (agent.interruptions, customer.interruptions) == (1, 0)
    assert agent.talk_s == pytest.approx(4 + 3 + 1.8)
    assert customer.talk_s == pytest.approx(3 + 2.2)
    assert found.share(A) == pytest.approx(8.8 / 14)
    assert found.overlap_s == pytest.approx(1.2)
    assert found.silence_s == pytest.approx(1 + 4 + 0.2 + 2)
    assert found.longest_silence_s == 4
    assert found.dead_air == 1


def test_an_interruption_counts_also_if_the_other_goes_on_in_another_segment():
    rows = [heard(0, 10, stream=A), heard(9.8, 13, stream=B), heard(10, 14, stream=A)]
    found = talked(rows, 14.0)
    assert found.channels[B].interruptions == 1
    assert found.channels[A].interruptions == 0


def test_what_was_not_heard_is_no_silence():
    found = talked([heard(0, 2, stream=A), lost(2, 9, stream=A), heard(10, 12, stream=A)], 12.0)
    assert (found.silence_s, found.channels[A].talk_s, found.share(B)) == (1, 4, 0)


def test_the_order_in_which_channels_are_told_does_not_matter_and_nothing_is_lost():
    dice = random.Random(7)
    rows = []
    for name in (A, B):
        at_s = 0.0
        for i in range(200):
            start_s = at_s + dice.expovariate(1 / 3)
            at_s = start_s + dice.uniform(0.4, 10)
            rows.append(heard(start_s, at_s, stream=name, segment=i))
    duration_s = max(row.end_s for row in rows)
    found = talked(sorted(rows, key=lambda row: row.start_s), duration_s)
    assert talked(rows, duration_s) == found
    assert found.overlap_s > 0
    total_s = sum(channel.talk_s for channel in found.channels.values())
    assert total_s - found.overlap_s + found.silence_s == pytest.approx(duration_s)


def test_channels_of_one_input_are_a_call():
    assert calls(["a/left", "b", "a/right", "c/left"]) == [("a/left", "a/right")]
