"""Where a map is from: a file, a gateway. What is damaged, old or gone leaves the old one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from abhinaya.stream.cells import source
from abhinaya.stream.cells.map import Cell, CellMap, encode
from abhinaya.stream.cells.source import TOKEN, check_cells, open_source
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.keys import Keys


def cells(epoch: int, *names: str, **more: Any) -> CellMap:
    found = (Cell(name=n, endpoint=f"tcp://10.0.0.{i}:5000", **more) for i, n in enumerate(names))
    return CellMap(epoch=epoch, cells=tuple(found))


BAD = (
    (encode(cells(1, "a")), "epoch 1, and epoch 2"),
    (encode(cells(2, "a", "c")), "needs a higher epoch"),
    (b"{", "cannot be used"),
    (None, "cannot be re"),
    (b"pipe", "not a file"),
)
"""What comes after the map of epoch 2, and what is said; None: nothing is there; pipe: a pipe."""


def test_a_file_is_read_again_when_it_changes_and_a_bad_one_leaves_the_old_map(
    tmp_path: Path,
) -> None:
    path, now = tmp_path / "cells.json", 0.0

    def look(data: bytes | None) -> CellMap | None:
        nonlocal now
        now += 1
        if data is None:
            path.unlink()
        elif data == b"pipe":
            path.unlink()
            os.mkfifo(path)
        else:
            (tmp_path / "part").write_bytes(data)
            os.rename(tmp_path / "part", path)
        assert found.look(now - 0.6) is None, "it is too soon"
        return found.look(now)

    path.write_bytes(encode(cells(1, "a")))
    found = open_source(str(path), {})
    assert found.look(now + 0.5) is None
    assert look(encode(two := cells(2, "a", "b"))) == two
    for data, why in BAD:
        assert look(data) is None
        assert why in found.fault
        assert found.current == two
        assert look(encode(two)) is None
        assert not found.fault
    assert look(encode(cells(3, "b"))) == found.current == cells(3, "b")


class Gateway(ThreadingHTTPServer):
    """Serves a map to whoever has the token."""

    daemon_threads = True

    def __init__(self, data: bytes) -> None:
        self.data: bytes | None = data
        self.unchanged = 0
        self.odd = ""
        """What each ETag has at its end."""
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data, tag = gateway.data, f'"{hash(gateway.data)}{gateway.odd}"'
                if self.path != "/v1/cells":
                    return self.answer(404)
                if self.headers["Authorization"] != "Bearer secret":
                    return self.answer(401)
                if data is None:
                    return self.answer(503)
                if data == b"no map":
                    return self.answer(304)
                if self.headers["If-None-Match"] == tag:
                    gateway.unchanged += 1
                    return self.answer(304, tag)
                return self.answer(200, tag, data)

            def answer(self, status: int, tag: str = "", data: bytes = b"") -> None:
                self.send_response(status)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(encode(cells(1, "a"))) as gateway:
        yield gateway
        gateway.shutdown()


def test_a_gateway_is_asked_and_a_bad_answer_leaves_the_old_map(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "ASK_S", 0.02)
    found = open_source(gateway.url, {TOKEN: "secret"})
    assert found.current == cells(1, "a")

    def wait(data: bytes | None, fault: str) -> None:
        gateway.data = data
        until = time.monotonic() + 10
        while not (found.look(0.0) or (fault and fault in found.fault)):
            assert time.monotonic() < until, found.fault
            time.sleep(0.01)

    wait(encode(two := cells(2, "a", "b")), "")
    for data, why in BAD[:3]:
        wait(data, why)
        assert found.current == two
    wait(None, "status 503")
    gateway.odd = "\xe9"
    wait(encode(cells(3, "a")), "")
    gateway.odd = ""
    wait(encode(three := cells(4, "b")), "")
    before = gateway.unchanged
    while gateway.unchanged < before + 2:
        time.sleep(0.01)
    assert (found.fault, found.current) == ("", three)
    found.close()


def test_the_first_map_must_be_there_and_each_fault_names_its_remedy(
    tmp_path: Path, gateway: Gateway
) -> None:
    (tmp_path / "old.json").write_text("{}")
    (tmp_path / "keys").mkdir()
    for where, why, remedy in (
        (str(tmp_path / "none"), "No such file", "check the address"),
        (str(tmp_path), "Is a directory", "check the address"),
        (str(tmp_path / "old.json"), "cannot be used", ""),
        ("ftp://host/cells", "is not an address", "https://HOST:PORT"),
        ("https://[::1/cells", "is not an address", "https://HOST:PORT"),
        ("http://10.0.0.1/v1/cells", "over http", "use https"),
        ("https://user:pass@host/v1/cells", "has more than", TOKEN),
        (gateway.url, "status 401", TOKEN),
        (f"{gateway.url}/other", "status 404", "check the address"),
        ("http://127.0.0.1:1", "cannot be reached", "check the address"),
    ):
        with pytest.raises(NetworkError) as caught:
            open_source(where, {})
        assert why in str(caught.value), where
        assert remedy in caught.value.remedy, where
        assert "pass" not in str(caught.value)
    for token in ("pass\n", "pass\r\nX: y", "p\xe4ss pass"):
        with pytest.raises(NetworkError, match=TOKEN) as caught:
            open_source(gateway.url, {TOKEN: token})
        assert "ss" not in caught.value.reason
    gateway.data = b"no map"
    with pytest.raises(NetworkError, match="status 304"):
        open_source(gateway.url, {TOKEN: "secret"})
    for bad, own, why in (
        (cells(1, "a"), 0, "has no keys"),
        (cells(1, "a", key="k" * 40), 0, "needs keys"),
        (cells(1, "a", key="k" * 40), 1, "NAME.key_secret"),
    ):  # fmt: skip
        with pytest.raises(NetworkError, match=why):
            check_cells(bad, Keys(tmp_path / "keys", "") if own else None)
