"""From a source to numbered items: nothing skipped, nothing twice, whoever reads on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import fakes
import numpy as np
import pytest

from abhinaya.bench.demo import CALL
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.numbering import Speech, SpeechItem
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources.base import AudioChunk, InputConfig
from abhinaya.stream.sources.file import open_file
from abhinaya.stream.wire.messages import Activity, End, Gap, Segment, Standing

START = 1_000_000.0
SECOND = 16_000


@dataclass
class Planted:
    """A source that gives what the test planted."""

    audio: list[AudioChunk | SourceError]
    live: bool = False
    channels: int = 1
    description: str = "planted"
    start_unix_s: float = START
    length_s: float = 0.0
    closed: bool = field(default=False)

    def chunks(self) -> Iterator[AudioChunk]:
        for chunk in self.audio:
            if isinstance(chunk, SourceError):
                raise chunk
            yield chunk

    def reason(self) -> str:
        return ""

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def call() -> np.ndarray:
    source = open_file(InputConfig(what=str(CALL), channels="split"), print)
    return np.concatenate([chunk.samples for chunk in source.chunks()])[: 30 * SECOND]


def chunks(samples: np.ndarray, size: int) -> list[AudioChunk | SourceError]:
    return [
        AudioChunk(samples[i : i + size], START + (i + size) / SECOND)
        for i in range(0, len(samples), size)
    ]


def items(
    source: Planted,
    standings: tuple[Standing, ...] = (),
    now: float = START + 100.0,
    vad: VadConfig = VadConfig(),  # noqa: B008 - it is frozen
) -> list[SpeechItem]:
    names = [f"s{i}" for i in range(source.channels)]
    speech = Speech(vad, source, names, standings, clock=lambda: now)
    found = []
    try:
        for item in speech.items():
            found.append(item)
    except SourceError:
        found.append(None)
    return found


def numbered(found: list[SpeechItem]) -> list[Segment | Gap | End]:
    """What takes a number, in order."""
    return [i for i in found if isinstance(i, Segment | Gap | End) and not fakes.is_partial(i)]


def essence(found: list[SpeechItem]) -> list[tuple]:
    """What must not depend on how the audio was cut into chunks."""
    return [
        (
            i.stream,
            i.sequence,
            i.start,
            i.end,
            bytes(i.samples.array()),
        )
        for i in found
        if fakes.is_whole(i)
    ]


def test_each_stream_is_numbered_without_holes_and_ends_last(call: np.ndarray) -> None:
    found = items(Planted(chunks(call, 4000), channels=2))
    for stream in ("s0", "s1"):
        mine = [i for i in found if i.stream == stream]
        assert [i.sequence for i in mine] == list(range(len(mine)))
        assert isinstance(mine[-1], End)
        assert (mine[-1].position, mine[-1].reason) == (len(call), "")
        assert len(mine) >= 3


def test_chunked_equals_whole(call: np.ndarray) -> None:
    whole = essence(items(Planted(chunks(call, len(call)), channels=2)))
    pieces = essence(items(Planted(chunks(call, 777), channels=2)))
    assert len(whole) >= 4
    assert sorted(whole) == sorted(pieces)


def test_samples_travel_as_16_bit_with_the_full_scale_of_the_wire(call: np.ndarray) -> None:
    loud = np.clip(call[:, :1] * 50, -1, 1)
    found = [i for i in items(Planted(chunks(loud, 8000))) if fakes.is_whole(i)]
    wire = found[0].samples.array()
    assert wire.dtype == np.int16
    assert np.abs(wire / 32768.0 - loud[found[0].start : found[0].end, 0]).max() <= 1 / 32768


def test_lost_audio_becomes_a_gap_in_its_place_and_the_clock_goes_on(call: np.ndarray) -> None:
    one = call[:, :1]
    planted = chunks(one, 4000)
    lost = planted[10]
    assert isinstance(lost, AudioChunk)
    planted[10] = AudioChunk(lost.samples, lost.captured_unix_s, lost_samples=3 * SECOND)
    found = numbered(items(Planted(planted, live=True)))
    (gap,) = [i for i in found if isinstance(i, Gap)]
    assert (gap.start, gap.end) == (40_000, 40_000 + 3 * SECOND)
    assert [i.sequence for i in found] == list(range(len(found)))
    starts = [i.start for i in found if not isinstance(i, End)]
    assert starts == sorted(starts)
    assert found[-1].position == len(one) + 3 * SECOND


def test_what_the_device_holds_back_is_told_as_capture(call: np.ndarray) -> None:
    late = [
        AudioChunk(c.samples, c.captured_unix_s + 0.3)
        for c in chunks(call[:, :1], 4000)
        if isinstance(c, AudioChunk)
    ]
    found = [i for i in items(Planted([*late], live=True)) if fakes.is_whole(i)]
    assert found
    for item in found:
        assert item.capture_ms == pytest.approx(300, abs=1)
        spoken = item.captured_unix_s - START
        assert item.start / SECOND < spoken <= item.end / SECOND
    unhurried = items(Planted([*late], live=False))
    assert {i.capture_ms for i in unhurried if fakes.is_whole(i)} == {0.0}


def test_a_source_that_breaks_off_gives_what_it_had_and_an_end_with_the_reason(
    call: np.ndarray,
) -> None:
    planted = chunks(call[:, :1], 4000)
    broken = [*planted[:100], SourceError("planted", "breaks off at 25.0 s")]
    found = items(Planted(broken))
    assert found[-1] is None  # and it is raised
    end = found[-2]
    assert isinstance(end, End)
    assert "breaks off at 25.0 s" in end.reason
    assert [i for i in found if fakes.is_whole(i)]


@pytest.mark.parametrize(
    ("live", "length_s", "last"),
    [(False, 0.0, "unheard"), (False, 30.0, "unheard"), (True, 30.0, "unheard"), (True, 0.0, "")],
    ids=["pipe", "file", "paced file", "microphone"],
)
def test_one_that_is_asked_to_stop_finishes_what_was_begun_and_its_rest_is_a_gap(
    call: np.ndarray, live: bool, length_s: float, last: str
) -> None:
    asked = iter([False] * 20 + [True] * 1000)
    source = Planted(chunks(call[:, :1], 4000), live, length_s=length_s)
    speech = Speech(VadConfig(), source, ["s0"], (), lambda: next(asked), lambda: START)
    *before, end = numbered(list(speech.items()))
    assert isinstance(end, End)
    assert end.reason == "interrupted"
    assert end.position == max(80_000, round(length_s * SECOND))
    assert any(isinstance(item, Segment) for item in before)
    heard = max(item.end for item in before if isinstance(item, Segment))
    rest = [(item.start, item.end) for item in before if isinstance(item, Gap)]
    assert rest == ([(heard, end.position)] if last and heard < end.position else [])


def test_a_live_source_goes_on_where_its_predecessor_died_with_a_gap_for_what_was_missed(
    call: np.ndarray,
) -> None:
    standing = Standing(
        stream="s0",
        next_sequence=7,
        acknowledged=5,
        position=40 * SECOND,
        start_unix_s=START,
        window=8,
    )
    source = Planted(chunks(call[:, :1], 4000), live=True)
    found = numbered(items(source, (standing,), now=START + 60.0))
    gap = found[0]
    assert isinstance(gap, Gap)
    assert (gap.sequence, gap.start, gap.end) == (7, 40 * SECOND, 60 * SECOND)
    assert [i.sequence for i in found] == list(range(7, 7 + len(found)))
    assert all(i.start >= 60 * SECOND for i in found[1:] if fakes.is_whole(i))


def test_names_that_do_not_fit_the_channels_are_refused() -> None:
    with pytest.raises(SourceError, match="2 channels, and 1 names"):
        Speech(VadConfig(), Planted([], channels=2), ["only"], ())


# --- while somebody speaks ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard_live(call: np.ndarray) -> list[SpeechItem]:
    return items(Planted(chunks(call, 320), live=True, channels=2))


def test_whether_parts_are_told_the_segments_are_the_same_to_the_last_bit(
    call: np.ndarray, heard_live: list[SpeechItem]
) -> None:
    file = items(Planted(chunks(call, len(call)), channels=2))
    off = VadConfig(provisional_every_s=0.0)
    without = items(Planted(chunks(call, 320), live=True, channels=2), vad=off)
    assert any(fakes.is_partial(i) for i in heard_live)
    assert not any(fakes.is_partial(i) for i in without)
    assert not any(fakes.is_partial(i) or isinstance(i, Activity) for i in file)
    assert essence(heard_live) == essence(without)
    assert sorted(essence(heard_live)) == sorted(essence(file))


def test_the_parts_of_a_segment_are_numbered_and_bear_its_number(
    heard_live: list[SpeechItem],
) -> None:
    for stream in ("s0", "s1"):
        mine = [i for i in heard_live if i.stream == stream]
        parts = [i for i in mine if fakes.is_partial(i)]
        assert parts
        told: dict[int, int] = {}
        for item in mine:
            if fakes.is_partial(item):
                told[item.sequence] = told.get(item.sequence, 0) + 1
                assert item.part == told[item.sequence]
                assert item.samples.shape == (item.end - item.start,)
                assert item.sent_unix_s >= item.captured_unix_s
        outcomes = {i.sequence: i for i in mine if fakes.is_whole(i)}
        for part in parts:
            segment = outcomes[part.sequence]
            assert part.start == segment.start
            common = min(part.end, segment.end) - part.start
            assert np.array_equal(part.samples.array()[:common], segment.samples.array()[:common])
            assert mine.index(part) < mine.index(segment)


def test_who_speaks_is_told_around_each_segment(heard_live: list[SpeechItem]) -> None:
    for stream in ("s0", "s1"):
        mine = [i for i in heard_live if i.stream == stream]
        changes = [i for i in mine if isinstance(i, Activity)]
        assert [c.speaking for c in changes] == [i % 2 == 0 for i in range(len(changes))]
        assert len(changes) >= 4
        assert not changes[-1].speaking
        speaking = [
            (a.position, b.position) for a, b in zip(changes[::2], changes[1::2], strict=True)
        ]
        for segment in (i for i in mine if fakes.is_whole(i)):
            middle = (segment.start + segment.end) // 2
            assert any(a <= middle < b for a, b in speaking)


def test_numbering_of_parts_begins_anew_behind_a_gap(call: np.ndarray) -> None:
    mono = call[:, :1]
    first, second = chunks(mono, 320), chunks(mono, 320)
    lost = AudioChunk(second[0].samples, second[0].captured_unix_s, 1600)
    found = items(Planted([*first[:200], lost, *second[1:400]], live=True))
    told: dict[int, list[int]] = {}
    for item in found:
        if fakes.is_partial(item):
            told.setdefault(item.sequence, []).append(item.part)
    assert len(told) >= 2
    assert all(parts == list(range(1, len(parts) + 1)) for parts in told.values())
