from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracks import PLAIN, S, configs, cut, ramp, stretches

from abhinaya.stream.clock import to_samples
from abhinaya.stream.front.segmenter import Frame, Piece, Segmenter, deepest_pause
from abhinaya.stream.settings.config import VadConfig


def spans(pieces: list[Piece]) -> list[tuple[float, float, str, float]]:
    """Start, end and speech end in frames."""
    return [(p.start / S, p.end / S, p.cut, p.speech_end / S) for p in pieces]


def test_speech_is_padded_and_ends_with_a_pause() -> None:
    pieces, _ = cut([0.0] * 10 + [0.9] * 10 + [0.0] * 10)
    assert spans(pieces) == [(8, 22, "pause", 20)]
    assert np.array_equal(pieces[0].samples, ramp(14 * S, 8 * S))


def test_a_pause_is_known_after_min_silence_and_no_sooner() -> None:
    segmenter = Segmenter(PLAIN)
    for number in range(10):
        assert segmenter.push(ramp(S), 0.9 if number < 6 else 0.0) == []
    assert len(segmenter.push(ramp(S), 0.0)) == 1


def test_the_two_thresholds_are_hysteresis() -> None:
    assert cut([0.4] * 30)[0] == []
    pieces, _ = cut([0.6] + [0.4] * 9 + [0.3] * 10)
    assert spans(pieces) == [(0, 12, "pause", 10)]


def test_a_short_burst_is_no_speech_but_a_short_break_is_no_pause() -> None:
    assert cut([0.0] * 5 + [0.9] * 2 + [0.0] * 20)[0] == []
    pieces, _ = cut([0.0] * 5 + [0.9] * 2 + [0.0] * 4 + [0.9] + [0.0] * 20)
    assert spans(pieces) == [(3, 14, "pause", 12)]


def test_the_limit_cuts_in_the_deepest_pause_and_both_halves_meet() -> None:
    track = [0.9] * 50 + [0.5] * 5 + [0.9] * 40
    pieces, _ = cut(track)
    assert spans(pieces) == [(0, 52.5, "limit", 52.5), (52.5, 95, "end", 95)]
    assert np.array_equal(np.concatenate([p.samples for p in pieces]), ramp(95 * S))


def test_among_equally_sure_frames_the_quietest_wins() -> None:
    loud = np.full(S, 0.5, np.float32)
    quiet = np.full(S, 0.001, np.float32)
    frames = [Frame(i * S, quiet if 20 <= i < 25 else loud, 1.0, True) for i in range(40)]
    assert deepest_pause(frames, 10 * S, 40 * S) == 22 * S + S // 2
    assert deepest_pause(frames, 40 * S, 40 * S) == 40 * S


def test_the_rest_of_a_run_is_speech_however_short() -> None:
    pieces, _ = cut([0.9] * 63 + [0.0] * 20, VadConfig(max_segment_s=2.0, cut_search_s=0.0))
    assert [p.cut for p in pieces] == ["limit", "pause"]
    assert pieces[1].speech_end - pieces[1].start == 63 * S - 32000


def test_a_rest_of_pure_silence_is_no_piece() -> None:
    long_silence = VadConfig(
        min_silence_s=5.0, brief_silence_s=5.0, max_segment_s=1.0, cut_search_s=0.0
    )
    pieces, _ = cut([0.9] * 20 + [0.0] * 400, long_silence)
    assert [(p.start, p.end) for p in pieces] == [(0, 16000)]


def test_near_its_limit_a_run_ends_at_the_first_brief_silence() -> None:
    # 7.04 s of speech, a breath of 6 frames, speech again: the breath is found at once
    config = VadConfig(pad_s=0.0, min_silence_s=0.4, brief_silence_s=0.16, cut_search_s=3.0)
    track = [0.9] * 220 + [0.0] * 6 + [0.9] * 60 + [0.0] * 20
    segmenter = Segmenter(config)
    ended = {}
    for number, probability in enumerate(track):
        for piece in segmenter.push(ramp(S, number * S), probability):
            ended[number] = (piece.start, piece.end, piece.cut)
    assert ended == {
        224: (0, 220 * S, "pause"),  # five silent frames after the speech
        298: (226 * S, 286 * S, "pause"),
    }
    # the same breath early in a run is nothing
    early, _ = cut([0.9] * 60 + [0.0] * 6 + [0.9] * 100 + [0.0] * 20, config)
    assert [(p.start, p.end) for p in early] == [(0, 166 * S)]


