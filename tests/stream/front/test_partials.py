"""What is said while someone speaks: when it is due, what it is, and that it changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from fakes import patient
from hypothesis import given, settings
from hypothesis import strategies as st
from tracks import PLAIN, S, configs, cut, ramp, stretches

from abhinaya.stream.clock import to_samples
from abhinaya.stream.front.partials import Change, Ongoing
from abhinaya.stream.front.segmenter import Piece, Segmenter
from abhinaya.stream.settings.config import VadConfig

# 3 frames of speech count, 5 of silence end it; a part after 10 frames and then every 8
CONFIG = VadConfig(
    min_speech_s=0.096,
    min_silence_s=0.16,
    pad_s=0.064,
    max_segment_s=2.0,
    cut_search_s=0.8,
    provisional_after_s=0.32,
    provisional_every_s=0.256,
)


@dataclass
class Seen:
    """What an onlooker saw, with the number of the frame after which it saw it."""

    parts: list[tuple[int, Piece]]
    changes: list[tuple[int, Change]]
    pieces: list[Piece]


def watch(track: Sequence[float], config: VadConfig = CONFIG, every: int = 1) -> Seen:
    """Look after every frame, or after every few."""
    segmenter = Segmenter(config)
    ongoing = Ongoing(config, segmenter)
    seen = Seen([], [], [])
    for number, probability in enumerate(track):
        seen.pieces += segmenter.push(ramp(S, number * S), probability)
        if number % every:
            continue
        if change := ongoing.change():
            seen.changes.append((number, change))
        if part := ongoing.partial():
            seen.parts.append((number, part))
    seen.pieces += segmenter.flush()
    if change := ongoing.change():
        seen.changes.append((len(track), change))
    return seen


def spans(parts: list[tuple[int, Piece]]) -> list[tuple[int, float, float]]:
    return [(number, part.start / S, part.end / S) for number, part in parts]


def test_a_part_is_due_after_a_while_and_then_at_intervals() -> None:
    seen = watch([0.0] * 10 + [0.9] * 40 + [0.0] * 10)
    # speech begins with frame 10, its padding with frame 8; each ends with what was heard; the
    # last falls into the silence and ends with the padding
    assert spans(seen.parts) == [(19, 8, 20), (27, 8, 28), (35, 8, 36), (43, 8, 44), (51, 8, 52)]
    for _, part in seen.parts:
        assert np.array_equal(part.samples, ramp(part.end - part.start, part.start))


def test_the_rest_of_a_run_that_was_cut_has_parts_of_its_own() -> None:
    seen = watch([0.9] * 50 + [0.5] * 5 + [0.9] * 60)
    assert [piece.start / S for piece in seen.pieces] == [0, 52.5]
    starts = {part.start / S for _, part in seen.parts}
    assert starts == {0, 52.5}
    # ten frames of it have been spoken when the limit cuts, at frame 62: its first part is due
    assert next(number for number, part in seen.parts if part.start) == 62


def test_zero_switches_parts_off_but_not_activity() -> None:
    off = VadConfig(provisional_every_s=0.0)
    seen = watch([0.9] * 200 + [0.0] * 20, off)
    assert seen.parts == []
    assert [change.speaking for _, change in seen.changes] == [True, False]


def test_activity_is_told_once_and_where_it_changed() -> None:
    seen = watch([0.0] * 10 + [0.9] * 20 + [0.0] * 10)
    assert seen.changes == [
        (12, Change(10 * S, True)),  # the third frame: no mere click
        (34, Change(30 * S, False)),  # the fifth of silence
    ]


@settings(patient, max_examples=60)
@given(stretches, configs)
def test_what_there_is_so_far_is_what_the_end_would_give(
    shape: list[tuple[float, int]], config: VadConfig
) -> None:
    segmenter = Segmenter(config)
    track = [probability for probability, count in shape for _ in range(count)]
    for number, probability in enumerate(track[:400]):
        segmenter.push(ramp(S, number * S), probability)
        if number % 7:
            continue
        so_far = segmenter.so_far()
        flushed = copy.deepcopy(segmenter).flush()
        assert [(p.start, p.end, p.speech_end) for p in so_far] == [
            (p.start, p.end, p.speech_end) for p in flushed
        ]
        for a, b in zip(so_far, flushed, strict=True):
            assert np.array_equal(a.samples, b.samples)


@settings(patient, max_examples=60)
@given(stretches, configs, st.sampled_from([0.0, 0.25, 1.0]), st.integers(1, 9))
def test_whoever_looks_the_pieces_are_the_same(
    shape: list[tuple[float, int]], config: VadConfig, every_s: float, every: int
) -> None:
    track = [probability for probability, count in shape for _ in range(count)]
    looked = VadConfig(
        **{name: getattr(config, name) for name in VadConfig.__slots__ if "provis" not in name},
        provisional_after_s=0.25,
        provisional_every_s=every_s,
    )
    seen = watch(track, looked, every)
    alone, _ = cut(track, config)
    assert [(p.start, p.end, p.cut) for p in seen.pieces] == [
        (p.start, p.end, p.cut) for p in alone
    ]
    for a, b in zip(seen.pieces, alone, strict=True):
        assert np.array_equal(a.samples, b.samples)


@settings(patient, max_examples=60)
@given(stretches, st.integers(1, 9))
def test_a_part_is_the_beginning_of_a_piece(shape: list[tuple[float, int]], every: int) -> None:
    track = [probability for probability, count in shape for _ in range(count)]
    seen = watch(track, CONFIG, every)
    starts = {piece.start: piece for piece in seen.pieces}
    speech = [number * S for number, change in seen.changes if change.speaking]
    for number, part in seen.parts:
        assert part.start in starts
        assert 0 < part.end - part.start <= to_samples(CONFIG.max_segment_s)
        assert part.end <= (number + 1) * S
        assert min(speech) <= number * S
    assert [c.speaking for _, c in seen.changes] == [
        i % 2 == 0 for i in range(len(seen.changes))
    ], "on and off by turns"


@pytest.mark.parametrize("config", [PLAIN, VadConfig()])
def test_parts_are_bounded_in_number(config: VadConfig) -> None:
    seen = watch([0.9] * 1000, config)
    seconds = 1000 * S / 16_000
    assert 0 < len(seen.parts) <= len(seen.pieces) + seconds / config.provisional_every_s


def test_a_silence_that_may_be_the_end_has_a_part_at_once() -> None:
    pausing = VadConfig(
        min_silence_s=0.4,
        pad_s=0.15,
        provisional_after_s=1.5,
        provisional_every_s=1.0,
        provisional_pause_s=0.2,
    )
    track = [0.0] * 10 + [0.9] * 20 + [0.0] * 9 + [0.9] * 20 + [0.0] * 20
    seen = watch(track, pausing)
    # seven frames of silence after the speech; the second time, the next is the segment
    assert [(number, part.speech_end // S) for number, part in seen.parts] == [(36, 30), (65, 59)]
    (piece,) = seen.pieces
    last = seen.parts[-1][1]
    assert (last.start, last.end) == (piece.start, piece.end), "all of it is known by then"


def test_a_pause_is_told_once_and_only_if_parts_are_wanted() -> None:
    pausing = VadConfig(min_silence_s=2.0, provisional_after_s=1.5, provisional_pause_s=0.2)
    track = [0.9] * 20 + [0.0] * 60
    assert [number for number, _ in watch(track, pausing).parts] == [26]
    off = VadConfig(min_silence_s=2.0, provisional_pause_s=0.2, provisional_every_s=0.0)
    assert watch(track, off).parts == []
