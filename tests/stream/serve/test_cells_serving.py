"""`abhinaya serve --cells` with real hubs: where calls go, and what a hub that dies costs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from cells_made import Cells
from pushed_run import demo, until
from served import PROGRAM, Served
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from abhinaya.stream.front.listener import Listener
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources.pcm import to_float

pytestmark = [pytest.mark.processes, pytest.mark.slow]
SECONDS = 14.0
CALLS = 20


@pytest.fixture
def cells() -> Iterator[Cells]:
    folder = Path(tempfile.mkdtemp(prefix="cells-", dir="/tmp"))
    made = Cells(folder, "east", "west")
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)


@pytest.fixture
def served(cells: Cells) -> Iterator[Served]:
    keys = ("--keys", str(cells.keys), "--key-name", "operator")
    program = Served(cells.folder / "data", "--cells", str(cells.map), *keys)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.wait()


def url(served: Served, name: str) -> str:
    query = f"encoding=linear16&sample_rate=16000&name={name}"
    return f"ws://127.0.0.1:{served.port}/v1/listen?{query}"


def call(served: Served, name: str, track: bytes, begun: float) -> None:
    """Say a track in real time."""
    bearer = {"Authorization": f"Bearer {served.token}"}
    with connect(url(served, name), additional_headers=bearer) as ws:
        reading = threading.Thread(target=lambda: [None for _ in ws], daemon=True)
        reading.start()
        for start in range(0, len(track), 3200):
            time.sleep(max(0.0, begun + start / 32_000 - time.monotonic()))
            ws.send(track[start : start + 3200])
        ws.send('{"type": "CloseStream"}')
        reading.join(60)
        assert not reading.is_alive()


def ready(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"http://127.0.0.1:{served.port}/readyz").json()
    return found


def spoken(track: bytes) -> list[tuple[float, float]]:
    listener = Listener(VadConfig(), 1)
    found = listener.feed(to_float(track, "s16le").reshape(-1, 1)) + listener.finish()
    return [(piece.start / 16_000, piece.end / 16_000) for _, piece in found]


def test_calls_are_where_the_map_says_and_go_on_when_their_hub_dies(
    cells: Cells, served: Served, short_call: Path
) -> None:
    until(lambda: ready(served) == {"status": "ok"}, "both cells")
    shown = served.http.get("/cells")
    assert shown.content == cells.map.read_bytes()
    keys = ("--keys", str(cells.keys), "--key-name", "operator")
    foreign = [str(short_call), "--name", "foreign", "--cells", str(cells.map), *keys]
    subprocess.run([sys.executable, str(PROGRAM), "0", *foreign], check=True, capture_output=True)
    for heard in cells.heard.values():
        heard.discard("foreign")
    track, names = demo(SECONDS)[0], [f"c{n}" for n in range(CALLS)]
    the_map = cells.publish()
    assert len(pushes(served)) == 2
    chosen = {f"listen:{name}": the_map.choose(f"listen:{name}") for name in names}
    of = {n: {s for s, cell in chosen.items() if cell and cell.name == n} for n in cells.cells}
    assert all(of.values()), of
    with ThreadPoolExecutor(CALLS) as pool:
        begun = time.monotonic()
        calls = [pool.submit(call, served, name, track, begun) for name in names]
        time.sleep(6)
        assert cells.heard == of
        cells.kill("east")
        until(lambda: "degraded" in ready(served), "the loss")
        assert ready(served)["degraded"] == ["cell east: its hub does not answer"]
        for done in calls:
            done.result()
    assert cells.heard["west"] == of["east"] | of["west"]
    wanted = spoken(track)
    rows = {row["name"]: row for row in served.http.get("/streams").json()["streams"]}
    assert rows.pop("foreign")["ended"], "a run of somebody else"
    assert rows.keys() == of["east"] | of["west"]
    for row in rows.values():
        events = served.http.get(f"/streams/{row['id']}/events").json()["events"]
        found = [e for e in events if e["type"] in ("verdict", "gap")]
        assert [e["segment"] for e in found] == list(range(len(wanted))), row["name"]
        assert {e["type"] for e in found} == {"verdict"}, row["name"]
        spans = [(e["start_s"], e["end_s"]) for e in found]
        assert np.allclose(spans, wanted, atol=0.001), row["name"]
        assert [e["type"] for e in events].count("stream_ended") == 1
    cells.publish(east="gone", west="draining")
    until(lambda: ready(served).get("missing") == ["no cell is open"], "the new map")
    with pytest.raises(InvalidStatus) as refused:
        connect(url(served, "late"), additional_headers={"Authorization": f"Bearer {served.token}"})
    assert refused.value.response.status_code == 503
    assert json.loads(refused.value.response.body)["err_code"] == "UNAVAILABLE"
    until(lambda: not pushes(served), "the end of push fronts that have no calls")
    assert served.stop() == 0


def pushes(served: Served) -> list[str]:
    """The command lines of the push fronts."""
    pid = served.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = [Path(f"/proc/{child}/cmdline").read_bytes().decode() for child in children]
    return [line for line in lines if "front.push" in line]
