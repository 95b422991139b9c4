"""Audio that runs by itself: radio, HLS, RTSP; cut, stalled, gone and back again."""

from __future__ import annotations

import gzip
import io
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from media_server import Broadcast, Radio, Site, camera, say, site
from source_fakes import encode, tone, write_hls

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources import open_source
from abhinaya.stream.sources.base import Block, InputConfig
from abhinaya.stream.sources.live import Connection, Live
from abhinaya.stream.sources.media.mpeg import is_adts
from abhinaya.stream.sources.playlist import best_of, is_playlist, parse, text_of
from abhinaya.stream.sources.web import Web

QUICK = NetworkConfig(
    connect_s=5.0, stall_s=2.0, first_pause_s=0.05, longest_pause_s=0.2, give_up_s=20.0
)

RADIO_S = 60.0


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as server:
        yield server


@pytest.fixture(scope="module")
def program() -> bytes:
    """A minute of sound that can be tuned into anywhere."""
    target = io.BytesIO()
    encode(target, tone(RADIO_S, 16_000), 16_000, "aac", "adts")
    return target.getvalue()


@dataclass
class Heard:
    """What came of a source."""

    samples: int = 0
    losses: list[tuple[float, float, str]] = field(default_factory=list)
    """At which second, how many seconds, why."""
    said: list[str] = field(default_factory=list)
    error: SourceError | None = None
    took_s: float = 0.0

    @property
    def position_s(self) -> float:
        return self.samples / SAMPLE_RATE


def listen(
    url: str, seconds: float = 1e9, network: NetworkConfig = QUICK, **settings: Any
) -> Heard:
    """Hear an address until it ends, or for a while."""
    heard = Heard()
    source = open_source(InputConfig(url, **settings), heard.said.append, network=network)
    assert source.live
    assert not source.repeatable
    begun = time.monotonic()
    threading.Timer(min(seconds, 200), source.interrupt).start()
    try:
        for chunk in source.chunks():
            if chunk.lost_samples:
                at = heard.position_s
                heard.losses.append((at, chunk.lost_samples / SAMPLE_RATE, chunk.lost_reason))
            heard.samples += chunk.lost_samples + len(chunk.samples)
    except SourceError as error:
        heard.error = error
    heard.took_s = time.monotonic() - begun
    source.close()
    return heard


# --- radio ----------------------------------------------------------------------------------------


def test_radio_that_is_cut_comes_back_and_what_was_missed_is_told(
    web: Site, program: bytes
) -> None:
    web.routes["/radio"] = Radio(program, len(program) / RADIO_S, lengths_s=[1.5, 1.5], deaf_s=1.5)
    heard = listen(web.url("/radio", user="joe:s3cret@"), 8.0)
    assert heard.error is None
    assert len(heard.losses) == 2
    for _, _, reason in heard.losses:
        # a frame that the cut goes through may be noticed first
        assert re.match(
            r"the connection was lost: (the server ended the stream|breaks off)", reason
        )
    for _, missed_s, _ in heard.losses:
        assert 1.0 < missed_s < 4.0
    # what was missed keeps the stream in step with the clock
    assert heard.position_s == pytest.approx(heard.took_s, abs=1.0)
    told = " ".join(heard.said)
    assert told.count("connecting again") == told.count("connected again") == 2
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("container", "codec", "kind"),
    [("adts", "aac", "audio/x"), ("mp3", "libmp3lame", "audio/mpeg")],
)
def test_radio_is_heard_soon_after_one_has_tuned_in(
    web: Site, container: str, codec: str, kind: str
) -> None:
    target = io.BytesIO()
    encode(target, tone(RADIO_S, 16_000), 16_000, codec, container)
    data = target.getvalue()
    radio = Radio(data, len(data) / RADIO_S, kind=kind)
    web.routes["/radio"] = radio
    radio.begin(ago_s=20.123)  # amid a frame
    begun = time.monotonic()
    source = open_source(InputConfig(web.url("/radio")), network=QUICK)
    next(source.chunks())
    assert time.monotonic() - begun < 3
    source.interrupt()
    source.close()


@given(st.binary(min_size=20, max_size=400), st.integers(0, 2000))
def test_frames_are_recognised_wherever_one_tunes_in(noise: bytes, at: int) -> None:
    frame = bytes([0xFF, 0xF1, 0x60, 0x40, 0x20, 0x1F, 0xFC]) + b"\0" * (0x100 - 7)
    assert is_adts((frame * 12)[at % 256 :])
    assert not is_adts(noise)


