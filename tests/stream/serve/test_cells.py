"""A gateway of several cells: the map that it serves, and the readers of other runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

import httpx2
import pytest
from gateways import running
from pushed_run import until

from abhinaya.client import Client, GatewayError
from abhinaya.stream.cells.map import Cell, CellMap, State, encode
from abhinaya.stream.cells.source import open_source
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.serve import other_runs
from abhinaya.stream.serve.other_runs import OtherRuns
from abhinaya.stream.wire.keys import Keys


def test_the_map_is_served_as_it_is_and_only_once(tmp_path: Path) -> None:
    maps = [CellMap(epoch=3, cells=(Cell(name="east", endpoint="tcp://10.0.0.1:9000"),))]
    with running(tmp_path, cells=lambda: maps[0]) as web:
        first = web.get("/v1/cells")
        assert first.content == encode(maps[0])
        assert "no-store" not in first.headers["cache-control"]
        known = web.bearer | {"If-None-Match": f'"x", W/{first.headers["etag"]}'}
        again = httpx2.get(f"{web.url}/v1/cells", headers=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        maps[0] = CellMap(epoch=4, cells=maps[0].cells)
        assert httpx2.get(f"{web.url}/v1/cells", headers=known).content == encode(maps[0])
        assert Client(web.url, web.token).cells()["epoch"] == 4
        assert not (tmp_path / "audit.log").read_text(), "programs ask every two seconds"
        assert httpx2.get(f"{web.url}/v1/cells").status_code == 401
        source = open_source(web.url, {"ABHINAYA_TOKEN": web.token})  # of a run over cells
        assert source.current == maps[0]
        maps[0] = CellMap(epoch=5, cells=maps[0].cells)
        until(lambda: source.look(time.monotonic()) == maps[0], "the newer map")
        source.close()
    with (
        running(tmp_path) as web,
        pytest.raises(GatewayError, match="one hub and no map of cells; start it with"),
    ):
        Client(web.url, web.token).cells()


class FakeReader:
    """Stands for `Others`."""

    made: ClassVar[list[FakeReader]] = []

    def __init__(self, endpoint: str, keys: Keys | None, *_: object) -> None:
        self.endpoint, self.server = endpoint, keys.server if keys else ""
        self.fault = ""
        self.open = False
        self.made.append(self)

    def start(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False

    def check(self) -> None:
        if self.fault:
            raise NetworkError(self.endpoint, self.fault)


def test_each_cell_of_the_map_has_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def cell(name: str, state: State = "open", port: int = 1) -> Cell:
        return Cell(name=name, endpoint=f"tcp://{name}:{port}", key=name * 40, state=state)

    def reading() -> list[tuple[str, str]]:
        runs.check()
        return [(r.endpoint, r.server[:1]) for r in FakeReader.made if r.open]

    monkeypatch.setattr(other_runs, "Others", FakeReader)
    monkeypatch.setattr(FakeReader, "made", [])
    maps, now, told = [CellMap(epoch=1, cells=(cell("a"), cell("b")))], [0.0], list[str]()
    keys = Keys(Path("keys"), "reader")
    runs = OtherRuns(
        lambda: maps[0], keys, "own", lambda *_: None, told.append, clock=lambda: now[0]
    )
    assert reading() == [("tcp://a:1", "a"), ("tcp://b:1", "b")]
    maps[0] = CellMap(epoch=2, cells=(cell("a", port=2), cell("b", "gone"), cell("c", "draining")))
    assert reading() == [("tcp://a:2", "a"), ("tcp://c:1", "c")]
    FakeReader.made[-1].fault = "refused"
    for _ in range(3):
        reading()
    assert told == ["other runs in cell c: tcp://c:1: refused"]
    now[0] += other_runs.RETRY_S + 1
    reading()
    assert [r.endpoint for r in FakeReader.made[-2:]] == ["tcp://c:1"] * 2
    runs.close()
    assert not any(reader.open for reader in FakeReader.made if not reader.fault)
    hub = CellMap(epoch=1, cells=(Cell(name="", endpoint="tcp://hub:1"),))
    only = OtherRuns(lambda: hub, None, "own", lambda *_: None, told.append)
    only.check()
    FakeReader.made[-1].fault = "refused"
    with pytest.raises(NetworkError, match="refused"):
        only.check()
