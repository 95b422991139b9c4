"""A gateway of several cells: the map that it serves."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from gateways import running

from abhinaya.client import Client, GatewayError
from abhinaya.stream.cells.map import Cell, CellMap, encode


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
        assert httpx2.get(f"{web.url}/v1/cells").status_code == 401
        assert "/v1/cells" not in (tmp_path / "audit.log").read_text()
    with (
        running(tmp_path) as web,
        pytest.raises(GatewayError, match="one hub and no map of cells; start it with"),
    ):
        Client(web.url, web.token).cells()
