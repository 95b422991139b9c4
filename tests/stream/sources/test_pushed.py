"""A pushed track is the same audio however it comes; speech that stops arriving is a segment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abhinaya.stream.front.numbering import Speech
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources.pcm import to_float
from abhinaya.stream.sources.pushed import MAX_WAITING_S, MISSING, STALL_S, TOO_SLOW, PushedTrack
from abhinaya.stream.wire.messages import End, Gap, Segment, Standing

RATE = 16_000


class Always:
    """A detector that hears speech in each frame that is not silent."""

    def probabilities(self, frames: np.ndarray, state: object) -> np.ndarray:
        return (np.abs(frames).max(axis=1) > 0.01).astype(np.float32)


class Pushed:
    """A track of linear samples whose time the test sets."""

    def __init__(self, begin: int = 0, **standing: int) -> None:
        self.now = 0.0
        self.track = PushedTrack("call", "s16le", RATE, begin, print, running=lambda: self.now)
        fields = {"next_sequence": 0, "acknowledged": 0, "position": 0, "window": 1} | standing
        self.source = self.track.opened("test", 0.0)
        self.speech = Speech(
            VadConfig(),
            self.source,
            ["call"],
            [Standing(stream="call", start_unix_s=0.0, **fields)],
            clock=lambda: self.now,
            vad=Always(),
            begin=begin,
        )

    def put(self, position: int, seconds: float, level: int = 9000) -> None:
        samples = np.full(int(seconds * RATE), level, np.int16)
        samples[::2] *= -1
        self.track.put(position, samples.tobytes(), self.now)

    def read(self) -> list[Segment | Gap | End]:
        """What is found now, read as the reader does."""
        found: list[Segment | Gap | End] = []
        while self.source.ready() and not self.speech.over:
            chunk = self.speech.next_chunk()
            items = list(self.speech.before(chunk))
            if chunk is None:
                items += self.speech.ending()
            else:
                listener = self.speech._listener
                items += self.speech.after(listener.feed(chunk.samples), chunk.stalled)
            kinds = Segment | Gap | End
            found += [i for i in items if isinstance(i, kinds) and not getattr(i, "part", 0)]
        return found


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["mulaw", "s16le"]), st.lists(st.integers(1, 4000), max_size=12))
def test_pieces_of_any_length_are_the_same_audio(encoding: str, sizes: list[int]) -> None:
    width = 1 if encoding == "mulaw" else 2
    data = np.random.default_rng(1).bytes(sum(sizes) * width)
    track = PushedTrack("call", encoding, RATE, 0, print)  # type: ignore[arg-type]
    position, got = 0, list[np.ndarray]()
    source = track.opened("test", 0.0)
    chunks = source.chunks()
    for size in sizes:
        track.put(position, data[position * width : (position + size) * width], 0.0)
        position += size
        if size % 2:
            got.append(next(chunks).samples)
    track.end("cut")
    got += [chunk.samples for chunk in chunks]
    expected = to_float(data, encoding).reshape(-1, 1)  # type: ignore[arg-type]
    assert np.array_equal(np.concatenate([np.zeros((0, 1), np.float32), *got]), expected)
    assert source.reason() == "cut"


def test_speech_that_stops_arriving_is_a_segment_and_what_comes_late_goes_on() -> None:
    pushed = Pushed()
    pushed.put(0, 2.0)
    assert not pushed.read()
    assert not pushed.source.ready()  # so others need not wait for it
    pushed.now = STALL_S + 0.1
    (segment,) = pushed.read()
    assert (segment.start, segment.end) == (0, 2 * RATE)
    assert not pushed.source.ready()
    pushed.put(2 * RATE, 1.0)  # late, but nothing is missing
    pushed.put(4 * RATE, 1.0)  # a second is
    first, gap = pushed.read()
    assert (first.start, first.end) == (2 * RATE, 3 * RATE)
    assert (gap.start, gap.end, gap.reason) == (3 * RATE, 4 * RATE, MISSING)
    pushed.track.put(5 * RATE, b"", pushed.now)  # a sender asks for what was said so far
    (asked,) = pushed.read()
    assert (asked.start, asked.end) == (4 * RATE, 5 * RATE)
    pushed.track.end()
    (end,) = pushed.read()
    assert (end.sequence, end.position, end.reason) == (4, 5 * RATE, "")


def test_a_new_process_goes_on_where_its_audio_begins() -> None:
    pushed = Pushed(begin=9 * RATE, next_sequence=3, acknowledged=2, position=5 * RATE)
    pushed.track.end("the line was cut")
    gap, end = pushed.read()
    assert (gap.sequence, gap.start, gap.end) == (3, 5 * RATE, 9 * RATE)
    assert (end.sequence, end.position, end.reason) == (4, 9 * RATE, "the line was cut")


def test_a_reader_that_is_too_slow_costs_a_gap_and_no_memory() -> None:
    pushed = Pushed()
    for second in range(40):
        pushed.put(second * RATE, 1.0, level=0)
    pushed.read()
    pushed.put(40 * RATE, 1.0)
    (gap,) = pushed.read()
    assert gap.end == 40 * RATE
    assert gap.start == pytest.approx(MAX_WAITING_S * RATE, abs=1.1 * RATE)
    assert gap.reason == TOO_SLOW