def test_radio_that_stalls_is_left_and_heard_again(web: Site, program: bytes) -> None:
    radio = Radio(program, len(program) / RADIO_S, lengths_s=[1.5], stall=True, icy=False)
    web.routes["/radio"] = radio
    heard = listen(web.url("/radio"), 7.0)
    radio.stopping.set()
    assert heard.error is None
    [(at, missed_s, reason)] = heard.losses
    assert at == pytest.approx(1.5, abs=0.7)
    assert 1.5 < missed_s < 4
    assert "for 2 s" in reason


def test_radio_that_does_not_come_back_is_given_up_with_the_reason(
    web: Site, program: bytes
) -> None:
    web.routes["/radio"] = Radio(program, len(program) / RADIO_S, lengths_s=[1.0], deaf_s=1e9)
    impatient = NetworkConfig(stall_s=2.0, first_pause_s=0.05, longest_pause_s=0.2, give_up_s=1.5)
    heard = listen(web.url("/radio"), network=impatient)
    assert heard.error is not None
    assert "is not back within 1.5 s (answers with HTTP 503)" in heard.error.reason
    assert 1.5 < heard.took_s < 15
    assert len(web.asked("/radio")) > 4


def test_a_web_page_in_the_place_of_the_stream_is_not_heard(web: Site, program: bytes) -> None:
    radio = Radio(program, len(program) / RADIO_S, lengths_s=[1.0])

    def route(handler: Any) -> None:
        if len(web.asked("/radio")) in (2, 3):
            say(b"<html>we are having lunch</html>" * 50)(handler)
        else:
            radio(handler)

    web.routes["/radio"] = route
    heard = listen(web.url("/radio"), 4.0)
    assert heard.error is None
    assert len(heard.losses) <= 1
    assert len(web.asked("/radio")) >= 4


def test_ctrl_c_ends_the_wait_for_a_stream(web: Site, program: bytes) -> None:
    web.routes["/radio"] = Radio(program, len(program) / RADIO_S, lengths_s=[1.0], deaf_s=1e9)
    patient = NetworkConfig(stall_s=30.0, first_pause_s=60.0, longest_pause_s=60.0)
    heard = listen(web.url("/radio"), 2.5, network=patient)
    assert heard.error is None
    assert heard.took_s < 5


def test_a_stream_that_was_no_stream_is_read_to_its_end_and_not_again(
    web: Site, program: bytes
) -> None:
    web.routes["/radio"] = Radio(program, 1e8, icy=False)
    heard = listen(web.url("/radio"), 4.0)
    assert heard.losses == []
    assert len(web.requests) == 1
    # no further ahead of the clock than that no backlog overflows
    assert 20 < heard.position_s < 27


# --- the rule by itself ---------------------------------------------------------------------------


def scripted(*blocks: Block, over: bool = False) -> Connection:
    """A connection that gives these blocks; then it breaks off, unless it is over."""

    def given() -> Iterator[Block]:
        yield from blocks
        if not over:
            raise SourceError("x", "cut")

    return Connection(1, "scripted", given(), 5.0, lambda: None)


def lost_of(first: Connection, dial: Callable[[], Connection], now: list[float]) -> list[float]:
    web = Web("x", QUICK, lambda _: None, threading.Event())
    live = Live(web, first, dial, lambda: now[0])
    return [block.lost_samples / block.rate for block in live.blocks()]


def second(lost_s: float = 0.0) -> Block:
    return Block(np.zeros((8000, 1), np.float32), 8000, 0.0, round(8000 * lost_s))


@pytest.mark.parametrize(("away_s", "missed_s"), [(0.0, 0.0), (3.0, 0.0), (5.0, 1.0), (10.0, 6.0)])
def test_what_was_given_ahead_of_the_clock_was_not_missed(away_s: float, missed_s: float) -> None:
    """A server that begins with 4 s of what was before has delivered them, but for one."""
    now = [100.0]

    def dial() -> Connection:
        now[0] += away_s + 1  # the block that comes then was spoken until then
        return scripted(second(), over=True)

    burst = [second() for _ in range(4)]
    assert lost_of(scripted(*burst), dial, now) == [0, 0, 0, 0, missed_s]


