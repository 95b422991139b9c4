"""Whether a file is complete: what is cut off is reported, and nothing else is."""

from __future__ import annotations

import io
import re
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_fakes import encode, tone, write_pcm_wav, write_tracks

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.sources.media.length import Ending, structure
from abhinaya.stream.sources.media.mpeg import find_frames, frame_at, length_tag_s
from abhinaya.stream.sources.stdin import open_stdin

SECONDS = 6.0
NOISE = (0.1 * np.random.default_rng(3).standard_normal((round(SECONDS * 48_000), 1))).astype("f4")
KINDS = {
    "a.wav": ("pcm_s16le", None),
    "a.w64": ("pcm_s16le", None),
    "a.aiff": ("pcm_s16be", None),
    "a.au": ("pcm_s16be", None),
    "a.caf": ("pcm_s16be", None),
    "a.flac": ("flac", None),
    "a.mp3": ("libmp3lame", None),
    "a.aac": ("aac", "adts"),
    "a.ac3": ("ac3", None),
    "a.mp2": ("mp2", None),
    "a.ogg": ("libopus", None),
    "a.webm": ("libopus", None),
    "a.mkv": ("aac", "matroska"),
    "a.m4a": ("aac", "mp4"),
    "a.mov": ("alac", None),
    "a.ts": ("aac", "mpegts"),
    "a.wma": ("wmav2", "asf"),
    "a.avi": ("pcm_s16le", None),
    "a.flv": ("aac", None),
}
FILM = {"f.mkv": "aac", "f.mp4": "aac", "f.webm": "libopus", "f.flv": "aac", "f.wmv": "wmav2"}


def hear(path: Path) -> tuple[float, str, list[str]]:
    """Return the seconds heard of a file, what broke it off, and what was said."""
    said: list[str] = []
    samples, failure = 0, ""
    try:
        source = open_source(InputConfig(str(path)), said.append)
        for chunk in source.chunks():
            samples += len(chunk.samples) + chunk.lost_samples
    except SourceError as error:
        failure = error.reason
    return samples / SAMPLE_RATE, failure, said


def whole(path: Path, seconds: float = SECONDS) -> list[str]:
    """Check that a file is heard to its end; return what was said."""
    heard_s, failure, said = hear(path)
    assert failure == ""
    assert heard_s == pytest.approx(seconds, abs=0.11)
    return said


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_whole_and_a_cut_one_is_not(tmp_path: Path, name: str) -> None:
    codec, container = KINDS[name]
    rate = 44_100 if name == "a.flv" else 48_000
    encode(path := tmp_path / name, NOISE[: round(SECONDS * rate)], rate, codec, container)
    assert whole(path) == []
    data = path.read_bytes()
    if (pipe := open_pipe(data)) is not None:  # and not a word about what is whole
        piped = sum(len(chunk.samples) for chunk in pipe)
        assert piped / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.12)
    for share in (0.3, 0.62, 0.9):
        path.write_bytes(data[: int(len(data) * share) | 1])
        heard_s, failure, _ = hear(path)
        assert failure.startswith(("breaks off at", "is cut off: its index")), share
        assert heard_s < SECONDS * share + 0.6
        piped, pipe = [], open_pipe(path.read_bytes())
        if pipe is not None:
            with pytest.raises(SourceError, match="breaks off at"):
                piped.extend(pipe)


def open_pipe(data: bytes) -> Any:
    """Return the chunks of a file that is piped in; None if it cannot be read in a pipe."""

    class Stream(io.RawIOBase):
        rest = memoryview(data)

        def read(self, size: int = -1) -> bytes:
            part, self.rest = self.rest[:size], self.rest[size:]
            return bytes(part)

    try:
        return open_stdin(InputConfig("-"), lambda _: None, Stream()).chunks()  # type: ignore[arg-type]
    except SourceError:
        return None


def fault_of_pipe(data: bytes) -> str:
    """Return what broke off bytes that come through a pipe."""
    try:
        for _ in open_pipe(data):
            pass
    except SourceError as error:
        return error.reason
    return ""


