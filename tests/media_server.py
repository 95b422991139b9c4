"""Servers of audio on this machine, over HTTP and RTSP; their faults are the point of them."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Route = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A web server: `routes` answer by path."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                route = outer.routes.get(self.path.partition("?")[0])
                with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                    if route is None:
                        say(b"not here", status=404)(self)
                    else:
                        route(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that does not trust the certificate

        self._http = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._http.socket = tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._scheme = "https" if tls else "http"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    def url(self, path: str, user: str = "") -> str:
        return f"{self._scheme}://{user}127.0.0.1:{self.port}{path}"

    def asked(self, path: str) -> list[dict[str, str]]:
        """Headers of the requests for a path."""
        return [headers for where, headers in self.requests if where == path]

    def stop(self) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def site(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    server = Site(tls)
    try:
        yield server
    finally:
        server.stop()


def say(body: bytes, status: int = 200, **headers: str) -> Route:
    """One answer, whole."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return route


def redirect(to: str) -> Route:
    return say(b"", 302, Location=to)


@dataclass
class Download:
    """A file; each of `cuts` ends one answer after so many bytes, then it is served whole."""

    data: bytes
    ranges: bool = True
    etag: str = '"one"'
    kind: str = "audio/x"
    cuts: list[int] = field(default_factory=list)
    stall: threading.Event | None = None
    """Instead of cutting, send nothing more until this is set."""
    then: Callable[[Download], None] = lambda _: None
    """Called after a cut: the file may change."""
    not_modified: int = 0

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        data, begin, status = self.data, 0, 200
        if handler.headers.get("If-None-Match") == self.etag:
            self.not_modified += 1
            handler.send_response(304)
            handler.end_headers()
            return
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range", self.etag) == self.etag
        if asked and self.ranges and same:
            begin, status = int(asked.group(1)), 206
            if begin >= len(data):
                say(b"", 416)(handler)
                return
        handler.send_response(status)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Type", self.kind)
        handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(data) - begin))
        handler.end_headers()
        if not self.cuts:
            handler.wfile.write(data[begin:])
            return
        handler.wfile.write(data[begin : begin + self.cuts.pop(0)])
        if self.stall is not None:
            self.stall.wait(30)
        handler.close_connection = True
        self.then(self)


@dataclass
class Radio:
    """A broadcast that runs by the clock: whoever tunes in hears what is on, from then on."""

    data: bytes
    bytes_per_s: float
    icy: bool = True
    lengths_s: list[float] = field(default_factory=list)
    """Seconds after which each connection is cut; then none is."""
    deaf_s: float = 0.0
    """Seconds after a cut in which it refuses."""
    stall: bool = False
    """Instead of cutting, send nothing more."""
    kind: str = "audio/x"
    stopping: threading.Event = field(default_factory=threading.Event)
    _begun: float = 0.0
    _deaf_until: float = 0.0

    def begin(self, ago_s: float) -> None:
        """Have begun before anybody listens."""
        self._begun = time.monotonic() - ago_s

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        now = time.monotonic()
        if now < self._deaf_until:
            say(b"no source", 503)(handler)
            return
        self._begun = self._begun or now
        handler.send_response(200)
        handler.send_header("Content-Type", self.kind)
        if self.icy:
            handler.send_header("icy-name", "Radio")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        length_s = self.lengths_s.pop(0) if self.lengths_s else 1e9
        self._play(handler, now, length_s)
        if self.stall:
            self.stopping.wait(30)
        self._deaf_until = time.monotonic() + self.deaf_s

    def _play(self, handler: BaseHTTPRequestHandler, since: float, length_s: float) -> None:
        at = int((since - self._begun) * self.bytes_per_s)
        while not self.stopping.wait(0.02):
            now = time.monotonic()
            due = int((now - self._begun) * self.bytes_per_s)
            handler.wfile.write(self.data[at:due])
            at = max(at, due)
            if now - since > length_s or at >= len(self.data):
                return


