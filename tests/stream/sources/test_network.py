"""Audio over HTTP that has an end: read like a file, taken up again where it broke off."""

from __future__ import annotations

import gzip
import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from media_server import Download, Site, redirect, say, site
from source_fakes import encode, tone

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources import open_source
from abhinaya.stream.sources.address import (
    check_address,
    is_address,
    name_of,
    shown,
    with_credentials,
)
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.sources.web import Web

QUICK = NetworkConfig(
    connect_s=5.0, stall_s=1.0, first_pause_s=0.02, longest_pause_s=0.1, give_up_s=5.0
)


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as server:
        yield server


def encoded(container: str, codec: str, seconds: float = 30.0, rate: int = 16_000) -> bytes:
    target = io.BytesIO()
    # noise: it fills the file, so that cuts fall into it, and no part of it equals another
    samples = tone(seconds, rate) + np.random.default_rng(1).normal(
        0, 0.1, (round(seconds * rate), 1)
    ).astype(np.float32)
    encode(target, samples, rate, codec, container)
    return target.getvalue()


def read(url: str, said: list[str] | None = None, **settings: Any) -> np.ndarray[Any, Any]:
    """Give all samples [n] of an address."""
    warn: Callable[[str], None] = (lambda _: None) if said is None else said.append
    source = open_source(InputConfig(url, **settings), warn, network=QUICK)
    parts = []
    try:
        for chunk in source.chunks():
            assert not chunk.lost_samples
            parts.append(chunk.samples[:, 0])
    finally:
        source.close()
    return np.concatenate(parts)


def fault(url: str, **settings: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(url, **settings)
    return caught.value


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("wav", "pcm_s16le", 16_000),
        ("mp3", "libmp3lame", 16_000),
        ("mp4", "aac", 16_000),  # its index stands at its end
        ("ogg", "libopus", 48_000),
        ("flac", "flac", 16_000),
    ],
)
def test_a_file_that_is_cut_again_and_again_loses_and_doubles_nothing(
    web: Site, tmp_path: Path, container: str, codec: str, rate: int
) -> None:
    data = encoded(container, codec, 30.0, rate)
    local = tmp_path / "whole"
    local.write_bytes(data)
    whole = read(str(local))
    steps = len(data) // 7
    web.routes["/x"] = Download(data, cuts=[steps, 1, steps * 2, steps])
    said: list[str] = []
    source = open_source(InputConfig(web.url("/x")), network=QUICK)
    assert not source.live
    assert source.repeatable
    source.close()
    web.routes["/x"] = Download(data, cuts=[steps, 1, steps * 2, steps])
    assert np.array_equal(read(web.url("/x"), said), whole)
    assert sum("resumed at" in line for line in said) >= 3


def test_a_server_that_stalls_is_left_and_asked_for_the_rest(web: Site) -> None:
    download = Download(encoded("wav", "pcm_s16le"), cuts=[600_000], stall=threading.Event())
    web.routes["/x.wav"] = download
    said: list[str] = []
    assert len(read(web.url("/x.wav"), said)) == 30 * 16_000
    assert "sent nothing for 1 s" in said[0]
    assert web.asked("/x.wav")[-1]["range"] == "bytes=600000-"
    assert web.asked("/x.wav")[-1]["if-range"] == download.etag


def shorter(length: int) -> Callable[[Site, Download], None]:
    def then(_: Site, download: Download) -> None:
        download.data = download.data[:length]

    return then


def replaced(_: Site, download: Download) -> None:
    download.data, download.etag = bytes(len(download.data)), '"two"'


def answers(status: int) -> Callable[[Site, Download], None]:
    def then(web: Site, _: Download) -> None:
        web.routes["/x.wav"] = say(b"", status)

    return then


