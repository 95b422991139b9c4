from __future__ import annotations

import io
import os
import sys
import threading
from typing import Any

import av
import numpy as np
import pytest
import source_fakes as fakes
from hypothesis import given, settings
from hypothesis import strategies as st

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.sources.pcm import sample_bytes, to_float
from abhinaya.stream.sources.stdin import open_stdin


class Dribble(io.RawIOBase):
    """A pipe that gives a few bytes at a time, then breaks if told to."""

    def __init__(self, data: bytes, step: int, breaks: bool = False) -> None:
        self._data, self._step, self._breaks = data, step, breaks

    def read(self, size: int = -1) -> bytes:
        part, self._data = self._data[: self._step], self._data[self._step :]
        if not part and self._breaks:
            raise OSError("Bad file descriptor")
        return part


def hear(stream: Any, warnings: list[str] | None = None, **options: Any) -> Any:
    warn = (warnings if warnings is not None else []).append
    source = open_stdin(InputConfig("-", **options), warn, stream)
    parts = [chunk.samples for chunk in source.chunks()]
    source.close()
    return np.concatenate(parts)


def as_bytes(samples: Any, sample_format: str) -> bytes:
    if sample_format == "u8":
        return (np.round(samples * 127) + 128).astype(np.uint8).tobytes()
    if sample_format.startswith("f"):
        order = "<" if sample_format.endswith("le") else ">"
        return samples.astype(f"{order}f{int(sample_format[1:3]) // 8}").tobytes()
    bits = int(sample_format[1:].rstrip("lbe"))
    values = np.round(samples * (2 ** (bits - 1) - 1)).astype("<i4").reshape(-1, 1)
    kept = values.view(np.uint8)[:, : bits // 8]
    return (kept[:, ::-1] if sample_format.endswith("be") else kept).tobytes()


@pytest.mark.parametrize(
    "sample_format",
    ["u8", "s8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le"],
)
def test_raw_samples_of_every_format(sample_format: str) -> None:
    tone = fakes.tone(0.1, SAMPLE_RATE, 2)
    stream = Dribble(as_bytes(tone, sample_format), 1001)
    heard = hear(stream, sample_format=sample_format, channel_count=2, channels="split")
    np.testing.assert_allclose(heard, tone, atol=0.02 if "8" in sample_format[:2] else 1e-3)


@pytest.mark.parametrize(
    ("law", "values"),
    [
        ("mulaw", {0x00: -32124, 0x7F: 0, 0x80: 32124, 0xBC: 2364, 0xFF: 0}),
        ("alaw", {0x55: -8, 0xD5: 8, 0x2A: -32256, 0xAA: 32256, 0x00: -5504}),
    ],
)
def test_g711_is_exact(law: Any, values: dict[int, int]) -> None:
    """Every code as FFmpeg decodes it, and some as in the tables of ITU-T G.711."""
    codes = bytes(range(256))
    packet = av.Packet(codes)
    decoder = av.CodecContext.create(f"pcm_{law}", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(packet)
    found = np.round(to_float(codes, law) * 32_768).astype(int)
    assert np.array_equal(found, frame.to_ndarray().reshape(-1))
    assert {code: found[code] for code in values} == values
    assert sample_bytes(law) == 1


def test_g711_down_a_pipe_is_8_khz_unless_told_otherwise() -> None:
    second = bytes(8000)
    assert abs(len(hear(Dribble(second, 333), sample_format="mulaw")) - SAMPLE_RATE) <= 320
    assert len(hear(io.BytesIO(second), sample_format="alaw", rate=SAMPLE_RATE)) == 8000


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        ("u8", b"\x00", -1.0), ("u8", b"\xff", 127 / 128), ("s8", b"\x80", -1.0),
        ("s16le", b"\x01\x00", 2**-15), ("s16be", b"\x80\x00", -1.0),
        ("s24le", b"\x01\x00\x00", 2**-23), ("s24be", b"\x80\x00\x01", 2**-23 - 1),
        ("s24le", b"\xff\xff\xff", -(2**-23)), ("s32le", b"\x00\x00\x00\x80", -1.0),
        ("s32be", b"\x40\x00\x00\x00", 0.5), ("f32le", b"\x00\x00\x80\xbf", -1.0),
        ("f32be", b"\x3f\x00\x00\x00", 0.5), ("f64le", b"\0\0\0\0\0\0\xd0\x3f", 0.25),
    ],
)  # fmt: skip
def test_linear_samples_are_exact(kind: Any, data: bytes, value: float) -> None:
    assert to_float(data, kind).tolist() == [np.float32(value)]