def test_a_last_short_word_after_a_brief_silence_is_no_burst() -> None:
    config = VadConfig(pad_s=0.0, min_speech_s=0.25, brief_silence_s=0.16)
    pieces, _ = cut([0.9] * 220 + [0.0] * 6 + [0.4] * 3 + [0.0] * 20, config)
    assert [(p.start, p.end) for p in pieces] == [(0, 220 * S), (226 * S, 229 * S)]


def test_reset_forgets_all_and_goes_on_elsewhere() -> None:
    segmenter = Segmenter(PLAIN)
    for _ in range(9):
        segmenter.push(ramp(S), 0.9)
    segmenter.reset(100_000)
    assert segmenter.flush() == []
    for number in range(9):
        assert segmenter.push(ramp(S, 100_000 + number * S), 0.9) == []
    (piece,) = segmenter.flush()
    assert (piece.start, piece.end) == (100_000, 100_000 + 9 * S)


def reference_runs(track: Sequence[float], config: VadConfig) -> list[list[int]]:
    """Speech frames of each run that is more than a burst."""
    runs: list[list[int]] = []
    run: list[int] = []
    for number, probability in enumerate(track):
        if run and (number - run[-1] - 1) * S >= to_samples(config.min_silence_s):
            runs.append(run)
            run = []
        threshold = config.end_threshold if run else config.start_threshold
        if probability >= threshold:
            run.append(number)
    runs.append(run)
    return [run for run in runs if len(run) * S >= to_samples(config.min_speech_s)]


@settings(max_examples=300, deadline=None)
@given(stretches, configs, st.integers(0, S - 1))
def test_laws_of_any_track(shape: list[tuple[float, int]], config: VadConfig, tail: int) -> None:
    track = [probability for probability, count in shape for _ in range(count)]
    pieces, segmenter = cut(track, config, tail)
    total = len(track) * S + tail
    assert segmenter.position == total
    end = 0
    for piece in pieces:
        assert end <= piece.start < piece.speech_end <= piece.end <= total
        assert piece.end - piece.start <= to_samples(config.max_segment_s)
        assert np.array_equal(piece.samples, ramp(piece.end - piece.start, piece.start))
        end = piece.end
    heard = np.zeros(total, bool)
    for piece in pieces:
        heard[piece.start : piece.end] = True
    # With settings so odd that a piece may be nothing but silence, that silence is dropped; and a
    # brief silence near the limit lies between two pieces. Speech is in a piece in any case.
    shortest = config.max_segment_s - config.cut_search_s
    brief = config.brief_silence_s < config.min_silence_s
    whole = config.min_silence_s + 0.064 < shortest and not brief
    for run in reference_runs(track, config):
        spans = [(run[0], run[-1])] if whole else [(number, number) for number in run]
        for first, last in spans:
            assert heard[first * S : (last + 1) * S].all()
    assert [p for p in pieces if p.cut == "end"] in ([], pieces[-1:])


@pytest.mark.parametrize("silence", [0.2, 0.4, 0.6])
def test_latency_is_min_silence_in_whole_frames(silence: float) -> None:
    segmenter = Segmenter(VadConfig(min_silence_s=silence))
    for _ in range(20):
        segmenter.push(ramp(S), 0.9)
    frames = -(-to_samples(silence) // S)
    given = [segmenter.push(ramp(S), 0.0) for _ in range(frames)]
    assert [len(pieces) for pieces in given] == [0] * (frames - 1) + [1]
    assert given[-1][0].speech_end == 20 * S