def test_a_jump_of_time_stamps_that_the_clock_denies_is_no_loss() -> None:
    jumping = scripted(second(), second(1000.0), second(), over=True)
    assert lost_of(jumping, scripted, [100.0]) == [0, 0, 0]


# --- HLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_hls(tmp_path_factory.mktemp("hls"), tone(12.0, 16_000))


def test_a_finished_playlist_is_a_file(web: Site, parts: list[Path]) -> None:
    for part in parts:
        web.routes[f"/a/{part.name}"] = say(part.read_bytes())
    web.routes["/a/whole.m3u8"] = say((parts[0].parent / "whole.m3u8").read_bytes())
    master = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\na/whole.m3u8\n"
    web.routes["/master.m3u8"] = say(master)
    for path in ("/a/whole.m3u8", "/master.m3u8"):
        source = open_source(InputConfig(web.url(path)), network=QUICK)
        assert not source.live
        assert source.repeatable
        chunks = list(source.chunks())
        assert sum(len(c.samples) for c in chunks) / SAMPLE_RATE == pytest.approx(12.0, abs=0.2)
        assert not any(c.lost_samples for c in chunks)
        source.close()


def serve(web: Site, parts: Sequence[bytes], lines: Sequence[str] = (), **more: str) -> str:
    """Serve a finished playlist of parts of a second; `more` are lines before a part, by number."""
    text = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", *lines]
    for number, part in enumerate(parts):
        web.routes[f"/p{number}.ts"] = say(part)
        text += [*filter(None, [more.get(f"_{number}")]), "#EXTINF:1.000,", f"p{number}.ts"]
    web.routes["/x.m3u8"] = say("\n".join([*text, "#EXT-X-ENDLIST"]).encode())
    return web.url("/x.m3u8")


def play(url: str, said: list[str] | None = None) -> tuple[Any, list[tuple[float, float, str]]]:
    """Return the samples of a finished broadcast with silence for losses, and the losses."""
    source = open_source(InputConfig(url), (said or []).append, network=QUICK)
    parts, losses, at = [np.zeros(0, np.float32)], [], 0
    for chunk in source.chunks():
        if chunk.lost_samples:
            losses.append((at / SAMPLE_RATE, chunk.lost_samples / SAMPLE_RATE, chunk.lost_reason))
        parts += [np.zeros(chunk.lost_samples, np.float32), chunk.samples[:, 0]]
        at += chunk.lost_samples + len(chunk.samples)
    source.close()
    return np.concatenate(parts), losses


