from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
import source_fakes as fakes

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import AbhinayaError, ConfigError, SourceError
from abhinaya.stream.sources import InputConfig, channel_names, open_source
from abhinaya.stream.sources.opening import pace


def hear(config: InputConfig) -> tuple[Any, list[str], SourceError | None, int]:
    """Read all of an input: samples [n, channels], warnings, what broke it off, samples lost."""
    warnings: list[str] = []
    source = open_source(config, warnings.append)
    parts, lost, failure = [np.zeros((0, source.channels), np.float32)], 0, None
    try:
        for chunk in source.chunks():
            parts.append(chunk.samples)
            lost += chunk.lost_samples
    except SourceError as error:
        failure = error
    finally:
        source.close()
        source.close()
    return np.concatenate(parts), warnings, failure, lost


def refusal(what: Path | str, **settings: Any) -> AbhinayaError:
    with pytest.raises(AbhinayaError) as caught:
        open_source(InputConfig(str(what), **settings))
    return caught.value


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 192000])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_wav_of_any_rate_and_depth_is_the_same_tone(
    tmp_path: Path, rate: int, width: int
) -> None:
    path = tmp_path / "tone.wav"
    fakes.write_pcm_wav(path, fakes.tone(0.5, rate), rate, width)
    samples, warnings, failure, lost = hear(InputConfig(str(path)))
    expected = fakes.tone(0.5, SAMPLE_RATE)
    assert abs(len(samples) - len(expected)) <= 1
    inner = slice(400, 7600)  # without the edges, where resampling rings
    tolerance = 0.01 if width == 1 else 0.002
    assert np.abs(samples[inner] - expected[inner]).max() < tolerance
    assert (warnings, failure, lost) == ([], None, 0)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp3", "libmp3lame"),
        ("a.m4a", "aac"),
        ("a.flac", "flac"),
        ("a.opus", "libopus"),
        ("a.ogg", "libopus"),
        ("a.webm", "libopus"),
        ("a.wav", "pcm_f32le"),
        ("a.mkv", "pcm_s16le"),
    ],
)
def test_every_container_is_decoded(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    fakes.encode(path, fakes.tone(1.0, 48000, 2), 48000, codec)
    samples, _, failure, lost = hear(InputConfig(str(path), channels="split"))
    assert failure is None
    assert lost == 0
    assert samples.shape[1] == 2
    assert abs(len(samples) - SAMPLE_RATE) < 700  # some codecs pad to their frame
    for channel, pitch in enumerate((220, 440)):
        spectrum = np.abs(np.fft.rfft(samples[:SAMPLE_RATE, channel]))
        assert abs(int(spectrum.argmax()) - pitch) <= 2


def test_six_channels_are_mixed_or_split(tmp_path: Path) -> None:
    path = tmp_path / "six.wav"
    tone = fakes.tone(0.3, SAMPLE_RATE, 6)
    fakes.write_pcm_wav(path, tone, SAMPLE_RATE, 2)
    mixed, *_ = hear(InputConfig(str(path)))
    split, *_ = hear(InputConfig(str(path), channels="split"))
    np.testing.assert_allclose(split, tone, atol=1e-4)
    np.testing.assert_allclose(mixed, tone.mean(axis=1, keepdims=True), atol=1e-4)


def test_eight_planar_channels_do_not_crash_the_decoder(tmp_path: Path) -> None:
    path = tmp_path / "eight.flac"
    tone = fakes.tone(0.3, SAMPLE_RATE, 8)
    fakes.encode(path, tone, SAMPLE_RATE, "flac")
    split, *_ = hear(InputConfig(str(path), channels="split"))
    np.testing.assert_allclose(split, tone, atol=1e-4)


def test_a_title_that_is_not_utf_8_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    with av.open(str(path), "w") as file:
        file.metadata["title"] = "Gespraech"
        track = file.add_stream("flac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), "i2"), format="s16", layout="mono")
        frame.sample_rate = 16000
        file.mux(track.encode(frame))
        file.mux(track.encode(None))
    path.write_bytes(path.read_bytes().replace(b"Gespraech", "Gespräch!".encode("latin-1")))
    samples, *_ = hear(InputConfig(str(path)))
    assert len(samples) == 4096


def test_the_sound_of_a_video_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    fakes.write_video(path, sound=fakes.tone(1.0, 48000))
    samples, _, failure, _ = hear(InputConfig(str(path)))
    assert failure is None
    assert abs(len(samples) - SAMPLE_RATE) < 1500


def test_each_unusable_file_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("Dear diary, ünïcode.\n" * 99)
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(5000))
    fakes.write_pcm_wav(tmp_path / "none.wav", fakes.tone(0, 16000), 16000, 2)
    fakes.write_video(tmp_path / "mute.mp4", sound=None)
    (tmp_path / "link.wav").symlink_to("gone.wav")
    data = bytearray((tmp_path / "none.wav").read_bytes())
    data[20:22] = b"\xee\xee"
    (tmp_path / "codec.wav").write_bytes(data + bytes(999))
    expected = {
        "missing.wav": "no such file",
        "link.wav": "is a link to a file that is missing",
        "codec.wav": "has audio in a codec that FFmpeg does not know",
        ".": "is a folder",
        "empty.wav": "is empty (0 bytes)",
        "text.wav": "is text, not audio",
        "noise.mp3": "cannot be decoded as audio",
        "none.wav": "holds no audio samples",
        "mute.mp4": "has no audio track (it has: video)",
        "a\0b.wav": "cannot be read",
    }
    for name, reason in expected.items():
        error = refusal(tmp_path / name)
        assert isinstance(error, SourceError)
        assert reason in error.reason, name
        assert str(tmp_path) in error.subject


def test_a_pipe_with_a_name_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")  # to open it would wait for a writer
    error = refusal(tmp_path / "a.wav")
    assert "is a pipe or a device" in str(error)
    assert "abhinaya-stream -" in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    fakes.write_pcm_wav(path, fakes.tone(0.1, 16000), 16000, 2)
    path.chmod(0)
    assert "may not be read" in refusal(path).reason


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.flac", "flac")])
def test_a_truncated_file_gives_what_decodes_and_says_where_it_broke(
    tmp_path: Path, name: str, codec: str
) -> None:
    path = tmp_path / name
    fakes.encode(path, fakes.tone(6.0, 44100), 44100, codec)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    samples, _, failure, _ = hear(InputConfig(str(path)))
    assert 2.0 < len(samples) / SAMPLE_RATE < 4.0
    assert failure is not None
    told = re.fullmatch(r"breaks off at (\S+) s of 6\.00 s", failure.reason)
    assert told
    assert float(told[1]) == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.01)