@pytest.mark.parametrize(
    ("then", "words", "least_s"),
    [
        (None, "breaks off at 20.00 s: was cut off at 0.64 of 0.96 MB, its server cannot", 0),
        (shorter(700_000), "it was read, at 0.64 of 0.96 MB: it had 960078 bytes, now 700000", 0),
        (shorter(400_000), "it is shorter now", 0),
        (shorter(100), "it is shorter now", 0),
        (replaced, "it is another one", 0),
        (answers(404), "breaks off at 20.00 s: does not exist (HTTP 404)", 0),
        (answers(503), "HTTP 503 at 0.64 of 0.96 MB, and not resumed within 5 s", 4),
    ],
)  # fmt: skip
def test_what_becomes_of_a_file_that_does_not_come_back(
    web: Site, then: Callable[[Site, Download], None] | None, words: str, least_s: float
) -> None:
    download = Download(encoded("wav", "pcm_s16le"), ranges=then is not None, cuts=[640_078])
    download.then = lambda d: then(web, d) if then else None
    web.routes["/x.wav"] = download
    begun = time.monotonic()
    reason = fault(web.url("/x.wav")).reason.replace("the connection was cut", "was cut off")
    assert words in reason
    assert least_s <= time.monotonic() - begun < least_s + 20


def test_a_file_of_unknown_length_that_comes_at_once_has_an_end(web: Site) -> None:
    data = encoded("wav", "pcm_s16le", 5.0)

    def chunked(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))

    web.routes["/x.wav"] = chunked
    assert len(read(web.url("/x.wav"))) == 5 * 16_000
    assert len(web.requests) == 1
    source = open_source(InputConfig(web.url("/x.wav"), endless="no"), network=QUICK)
    assert not source.live
    assert sum(len(chunk.samples) for chunk in source.chunks()) == 5 * 16_000
    source.close()


# --- what is no audio -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500, 503])
def test_a_refusal_is_said_with_its_number(web: Site, status: int) -> None:
    web.routes["/x.mp3"] = say(b"no", status)
    error = fault(web.url("/x.mp3"))
    assert f"HTTP {status}" in error.reason
    assert error.remedy
    assert error.exit_code == 3


def test_a_server_that_is_not_there_or_does_not_answer_is_said(web: Site) -> None:
    assert "cannot be reached (Connection refused)" in fault("http://127.0.0.1:1/x.mp3").reason
    assert "cannot be reached" in fault("http://no-such-host.invalid/x.mp3").reason
    web.routes["/x"] = lambda _: web.stopping.wait(30) and None
    begun = time.monotonic()
    assert "sent nothing for 1 s" in fault(web.url("/x")).reason
    assert time.monotonic() - begun < 10


def test_redirects_are_followed_but_not_for_ever_and_not_to_other_protocols(web: Site) -> None:
    web.routes["/x.wav"] = say(encoded("wav", "pcm_s16le", 1.0))
    web.routes["/once"] = redirect("/x.wav")
    assert len(read(web.url("/once"))) == 16_000
    web.routes["/round"] = redirect("/round")
    assert "redirects more than 10 times" in fault(web.url("/round")).reason
    assert len(web.asked("/round")) == 11
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x.mp3", "gopher://x/"):
        web.routes["/x"] = redirect(target)
        reason = fault(web.url("/x")).reason
        assert reason.startswith(f"redirects to {target.partition('://')[0]}://")
        assert "uses a protocol that is not accepted" in reason


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><html><body>Not found, dear listener</body></html>", "is a web page"),
        (b"not found", "is text, not audio"),
        (b"#EXTM3U\nhttp://example.org/a?key=1\n", "is a playlist of other addresses"),
        (b"[playlist]\nFile1=http://example.org/a\n", "is a playlist of other addresses"),
        (bytes(range(256)) * 20, "cannot be decoded as audio"),
    ],
)
def test_what_is_no_audio_is_said(web: Site, body: bytes, words: str) -> None:
    web.routes["/x.mp3"] = say(body, Content_Type="audio/mpeg")
    error = fault(web.url("/x.mp3"))
    assert words in error.reason
    assert "key=1" not in str(error)


