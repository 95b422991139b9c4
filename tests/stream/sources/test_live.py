"""Audio that runs by itself: radio, HLS, RTSP; cut, stalled, gone and back again."""

from __future__ import annotations

import io
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
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
from abhinaya.stream.sources.hls import best_of, is_playlist, parts_of, target_s
from abhinaya.stream.sources.live import Connection, Live
from abhinaya.stream.sources.media.mpeg import is_adts
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


def test_a_part_that_is_missing_from_a_finished_playlist_is_an_error(
    web: Site, parts: list[Path]
) -> None:
    for part in parts:
        web.routes[f"/{part.name}"] = say(part.read_bytes())
    web.routes["/whole.m3u8"] = say((parts[0].parent / "whole.m3u8").read_bytes())
    del web.routes[f"/{parts[5].name}"]
    source = open_source(InputConfig(web.url("/whole.m3u8")), network=QUICK)
    samples = []
    with pytest.raises(SourceError, match=r"breaks off at .* s: does not exist \(HTTP 404\)"):
        samples.extend(len(chunk.samples) for chunk in source.chunks())
    assert sum(samples) / SAMPLE_RATE == pytest.approx(5.0, abs=0.3)


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
    assert all("time stamps" in reason for _, _, reason in heard.losses)


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


MASTER = """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=3000000,CODECS="avc1.4d401f,mp4a.40.2"
high/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.5"
https://cdn.example.org/audio.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=30000,CODECS="avc1.4d401f,mp4a.40.2"
low/index.m3u8
"""


def test_the_playlist_with_the_fewest_pictures_is_chosen() -> None:
    where = "http://example.org/show/master.m3u8?t=1"
    assert best_of(MASTER, where) == "https://cdn.example.org/audio.m3u8"
    pictures = "\n".join(MASTER.splitlines()[:3] + MASTER.splitlines()[5:])
    assert best_of(pictures, where) == "http://example.org/show/low/index.m3u8"
    rendition = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x, y",DEFAULT=YES,URI="a.m3u8"\n'
    assert best_of(MASTER + rendition, where) == "http://example.org/show/a.m3u8"
    assert best_of("#EXTM3U\n#EXTINF:3,\nx.ts\n", where) is None
    assert parts_of("#EXTM3U\n#EXTINF:3,\nx.ts\n", where) == ["http://example.org/show/x.ts"]
    odd = "#EXTM3U\r\n#EXTINF:3,a title\u2028of two\x85lines\x1e\r\nx.ts\r\n"
    assert parts_of(odd, where) == ["http://example.org/show/x.ts"]
    assert target_s("#EXTM3U\n#EXT-X-TARGETDURATION:6\n") == 6
    assert target_s("") == 10
    assert is_playlist(b"#EXTM3U\n#EXT-X-VERSION:3")
    assert not is_playlist(b"#EXTM3U\nhttp://x/a.mp3")


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