@settings(max_examples=25, deadline=None)
@given(step=st.integers(1, 5000), rate=st.sampled_from([8000, 16000, 44100]))
def test_a_pipe_cut_anywhere_gives_the_same_samples(step: int, rate: int) -> None:
    data = as_bytes(fakes.tone(0.1, rate), "s16le")
    whole = hear(io.BytesIO(data), sample_format="s16le", rate=rate)
    assert np.array_equal(hear(Dribble(data, step), sample_format="s16le", rate=rate), whole)


def test_bytes_that_are_no_whole_sample_are_told() -> None:
    warnings: list[str] = []
    heard = hear(io.BytesIO(b"\0" * 641), warnings, sample_format="s16le")
    assert len(heard) == 320
    assert "last 1 bytes" in warnings[0]


@pytest.mark.parametrize(("container", "codec"), [("wav", "pcm_s16le"), ("ogg", "libopus")])
def test_a_container_comes_down_a_pipe(container: str, codec: str) -> None:
    buffer = io.BytesIO()
    fakes.encode(buffer, fakes.tone(1.0, 48000), 48000, codec, container)
    heard = hear(Dribble(buffer.getvalue(), 700))
    assert abs(len(heard) - SAMPLE_RATE) <= 320


def test_a_piped_container_starts_when_its_first_byte_came() -> None:
    buffer = io.BytesIO()
    fakes.encode(buffer, fakes.tone(0.5, 16000), 16000, "pcm_s16le", "wav")
    ticks = iter(range(100, 10_000))
    source = open_stdin(
        InputConfig("-"), print, Dribble(buffer.getvalue(), 500), lambda: next(ticks)
    )
    assert source.start_unix_s == 101  # the second time that the clock was read
    assert all(chunk.captured_unix_s > 101 for chunk in source.chunks())


@pytest.mark.parametrize("raw", ["", "s16le"])
def test_an_empty_pipe_is_named(raw: Any) -> None:
    with pytest.raises(SourceError, match="ended before any audio came"):
        hear(io.BytesIO(b""), sample_format=raw)


def test_a_header_that_is_heard_as_samples_is_said() -> None:
    data = b"RIFF\0\0\0\0WAVEfmt " + as_bytes(fakes.tone(1.0, SAMPLE_RATE), "s16le")
    hear(io.BytesIO(data), said := [], sample_format="s16le")
    assert "header of a WAV file" in said[0]
    assert len(said) == 1


def test_text_in_a_pipe_is_no_audio() -> None:
    with pytest.raises(SourceError, match="cannot be decoded as audio"):
        hear(io.BytesIO(b"hello, this is text\n" * 100))


@pytest.mark.parametrize("container", [False, True])
def test_a_pipe_that_breaks_gives_what_came(container: bool) -> None:
    data = as_bytes(fakes.tone(1.0, SAMPLE_RATE), "s16le")
    if container:
        buffer = io.BytesIO()
        fakes.encode(buffer, fakes.tone(1.0, SAMPLE_RATE), SAMPLE_RATE, "pcm_s16le", "wav")
        data = buffer.getvalue()[:20_000]
    config = InputConfig("-", sample_format="" if container else "s16le")
    source = open_stdin(config, print, Dribble(data, 999, breaks=True))
    heard = []
    with pytest.raises(SourceError, match="Bad file descriptor"):
        heard.extend(len(chunk.samples) for chunk in source.chunks())
    assert sum(heard) >= (9000 if container else SAMPLE_RATE)


def test_raw_audio_is_given_as_soon_as_it_comes() -> None:
    read, write = os.pipe()
    tone = as_bytes(fakes.tone(0.1, SAMPLE_RATE), "s16le")
    with open(read, "rb") as stream:
        source = open_stdin(InputConfig("-", sample_format="s16le"), print, stream)
        chunks = source.chunks()
        os.write(write, tone)
        assert len(next(chunks).samples) == len(tone) // 2  # the pipe is still open
        threading.Timer(0.01, os.close, (write,)).start()
        assert list(chunks) == []


def test_closed_standard_input_and_a_terminal_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match="is closed; pipe audio into it"):
        open_source(InputConfig("-"))
    _, terminal = os.openpty()
    with open(terminal) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(SourceError, match="is a terminal"):
            open_source(InputConfig("-"))