def test_a_certificate_that_nobody_vouches_for_is_refused_and_one_of_a_known_authority_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with site(context) as web:
        web.routes["/x.wav"] = say(encoded("wav", "pcm_s16le", 1.0))
        error = fault(web.url("/x.wav"))
        assert "certificate cannot be trusted" in error.reason
        assert "SSL_CERT_FILE" in error.remedy
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert len(read(web.url("/x.wav"))) == 16_000
        plain = web.url("/x.wav").replace("https", "http")
        assert fault(plain).reason == "the connection was cut"
    with site() as web:
        error = fault(web.url("/x.wav").replace("http", "https"))
        assert "TLS" in error.reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the connection was cut"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "does not answer in valid HTTP"),
        (b"ICY 200 OK\r\nicy-name: x\r\n\r\n", "answers in the protocol of Shoutcast 1"),
    ],
)
def test_what_speaks_no_http_is_said(answer: bytes, reason: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            client.recv(1000)
            client.sendall(answer)
            client.close()

        threading.Thread(target=serve, daemon=True).start()
        error = fault(f"http://127.0.0.1:{listener.getsockname()[1]}/x")
    assert error.reason.startswith(reason)


def titled(data: bytes, interval: int, titles: list[bytes]) -> bytes:
    """Return audio with a block of metadata after each `interval` bytes."""
    body = b""
    for number, at in enumerate(range(0, len(data), interval)):
        body += data[at : at + interval]
        text = b"StreamTitle='%s';" % titles[number] if number < len(titles) else b""
        text += bytes(-len(text) % 16)
        if at + interval <= len(data):
            body += bytes([len(text) // 16]) + text
    return body


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("lying", [False, True])
def test_metadata_that_comes_unasked_is_not_heard(web: Site, chunked: bool, lying: bool) -> None:
    data = encoded("wav", "pcm_s16le", 3.0)
    titles = [b"One", "Zwölf".encode("latin-1"), "Zwölf".encode(), b"", b"x" * 200]
    body = data if lying else titled(data, 4096, titles)

    def radio(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "audio/mpeg")  # which it is not
        handler.send_header("icy-metaint", "4096")
        handler.send_header(
            "Transfer-Encoding" if chunked else "Connection", "chunked" if chunked else "close"
        )
        handler.end_headers()
        for at in range(0, len(body), 777):
            part = body[at : at + 777]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        handler.wfile.write(b"0\r\n\r\n" if chunked else b"")
        handler.close_connection = True

    web.routes["/x"] = radio
    said: list[str] = []
    source = open_source(InputConfig(web.url("/x")), said.append, network=QUICK)
    samples = np.zeros(0, np.float32)
    for chunk in source.chunks():
        samples = np.concatenate([samples, chunk.samples[:, 0]])
        if len(samples) >= 3 * 16_000:
            source.interrupt()
    source.close()
    expected = np.frombuffer(data[78:], "<i2")[: len(samples)] / 32768
    assert len(samples) >= 2.9 * 16_000
    np.testing.assert_allclose(samples[: len(expected)], expected, atol=1e-4)
    played = [line.partition(": plays ")[2] for line in said if ": plays " in line]
    assert played == ([] if lying else ["One", "Zwölf", "x" * 200])


def test_a_file_with_metadata_in_it_has_an_end(web: Site) -> None:
    data = encoded("wav", "pcm_s16le", 3.0)
    body = titled(data, 1000, [b"One"])
    web.routes["/x.wav"] = say(body, icy_metaint="1000", Content_Type="audio/wav")
    assert len(read(web.url("/x.wav"), endless="no")) == 3 * 16_000
    assert len(web.asked("/x.wav")) == 1


@pytest.mark.parametrize(
    "body",
    [
        "#EXTM3U\r\n#EXTINF:-1,Radio\r\nhttp://example.org/a?key=1\r\n",
        "\n\n# stations\nhttp://example.org/a?key=1\n",
        "[playlist]\r\nNumberOfEntries=1\r\nFile1=http://example.org/a?key=1\r\n",
        "<?xml version='1.0'?><playlist><location>http://example.org/a?key=1</location></playlist>",
        '<ASX version="3.0"><Entry><Ref HREF = "http://example.org/a?key=1"/></Entry></ASX>',
        "#EXTM3U\na?key=1\n",
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_playlist_of_a_station_is_named_in_any_form(
    web: Site, tmp_path: Path, body: str, coding: str
) -> None:
    host = "http://example.org/a" if "example" in body else web.url("/a")
    for kind in ("audio/mpeg", "text/html", "application/octet-stream"):
        web.routes["/x.mp3"] = say(body.encode(coding), Content_Type=kind)
        error = fault(web.url("/x.mp3"))
        assert error.reason == "is a playlist of other addresses"
        assert error.remedy == f"name one of them, for example {host}?…"
    (tmp_path / "x.m3u").write_bytes(body.encode(coding))
    assert fault(str(tmp_path / "x.m3u")).reason == "is a playlist of other inputs"


def test_a_body_that_is_compressed_on_the_way_is_heard(web: Site) -> None:
    data = encoded("wav", "pcm_s16le", 2.0)
    web.routes["/x.wav"] = say(gzip.compress(data), Content_Encoding="gzip")
    assert len(read(web.url("/x.wav"))) == 32_000
    web.routes["/x.wav"] = say(gzip.compress(data)[:-5000], Content_Encoding="gzip")
    assert "breaks off" in fault(web.url("/x.wav")).reason
    web.routes["/x.wav"] = say(data, Content_Encoding="br")
    assert "a coding that was not asked for (br)" in fault(web.url("/x.wav")).reason
    web.routes["/x.wav.gz"] = say(gzip.compress(data))
    assert "is compressed with gzip" in fault(web.url("/x.wav.gz")).reason


def test_an_answer_with_another_range_is_refused(web: Site) -> None:
    data = encoded("wav", "pcm_s16le", 1.0)
    rest, whole = data[100:], len(data)
    web.routes["/x"] = say(rest, 206, Content_Range=f"bytes 100-{whole - 1}/{whole}")
    assert "another part of the file" in fault(web.url("/x")).reason


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("file:///etc/passwd", "redirects to file://…, which uses a protocol that is not"),
        ("FILE://host/etc/passwd", "which uses a protocol that is not accepted (file)"),
        ("rtsp://127.0.0.1/x", "which uses a protocol that is not accepted (rtsp)"),
        ("data:audio/wav;base64,AAAA", "which uses a protocol that is not accepted (data)"),
        ("http://[bad/x", "its host or port is wrong"),
        ("http://127.0.0.1:99999/x", "its host or port is wrong"),
        ("/x\x1b[31m", "does not answer in valid HTTP"),
    ],
)
def test_a_redirect_is_refused_by_the_name_of_its_target(
    web: Site, target: str, words: str
) -> None:
    web.routes["/x"] = redirect(target)
    error = fault(web.url("/x"))
    assert words in error.reason
    assert "try again" not in error.remedy


# --- secrets and strangers ------------------------------------------------------------------------


def test_user_and_password_are_sent_and_never_shown(web: Site) -> None:
    web.routes["/x.wav"] = say(encoded("wav", "pcm_s16le", 1.0))
    url = web.url("/x.wav?token=hush", user="joe:s3cret@")
    source = open_source(InputConfig(url), network=QUICK)
    assert web.asked("/x.wav?token=hush")[0]["authorization"].startswith("Basic ")
    assert source.description.startswith(f"{web.url('/x.wav')}?…: pcm_s16le")
    source.close()
    for bad in (url.replace("/x.wav", "/none"), url.replace(str(web.port), "1")):
        text = str(fault(bad))
        assert "s3cret" not in text
        assert "joe" not in text
        assert "hush" not in text


def test_a_password_is_not_passed_on_by_a_redirect_to_another_server(web: Site) -> None:
    with site() as other:
        other.routes["/x.wav"] = say(encoded("wav", "pcm_s16le", 1.0))
        web.routes["/x.wav"] = redirect(other.url("/x.wav"))
        assert len(read(web.url("/x.wav", user="joe:s3cret@"))) == 16_000
        assert "authorization" not in other.asked("/x.wav")[0]


HOSTILE = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n",
    "hls-master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n",
    "hls-key": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n"
    '#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:3,\nx.ts\n#EXT-X-ENDLIST\n',
    "hls-map": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n"
    '#EXT-X-MAP:URI="{}"\n#EXTINF:3,\nx.ts\n#EXT-X-ENDLIST\n',
    "concat": "ffconcat version 1.0\nfile {}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=audio 5004 RTP/AVP 0\na=x:{}\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_playlist_opens_no_file_of_this_machine(
    web: Site, tmp_path: Path, kind: str
) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encoded("wav", "pcm_s16le", 3.0))
    for scheme in ("file://{}", "{}", "concat:{}", "subfile,,start,0,end,0,,:{}"):
        body = HOSTILE[kind].format(scheme.format(secret)).encode()
        for name in ("x.mp3", "x.m3u8", "x.sdp", "x.txt"):
            web.routes[f"/{name}"] = say(body)
            assert fault(web.url(f"/{name}")).reason
            (tmp_path / name).write_bytes(body)
            assert fault(str(tmp_path / name)).reason


@pytest.mark.parametrize("target", ["http://[bad/x.ts", "//", "ftp://127.0.0.1/x", "none.ts"])
@pytest.mark.parametrize("ending", ["", "#EXT-X-ENDLIST\n"])
def test_a_playlist_of_parts_that_cannot_be_fetched_is_an_error_in_time(
    web: Site, target: str, ending: str
) -> None:
    body = f"#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXTINF:1,\n{target}\n{ending}"
    web.routes["/x.m3u8"] = say(body.encode())
    begun = time.monotonic()
    assert fault(web.url("/x.m3u8")).reason
    assert "/x.m3u8" in fault(web.url("/x.m3u8")).subject
    assert time.monotonic() - begun < 20


def test_other_protocols_are_refused_by_name() -> None:
    for url in ("ftp://example.org/x.mp3", "file:///etc/passwd", "concat://x", "data://x"):
        with pytest.raises(SourceError, match="protocol that is not accepted"):
            open_source(InputConfig(url))
    with pytest.raises(SourceError, match="names no host"):
        check_address("http:///x.mp3")
    with pytest.raises(SourceError, match="its host or port is wrong"):
        check_address("http://host:port/x.mp3")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://example.org/shows/Episode%2012.mp3?x=1", "Episode 12"),
        ("https://joe:pw@radio.example.org:8000/", "radio.example.org"),
        ("rtsp://10.0.0.1/microphone", "microphone"),
        ("http://example.org/" + "x" * 500, "x" * 80),
        ("http://example.org/a%0Ab%1b.mp3", "a b\\x1b"),
        ("http://[bad/", "stream"),
    ],
)
def test_a_stream_is_called_what_its_address_ends_with(url: str, name: str) -> None:
    assert is_address(url)
    assert name_of(url) == name
    assert "pw" not in shown(url)
    assert "joe" not in shown(url)