def climbing(seconds: float) -> np.ndarray[Any, Any]:
    """[n, 1]: each second has a pitch of its own, so a sample shows where it comes from."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.4 * np.sin(2 * np.pi * (300 + 100 * np.floor(time)) * time)).astype("f4")[:, None]


def pitch_at(samples: Any, second: float) -> float:
    part = samples[round(second * SAMPLE_RATE) : round((second + 0.5) * SAMPLE_RATE)]
    return 2.0 * int(np.abs(np.fft.rfft(part)).argmax())


@pytest.fixture(scope="module")
def climb(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("climb")
    return [path.read_bytes() for path in write_hls(folder, climbing(8.0))]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("hole", "reason"),
    [
        ("gap", "a part of the broadcast is missing (EXT-X-GAP)"),
        ("404", "a part of the broadcast does not exist (HTTP 404)"),
        ("page", "a part of the broadcast is empty or text, not audio"),
        ("half", "time stamps jump"),
    ],
)
def test_a_broadcast_goes_on_after_a_hole_at_its_place(
    web: Site, climb: list[bytes], tmp_path: Path, hole: str, reason: str, restart: bool
) -> None:
    parts, more = list(climb), {}
    if restart:  # every part begins its time stamps again
        parts = []
        for number in range(8):
            (folder := tmp_path / str(number)).mkdir()
            second = climbing(8.0)[number * SAMPLE_RATE : (number + 1) * SAMPLE_RATE]
            parts.append(write_hls(folder, second)[0].read_bytes())
            more[f"_{number}"] = "#EXT-X-DISCONTINUITY"
    if hole == "gap":
        more["_3"] = more.get("_3", "") + "\n#EXT-X-GAP"
    if hole == "page":
        parts[3] = b"<html>gone</html>" * 40
    if hole == "half":
        parts[3] = parts[3][: 188 * 9]
    url = serve(web, parts, **more)
    if hole == "404":
        del web.routes["/p3.ts"]
    samples, losses = play(url)
    assert len(samples) / SAMPLE_RATE == pytest.approx(8.0, abs=0.35)
    assert len(losses) == 1
    at, missing_s, why = losses[0]
    if not restart:
        assert reason in why or "time stamps jump" in why or "it is damaged" in why
    if hole != "half":
        assert at == pytest.approx(3.0, abs=0.15)
        assert missing_s == pytest.approx(1.0, abs=0.15)
    for second in (0, 2, 4.2, 6):
        assert pitch_at(samples, second + 0.25) == pytest.approx(300 + 100 * int(second), abs=8)


def test_a_broadcast_whose_first_and_last_parts_are_missing_keeps_its_clock(
    web: Site, climb: list[bytes]
) -> None:
    url = serve(web, climb)
    for number in (0, 1, *range(7, len(climb))):
        del web.routes[f"/p{number}.ts"]
    samples, losses = play(url)
    assert [round(at) for at, _, _ in losses] == [0, 7]
    assert len(samples) / SAMPLE_RATE == pytest.approx(len(climb), abs=0.3)  # by the playlist
    assert pitch_at(samples, 2.25) == pytest.approx(500, abs=8)
    for number in (0, 1, *range(7, len(climb))):
        web.routes[f"/p{number}.ts"] = say(b"<html>gone</html>" if number % 2 else b"")
    assert [loss[:2] for loss in play(url)[1]] == [loss[:2] for loss in losses]
    url, noise = serve(web, climb), np.random.default_rng(1).bytes(20_000)
    for number in (0, 1, *range(7, len(climb))):
        web.routes[f"/p{number}.ts"] = say(noise)
    samples, losses = play(url)
    assert [(round(at), why) for at, _, why in losses] == [
        (at, "a part of the broadcast is damaged") for at in (0, 7)
    ]
    assert pitch_at(samples, 2.25) == pytest.approx(500, abs=8)
    for number in range(len(climb)):
        web.routes.pop(f"/p{number}.ts", None)
    with pytest.raises(SourceError, match=r"does not exist \(HTTP 404\)"):
        play(url)


def test_a_part_that_always_breaks_off_is_heard_as_far_as_it_comes(
    web: Site, climb: list[bytes]
) -> None:
    url = serve(web, climb)

    def breaking(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(climb[3])))
        handler.end_headers()
        handler.wfile.write(climb[3][: len(climb[3]) // 2])
        handler.close_connection = True

    web.routes["/p3.ts"] = breaking
    samples, losses = play(url)
    assert len(samples) / SAMPLE_RATE == pytest.approx(8.0, abs=0.3)
    assert pitch_at(samples, 5.25) == pytest.approx(800, abs=8)
    assert 0.2 < sum(missing_s for _, missing_s, _ in losses) < 0.9


def test_packed_audio_has_tags_between_its_parts(web: Site) -> None:
    target = io.BytesIO()
    encode(target, climbing(6.0), 16_000, "aac", "adts")
    data = target.getvalue()
    frames, at = [], 0
    while at < len(data):
        length = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
        frames.append(data[at : at + length])
        at += length
    tag = b"ID3\x04\0\0\0\0\0\x3f" + b"PRIV" + bytes(59)
    parts = [tag + b"".join(frames[n : n + 16]) for n in range(0, len(frames), 16)]
    samples, losses = play(serve(web, parts))
    assert losses == []
    assert len(samples) / SAMPLE_RATE == pytest.approx(6.0, abs=0.15)
    assert pitch_at(samples, 5.3) == pytest.approx(800, abs=8)


def test_a_fragmented_broadcast_is_heard_after_a_hole(web: Site) -> None:
    target = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}
    encode(target, climbing(6.0), 16_000, "aac", "mp4", options)
    data = target.getvalue()
    cuts = [m.start() - 4 for m in re.finditer(b"moof", data)]
    head = data[: cuts[0]]
    parts = [data[a:b] for a, b in zip(cuts, [*cuts[1:], len(data)], strict=True)]
    web.routes["/all.mp4"] = say(data)
    text = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", '#EXT-X-MAP:URI="head.mp4"']
    web.routes["/head.mp4"] = say(head)
    for number, part in enumerate(parts):
        web.routes[f"/f{number}.mp4"] = say(part)
        text += ["#EXTINF:1.024,", f"f{number}.mp4"]
    del web.routes["/f2.mp4"]
    web.routes["/x.m3u8"] = say("\n".join([*text, "#EXT-X-ENDLIST"]).encode())
    samples, losses = play(web.url("/x.m3u8"))
    assert len(losses) == 1
    assert losses[0][1] == pytest.approx(1.0, abs=0.1)
    assert len(samples) / SAMPLE_RATE == pytest.approx(6.1, abs=0.2)
    assert pitch_at(samples, 4.35) == pytest.approx(700, abs=8)


def test_byte_ranges_are_parts_also_if_the_server_ignores_them(
    web: Site, climb: list[bytes]
) -> None:
    web.routes["/all.ts"] = say(b"".join(climb))  # it knows no ranges
    text = ["#EXTM3U", "#EXT-X-VERSION:4", "#EXT-X-TARGETDURATION:1"]
    for number, part in enumerate(climb):
        text += ["#EXTINF:1.000,", f"#EXT-X-BYTERANGE:{len(part)}" + ("" if number else "@0")]
        text += ["all.ts"]
    web.routes["/x.m3u8"] = say("\r\n".join([*text, "#EXT-X-ENDLIST"]).encode())
    samples, losses = play(web.url("/x.m3u8"))
    assert losses == []
    assert len(samples) / SAMPLE_RATE == pytest.approx(8.0, abs=0.2)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: ("\n\n  \n# made by hand\n" + text).encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("#EXT-X-VERSION:3", "#EXT-X-VERSION:3\n# caf\xe9").encode(
            "latin-1"
        ),
    ],
)
def test_a_playlist_is_read_in_any_usual_form(
    web: Site, climb: list[bytes], form: Callable[[str], bytes]
) -> None:
    url = serve(web, climb[:3])
    text = "\n".join(["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1"])
    for number in range(3):
        text += f"\n#EXTINF:1.000,\np{number}.ts"
    web.routes["/x.m3u8"] = say(form(text + "\n#EXT-X-ENDLIST\n"), Content_Type="text/html")
    samples, losses = play(url)
    assert losses == []
    assert len(samples) / SAMPLE_RATE == pytest.approx(3.0, abs=0.15)


def test_a_playlist_that_is_compressed_on_the_way_is_read(web: Site, climb: list[bytes]) -> None:
    url = serve(web, climb)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1"]
    lines += [line for n in range(8) for line in ("#EXTINF:1.000,", f"p{n}.ts")]
    body = gzip.compress("\n".join([*lines, "#EXT-X-ENDLIST"]).encode())
    web.routes["/x.m3u8"] = say(body, Content_Encoding="gzip")
    samples, _ = play(url)
    assert len(samples) / SAMPLE_RATE == pytest.approx(8.0, abs=0.2)


@pytest.mark.parametrize(
    ("count", "settings", "length_s", "losses"),
    [
        (9, {}, 9.0, []),
        (9, {"missing": {5}}, 9.0, [(5.0, 1.0)]),
        # away for a short while; it begins three parts from the end
        (10, {"window": 6, "dead": (1.2, 2.4)}, 10.0 - 3, []),
    ],
)
def test_a_live_playlist_is_heard_until_it_says_that_it_is_over(
    web: Site,
    parts: list[Path],
    count: int,
    settings: dict[str, Any],
    length_s: float,
    losses: list[tuple[float, float]],
) -> None:
    data = [part.read_bytes() for part in parts[:count]]
    Broadcast(data, 1.0, ends=True, **settings).install(web)
    heard = listen(web.url("/live.m3u8"))
    assert heard.error is None
    assert heard.position_s == pytest.approx(length_s, abs=0.2)
    assert [(at, missed) for at, missed, _ in heard.losses] == [
        (pytest.approx(at, abs=0.2), pytest.approx(missed, abs=0.1)) for at, missed in losses
    ]
    assert all("does not exist (HTTP 404)" in reason for _, _, reason in heard.losses)


def test_a_live_playlist_that_was_away_longer_loses_what_has_passed(
    web: Site, parts: list[Path]
) -> None:
    data = [part.read_bytes() for part in parts[:12]]
    Broadcast(data, 1.0, ends=True, dead=(2.2, 7.2)).install(web)
    heard = listen(web.url("/live.m3u8"))
    assert heard.error is None
    assert heard.said[-2:][0].count("lost at") == 1
    assert sum(missed_s for _, missed_s, _ in heard.losses) == pytest.approx(2.5, abs=1.5)
    assert heard.position_s == pytest.approx(12.0, abs=1.5)


def windows(web: Site, parts: Sequence[bytes], *shown: tuple[int, range, str]) -> str:
    """Serve a live playlist: (media sequence number, parts, more lines) of each request."""
    for number, part in enumerate(parts):
        web.routes[f"/p{number}.ts"] = say(part)

    def route(handler: Any) -> None:
        first, listed, more = shown[min(len(web.asked("/live.m3u8")), len(shown)) - 1]
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}", more]
        lines += [line for n in listed for line in ("#EXTINF:1.000,", f"p{n}.ts")]
        if len(web.asked("/live.m3u8")) >= len(shown):
            lines.append("#EXT-X-ENDLIST")
        say("\n".join(lines).encode())(handler)

    web.routes["/live.m3u8"] = route
    return web.url("/live.m3u8")


def test_parts_that_left_a_live_playlist_unseen_are_a_loss(web: Site, climb: list[bytes]) -> None:
    url = windows(web, climb, (0, range(3), ""), (0, range(3), ""), (5, range(5, 8), ""))
    source = open_source(InputConfig(url), network=QUICK)
    assert source.live
    samples, losses, at = [], [], 0
    for chunk in source.chunks():
        if chunk.lost_samples:
            losses.append((at / SAMPLE_RATE, chunk.lost_samples / SAMPLE_RATE, chunk.lost_reason))
        samples += [np.zeros(chunk.lost_samples, np.float32), chunk.samples[:, 0]]
        at += chunk.lost_samples + len(chunk.samples)
    source.close()
    [(begin_s, missing_s, reason)] = losses
    assert begin_s == pytest.approx(3.0, abs=0.15)
    assert missing_s == pytest.approx(2.0, abs=0.15)
    assert reason == "2 parts of the broadcast were removed before they were fetched"
    heard = np.concatenate(samples)
    assert pitch_at(heard, 6.25) == pytest.approx(900, abs=8)
    assert len(heard) / SAMPLE_RATE == pytest.approx(8.0, abs=0.3)


def test_a_server_that_counts_again_from_the_beginning_is_heard(
    web: Site, climb: list[bytes]
) -> None:
    url = windows(web, climb, (700, range(3), ""), (0, range(3, 6), ""), (0, range(3, 8), ""))
    heard = listen(url)
    assert heard.error is None
    assert heard.losses == []
    assert heard.position_s == pytest.approx(8.0, abs=0.3)


def test_a_live_playlist_whose_parts_are_all_missing_is_an_error_in_time(
    web: Site, climb: list[bytes]
) -> None:
    url = windows(web, climb, *[(n, range(n + 20, n + 23), "") for n in range(40)])
    begun = time.monotonic()
    with pytest.raises(SourceError):
        open_source(InputConfig(url), network=QUICK)
    assert time.monotonic() - begun < 20


MASTER = """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=3000000,CODECS="avc1.4d401f,mp4a.40.2"
high/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.5"
https://cdn.example.org/audio.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=30000,CODECS="avc1.4d401f,mp4a.40.2"
low/index.m3u8
"""


def chosen(text: str, track: int = 0) -> str | None:
    found = best_of(text, "http://example.org/show/master.m3u8?t=1", track)
    return found[0] if found else None


def rendition(name: str, **more: str) -> str:
    values = "".join(f',{key}="{value}"' for key, value in more.items() if key != "DEFAULT")
    default = more.get("DEFAULT", "NO")
    return f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="{name}",DEFAULT={default}{values}\n'


def test_the_playlist_with_the_fewest_pictures_is_chosen() -> None:
    assert chosen(MASTER) == "https://cdn.example.org/audio.m3u8"
    pictures = "\n".join(MASTER.splitlines()[:3] + MASTER.splitlines()[5:])
    assert chosen(pictures) == "http://example.org/show/low/index.m3u8"
    assert chosen("#EXTM3U\n#EXTINF:3,\nx.ts\n") is None


def test_of_several_sounds_the_default_is_chosen_or_one_by_its_number() -> None:
    english, german = rendition("z", URI="z.m3u8"), rendition("b", DEFAULT="YES", URI="b.m3u8")
    described = rendition("a", URI="a.m3u8", CHARACTERISTICS="public.accessibility.describes-video")
    inside = rendition("main", DEFAULT="YES")
    assert chosen(MASTER + rendition("x, y", DEFAULT="YES", URI="a.m3u8")).endswith("show/a.m3u8")
    assert chosen(MASTER + english + german).endswith("/b.m3u8")
    assert chosen(MASTER + described + english).endswith("/z.m3u8")
    assert chosen(MASTER + described + inside) == "https://cdn.example.org/audio.m3u8"
    assert chosen(MASTER + english + german, 1).endswith("/z.m3u8")
    with pytest.raises(SourceError, match="has 2 sounds, not 3"):
        chosen(MASTER + english + german, 3)


def test_what_a_playlist_says() -> None:
    where = "http://joe:pw@example.org/show/x.m3u8"
    text = """
    #EXT-X-TARGETDURATION:6
    #EXT-X-MEDIA-SEQUENCE:7
    #EXTINF:5.5,a title\u2028of two\x85lines\x1e
    x.ts
    #EXT-X-GAP
    #EXT-X-DISCONTINUITY
    https://example.org/y.ts
    """
    listed = parse(text, where)
    assert (listed.target_s, listed.over, listed.encrypted) == (6, False, False)
    first, second = listed.parts
    # a password goes to the same server only
    assert [first.url, second.url] == [
        "http://joe:pw@example.org/show/x.ts",
        "https://example.org/y.ts",
    ]
    assert (first.number, first.length_s, first.joined, first.absent) == (7, 5.5, True, False)
    assert (second.number, second.length_s, second.joined, second.absent) == (8, 6, False, True)
    assert parse("", where).target_s == 10
    assert is_playlist(b"#EXTM3U\n#EXT-X-VERSION:3")
    assert not is_playlist(b"#EXTM3U\nhttp://x/a.mp3")
    assert not is_playlist(b"\0\0#EXT-X-VERSION:3")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_playlist_or_refused(data: bytes) -> None:
    text = text_of(data)
    for beginning in ("", "#EXT-X-MAP:URI=", "#EXT-X-BYTERANGE:", "#EXTINF:1,\nx.ts\n#EXT-X-KEY:"):
        with suppress(SourceError):
            parse(beginning + text, "http://example.org/x.m3u8")


def test_a_playlist_that_leads_to_itself_is_an_error(web: Site) -> None:
    web.routes["/x.m3u8"] = say(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nx.m3u8\n")
    with pytest.raises(SourceError, match="playlist of too many playlists"):
        open_source(InputConfig(web.url("/x.m3u8")), network=QUICK)


# --- RTSP -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def telephone() -> bytes:
    """Half a minute of mu-law."""
    target = io.BytesIO()
    encode(target, tone(30.0, 8000), 8000, "pcm_mulaw", "mulaw")
    return target.getvalue()


def test_a_camera_that_is_cut_comes_back_and_what_was_missed_is_told(telephone: bytes) -> None:
    slow = NetworkConfig(stall_s=5.0, first_pause_s=1.0, longest_pause_s=1.5, give_up_s=20.0)
    with camera(telephone, (1.5,)) as device:
        heard = listen(device.url("joe:s3cret@"), 6.0, network=slow)
        assert device.sessions == 2
    assert heard.error is None
    [(at, missed_s, reason)] = heard.losses
    assert at == pytest.approx(1.5, abs=0.5)
    assert 0.4 < missed_s < 3.0
    assert reason == "the connection was lost: the server ended the session"
    assert heard.position_s == pytest.approx(heard.took_s, abs=1.0)
    assert "s3cret" not in " ".join(heard.said)


def test_a_camera_wants_its_password_and_shows_it_nowhere(telephone: bytes) -> None:
    with camera(telephone, password="s3cret") as device:
        with pytest.raises(SourceError) as caught:
            open_source(InputConfig(device.url()), network=QUICK)
        assert "401" in caught.value.reason or "authoriz" in caught.value.reason.lower()
        heard = listen(device.url("joe:s3cret@"), 1.0)
        assert heard.samples > 0
        assert heard.losses == []
    with pytest.raises(SourceError) as caught:
        open_source(InputConfig("rtsp://joe:s3cret@127.0.0.1:1/x"), network=QUICK)
    assert "refused" in caught.value.reason.lower()
    assert "s3cret" not in str(caught.value)


def test_a_camera_whose_certificate_nobody_vouches_for_is_refused(
    telephone: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with camera(telephone, tls=context) as device:
        with pytest.raises(SourceError):
            open_source(InputConfig(device.url()), network=QUICK)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert listen(device.url(), 1.0).samples > 0
