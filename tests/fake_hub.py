"""A Hugging Face Hub on this machine: enough of it to list a model and download its files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "0123456789abcdef0123456789abcdef01234567"
_JSON = {"Content-Type": "application/json"}


class FakeHub:
    """Serves `models`, each a mapping of file names to contents; `gated` ones only with a token."""

    def __init__(
        self, models: Mapping[str, Mapping[str, bytes]], gated: frozenset[str] = frozenset()
    ) -> None:
        self.models, self.gated = models, gated
        self.sent: list[tuple[str, int, int]] = []
        """(file, first byte, bytes) of every download."""
        self.asked: list[str] = []
        self.cut_after: int | None = None
        """Close a download after so many bytes, once."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):
                    outer._serve(self)

            do_HEAD = do_GET  # noqa: N815 - the name is the base class's

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        path = handler.path.partition("?")[0].removeprefix("/api/models").strip("/")
        parts = path.split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo not in self.models:
            return self._refuse(handler, 404, "RepoNotFound")
        if rest[:1] == ["tree"]:
            files = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.models[repo].items()
            ]
            return self._send(handler, json.dumps(files).encode(), _JSON)
        if handler.path.startswith("/api/"):
            names = [{"rfilename": name} for name in self.models[repo]]
            body = json.dumps({"id": repo, "sha": SHA, "siblings": names}).encode()
            return self._send(handler, body, _JSON)
        if repo in self.gated and "Authorization" not in handler.headers:
            return self._refuse(handler, 401, "GatedRepo")
        name = "/".join(rest[2:])
        content = self.models[repo].get(name)
        if content is None:
            return self._refuse(handler, 404, "EntryNotFound")
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        first = int((handler.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
        headers = {"ETag": etag, "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._send(handler, content[first:], headers, 206 if first else 200, name, first)
        return None

    def _refuse(self, handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
        self._send(handler, b"", {"X-Error-Code": code, "X-Error-Message": code}, status)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        body: bytes,
        headers: Mapping[str, str],
        status: int = 200,
        name: str = "",
        first: int = 0,
    ) -> None:
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if self.cut_after is not None and name and len(body) > self.cut_after:
            body, self.cut_after = body[: self.cut_after], None
            handler.close_connection = True
        handler.wfile.write(body)
        if name:
            self.sent.append((name, first, len(body)))


@contextmanager
def fake_hub(
    models: Mapping[str, Mapping[str, bytes]], gated: frozenset[str] = frozenset()
) -> Iterator[FakeHub]:
    hub = FakeHub(models, gated)
    try:
        yield hub
    finally:
        hub.stop()