@dataclass
class Broadcast:
    """A live HLS playlist over parts that exist already: it moves on by the clock."""

    parts: list[bytes]
    part_s: float
    window: int = 3
    ends: bool = False
    """Whether it says so when the last part has been."""
    missing: set[int] = field(default_factory=set)
    """Parts that are announced and not there."""
    dead: tuple[float, float] = (1e9, 1e9)
    """Between which seconds everything answers 503."""
    _begun: float = 0.0

    def install(self, site: Site, path: str = "/live.m3u8") -> None:
        site.routes[path] = self.playlist
        for number, part in enumerate(self.parts):
            site.routes[f"/part{number}.ts"] = self._part(number, part)

    def _part(self, number: int, part: bytes) -> Route:
        def route(handler: BaseHTTPRequestHandler) -> None:
            if self._is_dead():
                say(b"", 503)(handler)
            elif number in self.missing:
                say(b"", 404)(handler)
            else:
                say(part, Content_Type="video/mp2t")(handler)

        return route

    def _is_dead(self) -> bool:
        self._begun = self._begun or time.monotonic()
        return self.dead[0] < time.monotonic() - self._begun < self.dead[1]

    def playlist(self, handler: BaseHTTPRequestHandler) -> None:
        if self._is_dead():
            say(b"", 503)(handler)
            return
        passed = int((time.monotonic() - self._begun) / self.part_s)
        last = min(len(self.parts), self.window + passed)
        first = last - self.window
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(self.part_s)}"]
        lines += [f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        for number in range(first, last):
            lines += [f"#EXTINF:{self.part_s:.3f},", f"part{number}.ts"]
        if self.ends and last == len(self.parts):
            lines += ["#EXT-X-ENDLIST"]
        say("\n".join(lines).encode(), Content_Type="application/x-mpegurl")(handler)


class Camera:
    """An RTSP server that plays 8 kHz mu-law over the control connection (RFC 2326, 10.12)."""

    PACKET = 160

    def __init__(
        self,
        data: bytes,
        lengths_s: tuple[float, ...] = (),
        faster: float = 1.0,
        password: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._data = data
        self._lengths_s = list(lengths_s)
        self._faster = faster
        self._password = password
        self._tls = tls
        self.sessions = 0
        self._begun = 0.0
        self._stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, user: str = "") -> str:
        return f"{'rtsps' if self._tls else 'rtsp'}://{user}127.0.0.1:{self.port}/microphone"

    def stop(self) -> None:
        self._stopping.set()
        self._socket.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError):
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            stream = self._tls.wrap_socket(client, server_side=True) if self._tls else client
            lines = stream.makefile("rb")
            while request := self._request(lines):
                method, headers = request
                if method == "PLAY":
                    self._answer(stream, headers, "Session: 1\r\nRTP-Info: url=x;seq=0;rtptime=0")
                    self._play(stream)
                    return
                self._reply(stream, method, headers)

    def _reply(self, stream: socket.socket, method: str, headers: dict[str, str]) -> None:
        if method == "OPTIONS":
            self._answer(stream, headers, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE" and self._password and "authorization" not in headers:
            self._answer(stream, headers, 'WWW-Authenticate: Basic realm="x"', "401 Unauthorized")
        elif method == "DESCRIBE":
            lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 0.0.0.0", "t=0 0"]
            lines += ["m=audio 0 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=control:track1", ""]
            body = "\r\n".join(lines)
            more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}"
            self._answer(stream, headers, more, body=body)
        else:
            more = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1"
            self._answer(stream, headers, more)

    def _request(self, lines: Any) -> tuple[str, dict[str, str]] | None:
        first = lines.readline().decode().split(" ")
        headers = {}
        while (line := lines.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return (first[0], headers) if first[0] else None

    def _answer(
        self,
        stream: socket.socket,
        headers: dict[str, str],
        more: str,
        status: str = "200 OK",
        body: str = "",
    ) -> None:
        text = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', '0')}\r\n{more}\r\n\r\n{body}"
        stream.sendall(text.encode())

    def _play(self, stream: socket.socket) -> None:
        self.sessions += 1
        now = time.monotonic()
        self._begun = self._begun or now
        length_s = self._lengths_s.pop(0) if self._lengths_s else 1e9
        number = int((now - self._begun) * 50 * self._faster)
        first = number
        while not self._stopping.is_set():
            due = self._begun + (number + 1) / 50 / self._faster
            self._stopping.wait(max(0.0, due - time.monotonic()))
            part = self._data[number * self.PACKET : (number + 1) * self.PACKET]
            if not part or time.monotonic() - now > length_s:
                return
            index = number - first
            head = struct.pack(">BBHII", 0x80, 0, index & 0xFFFF, index * self.PACKET, 7)
            stream.sendall(struct.pack(">cBH", b"$", 0, len(head) + len(part)) + head + part)
            number += 1


@contextmanager
def camera(data: bytes, *arguments: Any, **more: Any) -> Iterator[Camera]:
    server = Camera(data, *arguments, **more)
    try:
        yield server
    finally:
        server.stop()