def test_a_hole_in_the_middle_is_told_and_the_clock_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    fakes.encode(path, fakes.tone(10.0, 44100), 44100, "aac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    samples, warnings, failure, lost = hear(InputConfig(str(path)))
    assert failure is None
    assert lost > 0.2 * SAMPLE_RATE
    assert abs(len(samples) + lost - 10 * SAMPLE_RATE) < 0.1 * SAMPLE_RATE
    assert "damaged at" in warnings[0]


def test_samples_that_are_no_numbers_are_silence_and_told_once(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    tone = fakes.tone(1.0, SAMPLE_RATE)
    tone[5000:5010] = np.nan
    tone[9000] = np.inf
    tone[9001] = 3.0
    fakes.encode(path, tone, SAMPLE_RATE, "pcm_f32le")
    samples, warnings, failure, _ = hear(InputConfig(str(path)))
    assert failure is None
    assert np.all(samples[5000:5010] == 0)
    assert samples[9001] == 1.0
    assert np.abs(samples).max() <= 1.0
    assert "not numbers (first near 0." in warnings[0]
    assert "11 samples in all" in warnings[1]
    assert len(warnings) == 2


def test_channel_names_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    fakes.write_pcm_wav(path, fakes.tone(0.1, 16000, 2), 16000, 2)
    assert "add --channels split" in str(refusal(path, channel_names=("a", "b")))
    one = refusal(path, channels="split", channel_names=("a",))
    assert isinstance(one, ConfigError)
    assert "names 1 channels, but" in one.reason
    same = refusal(path, channels="split", channel_names=("a", "a"))
    assert "a name of its own" in same.reason
    assert "is empty" in refusal("").reason
    good = InputConfig(str(path), channels="split", channel_names=("agent", "customer"))
    assert open_source(good).channels == 2
    assert channel_names(good, 2) == ("agent", "customer")
    assert channel_names(InputConfig("x", channels="split"), 2) == ("1", "2")
    assert channel_names(InputConfig("x"), 1) == ("",)


def test_an_input_config_travels_as_json() -> None:
    config = InputConfig("-", sample_format="s24le", channel_count=2, channel_names=("a", "b"))
    assert msgspec.json.decode(msgspec.json.encode(config), type=InputConfig) == config


def test_a_paced_file_waits_for_each_20_ms_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    tone = fakes.tone(1.0, SAMPLE_RATE)
    fakes.write_pcm_wav(path, tone, SAMPLE_RATE, 2)
    source = open_source(InputConfig(str(path)))
    now = [source.start_unix_s]

    def sleep(seconds: float) -> None:
        assert seconds > 0
        now[0] += seconds

    paced = pace(source, sleep, lambda: now[0])
    assert paced.live
    assert not source.live
    position = 0
    parts = []
    for chunk in paced.chunks():
        position += len(chunk.samples)
        parts.append(chunk.samples)
        assert len(chunk.samples) <= 320
        assert now[0] - source.start_unix_s == pytest.approx(position / SAMPLE_RATE, abs=1e-6)
    np.testing.assert_allclose(np.concatenate(parts), tone, atol=1e-4)


def test_realtime_makes_a_file_live(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    fakes.write_pcm_wav(path, fakes.tone(0.1, SAMPLE_RATE), SAMPLE_RATE, 2)
    assert open_source(InputConfig(str(path), realtime=True)).live
