"""The console in Chromium, against a real `abhinaya serve` that plays the demo call."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateways import running
from scrapes import status

from abhinaya.stream.cells.map import Cell, CellMap, State

sys.path.append(str(Path(__file__).parent))
import chromium

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.timeout(400)]
RULES = str(Path(__file__).parent / "rules.toml")

LIVE = ("call", "wall", "alert")
"""Scenes that need the demo call while it plays; each gets a fresh server."""
AFTER = ("correction", "history", "accessible", "microphone")
"""Scenes that look at what the call left."""


@pytest.mark.parametrize("scene", LIVE)
def test_live(scene: str, tmp_path: Path) -> None:
    with chromium.serve(tmp_path, "--demo", "--rules", RULES) as (address, token):
        print(scene, chromium.play(scene, address, token))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("serve")
    with chromium.serve(folder, "--demo", "--rules", RULES) as found:
        yield found


@pytest.mark.parametrize("scene", AFTER)
def test_scene(scene: str, server: tuple[str, str]) -> None:
    print(scene, chromium.play(scene, *server, seconds=240))


def test_cells(tmp_path: Path) -> None:
    states: dict[str, State] = {"east": "open", "west": "open", "gone": "gone"}
    cells = [Cell(name=name, endpoint=f"tcp://{name}:1", state=s) for name, s in states.items()]
    with running(tmp_path, cells=lambda: CellMap(epoch=1, cells=tuple(cells))) as web:
        over = threading.Event()

        def report() -> None:
            while not over.wait(0.2):
                east = status(waiting=7, oldest_s={"S1": 12.0, "T2": 3.0})
                web.gateway.board.cell_status("east", east, 0.0)
                web.gateway.board.cell_status("west", None, 0.0)

        reporting = threading.Thread(target=report)
        reporting.start()
        try:
            chromium.play("cells", web.url, web.token)
        finally:
            over.set()
            reporting.join()


def test_500_rows_hold_1000_events_a_second(tmp_path: Path) -> None:
    """On a machine that does something else too, a frame may be late; nothing is dropped."""
    with chromium.generated(tmp_path, streams=500, rate=1000) as address:
        found = chromium.play("frames", address)
    print(found)
    assert found["rows"] == 500
    assert found["drawn"] < 60
    assert found["dropped"] == 0
    assert found["events_per_s"] >= 900
    assert found["over_50_ms"] <= found["frames"] * 0.02