@pytest.mark.parametrize("name", FILM)
def test_a_picture_that_outlasts_its_sound_is_no_damage(tmp_path: Path, name: str) -> None:
    rate = 44_100 if name == "f.flv" else 48_000
    sound = NOISE[: 3 * rate]
    codec = FILM[name]
    write_film(path := tmp_path / name, sound, codec, rate)
    assert whole(path, 3.0) == []


def write_film(path: Path, sound: Any, codec: str, rate: int) -> None:
    kinds = {".webm": "webm", ".wmv": "asf"}
    container = kinds.get(path.suffix)
    picture = "libvpx" if path.suffix == ".webm" else "flv" if path.suffix == ".flv" else "mpeg4"
    write_tracks(
        path, sound, codec=codec, rate=rate, container=container, picture_s=8.0, picture=picture
    )


def test_sound_that_is_complete_in_a_film_that_is_cut_is_no_failure(tmp_path: Path) -> None:
    write_film(path := tmp_path / "f.mkv", NOISE[: 3 * 48_000], "aac", 48_000)
    data = path.read_bytes()
    path.write_bytes(data[:-200])
    assert whole(path, 3.0) == [f"{path}: is cut off, but its audio is complete"]


@pytest.fixture(scope="module")
def mp3() -> dict[str, bytes]:
    """Parts that are joined: with a length tag, and without."""
    made = {}
    for name, options in {"tagged": {}, "bare": {"write_xing": "0"}}.items():
        target = io.BytesIO()
        encode(target, NOISE[:96_000], 48_000, "libmp3lame", "mp3", options)
        made[name] = target.getvalue()
    return made


@pytest.mark.parametrize(
    "names", ["tagged tagged", "bare bare", "tagged bare tagged", "bare tagged"]
)
def test_joined_recordings_are_one(tmp_path: Path, mp3: dict[str, bytes], names: str) -> None:
    parts = [mp3[name] for name in names.split()]
    (path := tmp_path / "a.mp3").write_bytes(b"".join(parts))
    heard_s, failure, said = hear(path)
    assert failure == ""
    assert said == []
    assert heard_s == pytest.approx(2.0 * len(parts), abs=0.06 * len(parts))
    path.write_bytes(b"".join(parts)[:-700])
    assert "breaks off at" in hear(path)[1]


PICTURE = np.random.default_rng(7).bytes(200_000)
ID3 = b"ID3\4\0\0" + bytes(200_000 >> shift & 0x7F for shift in (21, 14, 7, 0)) + PICTURE
APE = b"APETAGEX" + struct.pack("<4I8x", 2000, 200_000, 1, 0xA000_0000) + PICTURE


@pytest.mark.parametrize("name", ["tagged", "bare"])
def test_what_follows_the_last_frame_is_not_a_cut(
    tmp_path: Path, mp3: dict[str, bytes], name: str
) -> None:
    path, data = tmp_path / "a.mp3", mp3[name]
    for tail in (b"\r\n", b"<html>busy</html>", bytes(3000), PICTURE[:3000]):
        path.write_bytes(data + tail)
        assert any(f"last {len(tail)} bytes are not audio" in line for line in whole(path, 2.0))
    for tag in (APE, ID3):  # the picture in it resembles frames
        path.write_bytes(data + tag + data + tag)
        assert whole(path, 4.0) == []
    path.write_bytes(data + bytes(100_000))  # room for more: whether it is there, the tag knows
    assert ("breaks off" in hear(path)[1]) == (name == "bare")


@pytest.mark.parametrize("name", ["a.m4a", "a.ts", "a.aac", "a.flac", "a.ogg", "a.mkv"])
def test_a_line_break_after_a_container_is_not_a_cut(tmp_path: Path, name: str) -> None:
    codec, container = KINDS[name]
    encode(path := tmp_path / name, NOISE, 48_000, codec, container)
    path.write_bytes(path.read_bytes() + b"\r\n")
    whole(path)


