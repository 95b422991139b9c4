"""Recordings that are damaged in the middle: a loss of the right length, and on behind it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_fakes import encode

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.sources.media.mpeg import RawBytes, find_frames
from abhinaya.stream.sources.media.timeline import Timeline

SECONDS = 20
KINDS = {
    "a.mp3": ("libmp3lame", None),
    "b.mp3": ("libmp3lame", None),  # without a length tag
    "a.aac": ("aac", "adts"),
    "a.ac3": ("ac3", None),
    "a.flac": ("flac", None),
    "a.ogg": ("libopus", None),
    "a.webm": ("libopus", None),
    "a.mkv": ("aac", "matroska"),
    "a.m4a": ("aac", "mp4"),
    "a.ts": ("aac", "mpegts"),
}


def climbing() -> np.ndarray[Any, Any]:
    """[n, 1] at 48 kHz: noise, and a pitch for each second, by which its place is known."""
    time = np.arange(SECONDS * 48_000) / 48_000
    noise = 0.02 * np.random.default_rng(2).standard_normal(len(time))
    samples = 0.4 * np.sin(2 * np.pi * (300 + 100 * np.floor(time)) * time) + noise
    return samples.astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def recordings() -> dict[str, bytes]:
    made = {}
    for name, (codec, container) in KINDS.items():
        target = io.BytesIO()
        kind = container or {"ogg": "ogg", "webm": "webm"}.get(name[2:], name[2:])
        options = {"write_xing": "0"} if name == "b.mp3" else {}
        encode(target, climbing(), 48_000, codec, kind, options)
        made[name] = target.getvalue()
    return made


@pytest.mark.parametrize("damage", ["zeros", "noise"])
@pytest.mark.parametrize("name", KINDS)
def test_audio_goes_on_after_a_hole_at_its_place(
    tmp_path: Path, recordings: dict[str, bytes], name: str, damage: str
) -> None:
    data = bytearray(recordings[name])
    begin, end = round(0.4 * len(data)), round(0.6 * len(data))
    random = np.random.default_rng(4)
    data[begin:end] = bytes(end - begin) if damage == "zeros" else random.bytes(end - begin)
    (path := tmp_path / name).write_bytes(data)
    said: list[str] = []
    source = open_source(InputConfig(str(path)), said.append)
    samples, losses = [np.zeros(0, np.float32)], []
    for chunk in source.chunks():
        if chunk.lost_samples:
            losses.append((sum(map(len, samples)) / SAMPLE_RATE, chunk.lost_samples / SAMPLE_RATE))
            assert chunk.lost_reason in ("it is damaged there", "its time stamps jump")
        samples += [np.zeros(chunk.lost_samples, np.float32), chunk.samples[:, 0]]
    heard = np.concatenate(samples)
    assert len(heard) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.3)
    # a container in clusters or pages loses whole ones
    assert 2.5 < sum(missing_s for _, missing_s in losses) < 9.0
    assert losses[0][0] == pytest.approx(8.0, abs=2.5)
    for second in (1, 3, 17, 18):
        part = heard[round((second + 0.25) * SAMPLE_RATE) :][: SAMPLE_RATE // 2]
        pitch = 2.0 * int(np.abs(np.fft.rfft(part)).argmax())
        assert pitch == pytest.approx(300 + 100 * second, abs=8), f"at {second} s, {losses}"


def test_a_tag_between_frames_is_no_damage(recordings: dict[str, bytes]) -> None:
    data = recordings["b.mp3"]
    raw = RawBytes(lambda at, count: data[at : at + count])
    assert find_frames(data) == data.find(b"\xff\xfb")
    assert raw.lost_s(b"ID3" + bytes(5000), []) == 0
    assert raw.lost_s(bytes(240), []) == 0  # nothing is known yet


def test_time_stamps_are_believed_within_bounds() -> None:
    def holes(*stamps: float | None, longest_s: float = 1e9, lost_s: float = 0.0) -> list[float]:
        line, position_s, found = Timeline(stamps[0], 0.0), 0.0, []
        for number, stamp in enumerate(stamps):
            hole_s = line.hole_s(stamp, position_s, lost_s if number == 1 else 0.0, longest_s)
            found.append(round(hole_s, 3))
            position_s += hole_s + 1.0
        return found

    assert holes(7, 8, 9) == [0, 0, 0]
    assert holes(7, 8.05, 11, 12) == [0, 0, 2, 0]
    assert holes(7, 5, 6, 7) == [0, 0, 0, 0]  # a part that begins again
    assert holes(7, 1e5, 9) == [0, 0, 0]
    assert holes(7, 20, 21, longest_s=5.0) == [0, 0, 0]
    assert holes(None, None, None, lost_s=3.0) == [0, 3, 0]
    # damage that the time stamps leave out moves what follows
    assert holes(0, 1, 2, 5, lost_s=3.0) == [0, 3, 0, 2]


def test_time_stamps_that_leave_a_hole_before_every_frame_are_wrong() -> None:
    line, position_s, holes_s = Timeline(0.0, 0.0), 0.0, 0.0
    for number in range(500):
        hole_s = line.hole_s(number * 1.0, position_s, 0.0, 1e9)
        position_s, holes_s = position_s + hole_s + 0.02, holes_s + hole_s
    assert line.wrong
    assert holes_s < 20


def test_a_track_that_appears_later_does_not_end_the_run(tmp_path: Path) -> None:
    target = io.BytesIO()
    encode(target, climbing()[: 44_100 * 15], 44_100, "aac", "flv")
    data = target.getvalue()
    at, number = 13, 0
    while number < 500:  # tags of 11 bytes, their data, and their length
        at, number = at + 15 + int.from_bytes(data[at + 1 : at + 4], "big"), number + 1
    picture = bytes([0x22]) + bytes(40)
    tag = b"\x09" + len(picture).to_bytes(3, "big") + data[at + 4 : at + 8] + bytes(3) + picture
    (path := tmp_path / "a.flv").write_bytes(
        data[:at] + tag + len(tag).to_bytes(4, "big") + data[at:]
    )
    said: list[str] = []
    source = open_source(InputConfig(str(path)), said.append)
    assert sum(len(chunk.samples) for chunk in source.chunks()) / SAMPLE_RATE > 14.9
    assert said == [f"{path}: a further track appeared later and was not heard"]
