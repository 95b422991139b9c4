"""A chat server on this machine that answers as a test says: its faults are the point of it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Say:
    """One answer."""

    body: bytes | str | dict[str, Any] = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    """Before anything is sent."""
    drip_s: float = 0.0
    """Between any two bytes."""
    cut: bool = False
    """Promise more than is sent, and close."""


def completion(text: str | None, finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion as servers send it; `more` goes into its choice."""
    message = {"role": "assistant", "content": text}
    message |= {k: more.pop(k) for k in ("refusal",) if k in more}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, **more}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def is_probe(request: dict[str, Any]) -> bool:
    """Whether T1's client asks what the server can, not about a transcript."""
    return "Which animal barks?" in request["messages"][-1]["content"]


def of_probe(request: dict[str, Any]) -> Say:
    """The reply of a server that restricts by schema and ignores other restrictions."""
    return Say(completion('{"emotion": "zebra"}' if "response_format" in request else "dog"))


class Scripted:
    """The server: `script` gives the answer to the n-th request.

    Requests of T1's client that ask what the server can are answered by `of_probe`, and not
    counted, unless `probes` says that the script answers them too. `pages` has what a GET brings.
    """

    def __init__(
        self,
        script: Callable[[int, dict[str, Any]], Say],
        probes: bool = False,
        pages: Mapping[str, Say] | None = None,
    ) -> None:
        self.requests: list[dict[str, Any]] = []
        self._probes = probes
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._at_once = 0
        self._script = script
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._serve(self)

            def do_GET(self) -> None:
                outer._answer(self, (pages or {}).get(self.path, Say({"error": "none"}, 404)))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def stop(self) -> None:
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        if not self._probes and "messages" in request and is_probe(request):
            self._answer(handler, of_probe(request))
            return
        with self._lock:
            index = len(self.requests)
            self.requests.append(request)
            self.headers.append(dict(handler.headers))
            self.times.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            say = self._script(index, request)
            self._stopping.wait(say.wait_s)
            with suppress(BrokenPipeError, ConnectionResetError):
                self._answer(handler, say)
        finally:
            with self._lock:
                self._at_once -= 1

    def _answer(self, handler: BaseHTTPRequestHandler, say: Say) -> None:
        body = json.dumps(say.body) if isinstance(say.body, dict) else say.body
        data = body.encode() if isinstance(body, str) else body
        handler.send_response(say.status)
        for name, value in say.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data) + 1000 * say.cut))
        handler.end_headers()
        if not say.drip_s:
            handler.wfile.write(data)
        for byte in data if say.drip_s else b"":
            if self._stopping.wait(say.drip_s):
                return
            handler.wfile.write(bytes([byte]))


@contextmanager
def scripted(
    script: Callable[[int, dict[str, Any]], Say],
    probes: bool = False,
    pages: Mapping[str, Say] | None = None,
) -> Iterator[Scripted]:
    server = Scripted(script, probes, pages)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def trickling(answer: bytes, pause_s: float = 0.05) -> Iterator[str]:
    """A server that sends one byte after the other, and holds the connection."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=trickle, args=(connection,), daemon=True).start()

    def trickle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            for byte in answer:
                if over.wait(pause_s):
                    return
                connection.sendall(bytes([byte]))
            over.wait(30)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x"
    finally:
        over.set()
        server.close()