def test_a_wrong_length_tag_is_not_damage(tmp_path: Path, mp3: dict[str, bytes]) -> None:
    data = bytearray(mp3["tagged"])
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    frames = int.from_bytes(data[at : at + 4], "big")
    for wrong in (2 * frames, frames // 2):
        data[at : at + 4] = wrong.to_bytes(4, "big")
        (path := tmp_path / "a.mp3").write_bytes(data)
        said = whole(path, 2.0)
        assert all("nothing seems to be cut off" in line for line in said)
    assert "breaks off" in hear(cut_at(path, data, 0.7))[1]


def cut_at(path: Path, data: bytes, share: float) -> Path:
    path.write_bytes(data[: int(share * len(data))])
    return path


def pcm(seconds: float) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(
            (10_000 * NOISE[: round(seconds * SAMPLE_RATE), 0]).astype("<i2").tobytes()
        )
    return target.getvalue()


@pytest.mark.parametrize("declared", [0, 0xFFFF_FFFF, 0x7FFF_FFFF - 36, 0x8000_0000])
def test_a_wav_of_a_writer_that_could_not_seek_is_whole(tmp_path: Path, declared: int) -> None:
    data = bytearray(pcm(2.0))
    data[40:44] = struct.pack("<I", declared)
    (path := tmp_path / "a.wav").write_bytes(data)
    assert whole(path, 2.0) == []


def test_audio_after_the_declared_end_is_heard(tmp_path: Path) -> None:
    """A recorder that died had written its header when it began, or now and then."""
    data = bytearray(pcm(2.0))
    data[40:44] = struct.pack("<I", 16_000)
    (path := tmp_path / "a.wav").write_bytes(data)
    assert "48000 bytes follow the end that its header declares" in whole(path, 2.0)[0]
    # but a chunk that follows is no audio
    path.write_bytes(pcm(1.0) + b"LIST" + struct.pack("<I", 4000) + b"x" * 4000)
    assert whole(path, 1.0) == []
    path.write_bytes(pcm(1.0) + b"ID3\x04\0\0\0\0\x1f\x20" + b"x" * 4000)
    assert whole(path, 1.0) == []
    path.write_bytes(pcm(1.0) + bytes(4000))
    assert whole(path, 1.0) == []


def test_a_file_that_grows_is_heard_to_its_end_and_that_is_said(tmp_path: Path) -> None:
    data = bytearray(pcm(3.0))
    data[40:44] = bytes(4)
    (path := tmp_path / "a.wav").write_bytes(data[:64_044])
    said: list[str] = []
    source = open_source(InputConfig(str(path)), said.append)
    chunks = source.chunks()
    samples = len(next(chunks).samples)
    with path.open("ab") as file:
        file.write(data[64_044:])
    samples += sum(len(chunk.samples) for chunk in chunks)
    assert samples / SAMPLE_RATE >= 2.0
    assert f"{path}: grew while it was read; heard up to" in said[0]


def test_an_ogg_file_with_a_hole_before_its_last_page_breaks_off_there(tmp_path: Path) -> None:
    encode(path := tmp_path / "a.ogg", NOISE, 48_000, "libopus")
    data = path.read_bytes()
    pages = [match.start() for match in re.finditer(b"OggS", data)]
    path.write_bytes(data[: pages[-2]] + bytes(pages[-1] - pages[-2]) + data[pages[-1] :])
    assert "breaks off at" in hear(path)[1]
    assert "breaks off at" in fault_of_pipe(path.read_bytes())
    path.write_bytes(data[: pages[2]] + data[pages[4] :])  # recorded from the middle on
    assert whole(path, 4.0) == []
    assert fault_of_pipe(path.read_bytes()) == ""


def test_a_tag_behind_an_mp4_is_no_box_that_is_cut(tmp_path: Path) -> None:
    encode(path := tmp_path / "a.mp4", NOISE, 48_000, "aac", "mp4")
    path.write_bytes(path.read_bytes() + b"TAG" + b"x" * 125)
    assert whole(path) == []


@pytest.mark.parametrize("index", ["", "+skip_trailer"], ids=["index", "no index"])
def test_a_fragmented_file_is_cut_between_two_boxes(tmp_path: Path, index: str) -> None:
    options = {"movflags": f"frag_keyframe+empty_moov{index}", "frag_duration": "1000000"}
    encode(path := tmp_path / "a.mp4", NOISE, 48_000, "aac", "mp4", options)
    data = path.read_bytes()
    assert whole(path) == []
    for share in (0.4, 0.7):
        assert "breaks off" in hear(cut_at(path, data, share))[1]
    path.write_bytes(data + bytes(8192))  # padding
    assert whole(path) == []
    path.write_bytes(data + bytes(100_000))  # perhaps fragments that were never fetched
    assert bool(hear(path)[1]) == bool(index)


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (3_999, 1), (800_000, 1), (16_000, 200)])
def test_a_header_that_declares_what_no_sound_is_is_refused(
    tmp_path: Path, rate: int, channels: int
) -> None:
    write_pcm_wav(path := tmp_path / "a.wav", np.zeros((400, channels), "f4"), rate, 2)
    heard_s, failure, _ = hear(path)
    assert heard_s == 0
    wrong = f"{rate} samples a second" if channels == 1 else f"{channels} channels"
    assert failure.startswith(f"declares {wrong}")


