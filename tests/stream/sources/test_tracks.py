"""Which sound of a file is heard: of several tracks one, of several channels their mix."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from source_fakes import encode, tone, write_tracks

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.sources.base import Block
from abhinaya.stream.sources.condition import condition
from abhinaya.stream.sources.media.tracks import Track, choice, preferred
from abhinaya.stream.sources.stdin import open_stdin

SILENCE = np.zeros((3 * SAMPLE_RATE, 1), np.float32)


def sine(pitch: int, seconds: float = 3.0, begin_s: float = 0.0) -> np.ndarray[Any, Any]:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    samples = 0.4 * np.sin(2 * np.pi * pitch * time) * (time >= begin_s)
    return samples.astype(np.float32)[:, None]


LOW, HIGH = sine(220), sine(880)


def pitch_of(path: Path, said: list[str] | None = None, **settings: Any) -> int:
    """Return the strongest pitch of what is heard of a file; 0 for silence."""
    warnings = [] if said is None else said
    source = open_source(InputConfig(str(path), **settings), warnings.append)
    samples = np.concatenate([chunk.samples[:, 0] for chunk in source.chunks()])
    source.close()
    if np.abs(samples).max() < 1e-3:
        return 0
    spectrum = np.abs(np.fft.rfft(samples))
    return round(int(spectrum.argmax()) * SAMPLE_RATE / len(samples))


@pytest.mark.parametrize(
    ("tracks", "order"),
    [
        ([Track(1, "aac"), Track(2, "aac", default=True)], [1, 0]),
        ([Track(1, "aac", special="commentary"), Track(2, "aac")], [1, 0]),
        ([Track(1, "aac", True, "audio description"), Track(2, "aac", True)], [1, 0]),
        ([Track(1, "aac"), Track(2, "aac"), Track(3, "aac")], [0, 1, 2]),
    ],
)
def test_the_default_comes_before_the_first_and_comments_last(
    tracks: list[Track], order: list[int]
) -> None:
    assert preferred(tracks) == order
    assert choice(tracks, {0, 1, 2}, {0, 1, 2}) == order[0]
    assert choice(tracks, {order[-1]}, {0, 1, 2}) == order[-1]  # the only one with sound
    assert choice(tracks, set(), {order[1]}) == order[1]
    assert choice(tracks, set(), set()) == order[0]


@pytest.mark.parametrize(
    ("tracks", "options", "pitch", "words"),
    [
        ((SILENCE, LOW), {}, 220, "track 1 (pcm_s16le), which is silent"),
        ((SILENCE, LOW), {"dispositions": {0: "default"}}, 220, "track 1 (pcm_s16le), which is"),
        ((LOW, HIGH), {"dispositions": {1: "default"}}, 880, "Left out: track 1"),
        ((LOW, HIGH), {"dispositions": {0: "comment"}}, 880, "track 1 (pcm_s16le, commentary)"),
        ((LOW, HIGH), {"languages": {0: "eng", 1: "deu"}}, 220, "track 2 (pcm_s16le, deu)"),
        ((sine(220, begin_s=2.0), HIGH), {}, 220, "Left out: track 2"),
        ((HIGH, LOW), {"late_s": {0: 1.5}}, 880, "Left out: track 2"),
        ((LOW, sine(880, begin_s=2.0)), {}, 220, "Left out: track 2 (pcm_s16le). "),
        ((SILENCE, SILENCE), {}, 0, "track 2 (pcm_s16le), which is silent"),
        ((np.zeros((0, 1), np.float32), LOW), {}, 220, "track 1"),
    ],
)
def test_one_track_is_heard_and_the_others_are_named(
    tmp_path: Path, tracks: Any, options: dict[str, Any], pitch: int, words: str
) -> None:
    write_tracks(path := tmp_path / "a.mkv", *tracks, **options)
    said: list[str] = []
    assert pitch_of(path, said) == pytest.approx(pitch, abs=2)
    assert len(said) == 1
    assert words in said[0]
    assert "--track N chooses" in said[0]
    # one that only begins with silence is not said to be silent
    assert ("which is silent" in said[0]) == ("which is" in words or tracks[0].size == 0)


@pytest.mark.parametrize(("container", "codec"), [("a.mp4", "aac"), ("a.ts", "aac")])
def test_a_codec_gives_all_its_samples_after_the_choice(
    tmp_path: Path, container: str, codec: str
) -> None:
    write_tracks(path := tmp_path / container, SILENCE, LOW, codec=codec)
    write_tracks(alone := tmp_path / f"alone-{container}", LOW, codec=codec)
    heard = [
        np.concatenate([c.samples for c in open_source(InputConfig(str(p))).chunks()])
        for p in (path, alone)
    ]
    assert len(heard[0]) == len(heard[1])
    np.testing.assert_allclose(heard[0], heard[1], atol=3e-3)  # AAC fills bands with noise


def test_a_track_is_chosen_by_its_number(tmp_path: Path) -> None:
    write_tracks(path := tmp_path / "a.mkv", LOW, HIGH, SILENCE, languages={1: "fra"})
    said: list[str] = []
    assert [pitch_of(path, said, track=n) for n in (1, 2, 3)] == [
        pytest.approx(220, abs=2),
        pytest.approx(880, abs=2),
        0,
    ]
    assert said == []
    with pytest.raises(SourceError) as caught:
        open_source(InputConfig(str(path), track=4))
    assert caught.value.reason == "has 3 audio tracks, not 4"
    assert "track 2 (pcm_s16le, fra)" in caught.value.remedy


def test_a_piped_container_is_not_read_ahead_for_long() -> None:
    data = io.BytesIO()
    later = np.concatenate([np.zeros((10 * SAMPLE_RATE, 1), np.float32), LOW])
    write_tracks(data, np.zeros_like(later), later, container="matroska")
    data.seek(0)
    said: list[str] = []
    source = open_stdin(InputConfig("-"), said.append, data)
    assert sum(len(chunk.samples) for chunk in source.chunks()) == len(later)
    assert "Left out: track 2" in said[0]
    assert "silent up to 10 s, but another has sound" in said[1]


def test_a_picture_in_a_recording_is_not_a_track(tmp_path: Path) -> None:
    with av.open(str(path := tmp_path / "a.m4a"), "w", format="mp4") as file:
        voice = file.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        cover = file.add_stream("png")
        cover.width = cover.height = 16
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        image = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        packets = cover.encode(image)
        frame = av.AudioFrame.from_ndarray(LOW.T.copy(), format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        fit = av.AudioResampler("fltp", "mono", SAMPLE_RATE, frame_size=1024)
        for part in [*fit.resample(frame), *fit.resample(None), None]:
            packets += voice.encode(part)
        for packet in packets:
            file.mux(packet)
    said: list[str] = []
    assert pitch_of(path, said) == pytest.approx(220, abs=2)
    assert said == []


def test_a_track_that_begins_late_stays_on_its_picture(tmp_path: Path) -> None:
    # in a transport stream FFmpeg looks only at the first five seconds by itself
    for name, late_s in (("a.mkv", 2.0), ("a.mp4", 2.0), ("a.ts", 9.0), ("a.flv", 9.0)):
        picture = "flv" if name == "a.flv" else "mpeg4"
        codec, rate = ("aac", 44_100) if name == "a.flv" else ("aac", SAMPLE_RATE)
        path = tmp_path / name
        write_tracks(
            path, tone(3.0, rate), codec=codec, rate=rate, late_s={0: late_s}, picture_s=13.0,
            picture=picture,
        )  # fmt: skip
        source = open_source(InputConfig(str(path)))
        samples = np.concatenate([chunk.samples[:, 0] for chunk in source.chunks()])
        begin = np.flatnonzero(np.abs(samples) > 0.1)[0] / SAMPLE_RATE
        assert begin == pytest.approx(late_s, abs=0.15), name
        assert len(samples) / SAMPLE_RATE == pytest.approx(late_s + 3.0, abs=0.2)


def mixed(samples: np.ndarray[Any, Any], said: list[str], size: int = 1000) -> Any:
    blocks = (
        Block(samples[at : at + size], SAMPLE_RATE, 0.0) for at in range(0, len(samples), size)
    )
    return np.concatenate([c.samples for c in condition(blocks, "mix", "x", said.append)])[:, 0]


def test_channels_in_opposite_phase_do_not_cancel_each_other() -> None:
    said: list[str] = []
    voice = sine(330, 4.0)
    opposite = np.concatenate([voice, -0.95 * voice], axis=1)
    heard = mixed(opposite, said)
    assert np.abs(heard[4096:]).max() == pytest.approx(0.39, abs=0.01)
    assert len(said) == 1
    assert "opposite phase" in said[0]
    # the result does not depend on the blocks, and it turns back
    back = np.concatenate([opposite, np.repeat(voice, 2, axis=1)])
    assert np.array_equal(mixed(back, said, 777), mixed(back, said, 10_000))
    assert np.abs(mixed(back, said)[-SAMPLE_RATE:]).max() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("second", [LOW, 0 * LOW, HIGH, 0.3 * LOW])
def test_other_stereo_is_mixed_as_ever(second: np.ndarray[Any, Any]) -> None:
    said: list[str] = []
    both = np.concatenate([LOW, second], axis=1)
    np.testing.assert_allclose(mixed(both, said), both.mean(axis=1), atol=1e-6)
    assert said == []


def test_the_voices_of_a_film_are_in_its_centre(tmp_path: Path) -> None:
    sound = np.zeros((SAMPLE_RATE, 6), np.float32)
    sound[:, 2:3] = sine(330, 1.0)
    encode(path := tmp_path / "a.flac", sound, SAMPLE_RATE, "flac")
    source = open_source(InputConfig(str(path)))
    heard = np.concatenate([chunk.samples for chunk in source.chunks()])
    assert np.abs(heard).max() == pytest.approx(0.2, abs=0.005)