def test_paths_are_no_addresses() -> None:
    for path in ("call.wav", "/a/b:c.wav", "C:/x.wav", "-", "mic", "a b://c"):
        assert not is_address(path)


def test_ctrl_c_ends_the_wait_for_a_server(web: Site) -> None:
    def vanish(_: Download) -> None:
        web.routes["/x.wav"] = say(b"", 503)

    web.routes["/x.wav"] = Download(encoded("wav", "pcm_s16le"), cuts=[650_000], then=vanish)
    patient = NetworkConfig(stall_s=1.0, first_pause_s=30.0, longest_pause_s=60.0, give_up_s=600.0)
    source = open_source(InputConfig(web.url("/x.wav")), network=patient)
    threading.Timer(0.5, source.interrupt).start()
    begun = time.monotonic()
    with pytest.raises(SourceError):
        list(source.chunks())
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("http://u:p@h/x?k=1#f", "http://h/x?…"),
        ("http://a:b@c@h:8/x@y", "http://h:8/x@y"),
        ("joe:s@h/x", "…h/x"),
        ("http://u:p/w@h/x", "…h/x"),
        ("http:/u:p@h/x?k", "…h/x"),
        ("https://joe:secret/x", "https://…"),
        ("call.wav", "call.wav"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, safe: str) -> None:
    assert shown(url) == safe


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("http://h/x", "http://u:p@h/x"),
        ("http://H:80/x", "http://u:p@H:80/x"),
        ("http://v:w@h/x", "http://v:w@h/x"),
        ("https://h/x", "https://h/x"),
        ("http://h:81/x", "http://h:81/x"),
        ("http://h.evil/x", "http://h.evil/x"),
        ("http://evil@h@x/", "http://evil@h@x/"),
        ("http:///x", "http:///x"),
    ],
)
def test_a_password_goes_to_its_origin_alone(url: str, given: str) -> None:
    assert with_credentials(url, "http://u:p@h/feed") == given
    assert with_credentials(url, "http://h/feed") == url


def test_the_parts_of_a_broadcast_get_the_password_of_its_address() -> None:
    asked: list[tuple[str, str]] = []

    def keep(handler: Any) -> None:
        asked.append((handler.path, handler.headers.get("Authorization", "")))
        say(b"x")(handler)

    with site() as mine, site() as other:
        mine.routes["/a"] = other.routes["/b"] = keep
        address = mine.url("/list.m3u8", user="joe:s3cret@")
        web = Web("x", NetworkConfig(), print, threading.Event(), address)
        web.fetch(mine.url("/a"), 10)
        web.fetch(other.url("/b"), 10)
    assert [bool(password) for _, password in asked] == [True, False]