@pytest.mark.parametrize("rate", [4_000, 7_350, 384_000])
def test_unusual_rates_are_sound(tmp_path: Path, rate: int) -> None:
    write_pcm_wav(path := tmp_path / "a.wav", tone(1.0, rate, 2), rate, 2)
    assert whole(path, 1.0) == []


@pytest.mark.parametrize(
    ("head", "name"), [(b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "zip"), (b"BZh9", "bzip2")]
)
def test_a_compressed_file_is_named(tmp_path: Path, head: bytes, name: str) -> None:
    (path := tmp_path / "a.wav").write_bytes(head + np.random.default_rng(0).bytes(3000))
    assert hear(path)[1] == f"is compressed with {name}"


def test_what_decides_that_a_file_is_cut() -> None:
    def fault(**facts: Any) -> tuple[str, bool]:
        known: dict[str, Any] = {
            "given_s": 5.0, "declared_s": 0.0, "own": True, "others": False, "reached_s": 5.0,
            "missing": None, "cut": False, "damaged": False, "lax": False,
        }  # fmt: skip
        return Ending(**(known | facts)).fault()

    assert fault() == ("", False)
    assert fault(cut=True) == ("breaks off at 5.00 s: its last packet is incomplete", True)
    assert fault(cut=True, missing=0) == ("", False)
    assert fault(missing=9) == ("breaks off at 5.00 s: 9 bytes of the file are missing", True)
    assert fault(declared_s=9.0) == ("breaks off at 5.00 s of 9.00 s", True)
    assert fault(declared_s=9.0, missing=0) == ("breaks off at 5.00 s of 9.00 s", True)
    assert fault(declared_s=9.0, missing=0, lax=True)[1] is False
    assert fault(declared_s=9.0, own=False, others=True, reached_s=9.0) == ("", False)
    assert fault(declared_s=9.0, own=False, others=True) == ("breaks off at 5.00 s of 9.00 s", True)
    assert fault(declared_s=5.05, others=True, missing=9)[1] is False


def test_rubbish_is_not_a_structure() -> None:
    random = np.random.default_rng(5)
    heads = [b"RIFF", b"RIFF\0\0\0\0WAVE", b"OggS", b"\x1a\x45\xdf\xa3", b"FLV\x01", b"caff", b""]
    heads += [b"\0\0\0\x10ftyp", b"\x30\x26\xb2\x75", b"FORM", b".snd", b"riff"]
    for head in heads:
        for length in (0, 1, 30, 3000):
            data = head + random.bytes(length)
            found = structure(lambda at, n, data=data: data[at : at + n], len(data))
            assert found.missing is None or found.missing >= 0
    for _ in range(300):
        data = random.bytes(300)
        assert length_tag_s(data) is None
        assert find_frames(data) is None or frame_at(data, find_frames(data) or 0)
