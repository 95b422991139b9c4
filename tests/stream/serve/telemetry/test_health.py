"""`/healthz` and `/readyz`: what is missing, and who learns it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fakes
import httpx2
import pytest
from gateways import Running, running
from msgspec.structs import replace as changed
from starlette.requests import Request

from abhinaya.stream.cells.map import Cell, CellMap, State
from abhinaya.stream.serve.limits import PROXIED
from abhinaya.stream.serve.telemetry.cells import Statuses
from abhinaya.stream.serve.telemetry.endpoints import is_local
from abhinaya.stream.serve.telemetry.health import CHECK_S, Health, once_ready, watched
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.wire import messages as m

SERVICES = ("asr", "S1", "T2", "ST1")


def load(service: str, checked_s: float | None = 1.0, node: str = "n-0") -> m.NodeLoad:
    return m.NodeLoad(node=node, service=service, held=0, done=0, checked_s=checked_s)


def status(*loads: m.NodeLoad) -> m.Status:
    return m.Status(
        hub="h", waiting=0, open_segments=0, nodes=loads, fronts=(), refused={}, doubles=0
    )


GOOD = status(*map(load, SERVICES))
SUSPECT = m.Suspect(name="n-0", reason="was silent", limit_s=4.0)


def test_it_reports_once_that_it_is_ready() -> None:
    reports: list[str] = []
    statuses = Statuses()
    health = Health(fakes.config(supervise=SuperviseConfig(canary_s=CHECK_S)), statuses)
    check = once_ready(health, lambda: reports.append("ready"))
    for event in (status(), GOOD, status(), GOOD):
        statuses.cell_status("", event, 0.0)
        check()
    assert reports == ["ready"]


@pytest.mark.parametrize(
    ("status", "later_s", "faults", "missing"),
    [
        (GOOD, 1.9, [""], []),
        (status(*(load(s, None) for s in SERVICES)), 0, [], []),
        (None, 0, [], ["the hub has not reported yet"]),
        (GOOD, 2.5, [], ["the hub has been silent for 2.5 s"]),
        (status(*map(load, SERVICES[1:])), 0, [], ["asr: no node is ready"]),
        (
            status(*map(load, SERVICES[1:]), load("asr", 31.0)),
            0, [], ["asr: no right answer to the test recording for 31 s"],
        ),
        (
            status(*map(load, SERVICES[1:]), load("asr", 29.0)),
            1.5, [], ["asr: no right answer to the test recording for 29 s"],
        ),
        (status(*map(load, SERVICES), load("asr", 99.0, "n-1")), 0, [], []),
        (
            changed(GOOD, suspects=(SUSPECT,)),
            0, [], [f"{s}: each node is silent or slow" for s in SERVICES],
        ),
        (GOOD, 0, ["the disk is full", ""], ["the disk is full"]),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(
    status: m.Status | None, later_s: float, faults: list[str], missing: list[str]
) -> None:
    now = [100.0]
    config = fakes.config(supervise=SuperviseConfig(canary_s=CHECK_S))
    statuses = Statuses(clock=lambda: now[0])
    told = [lambda fault=fault: fault for fault in faults]  # type: ignore[misc]
    health = Health(config, statuses, told, lambda: now[0])
    statuses.cell_status("", status, 0.0)
    now[0] += later_s
    health.tick(0.0)
    assert sorted(health.missing()) == sorted(missing)


def test_one_open_cell_is_enough_and_the_others_are_named(tmp_path: Path) -> None:
    states: dict[str, State] = {"a": "open", "b": "open", "c": "draining", "d": "gone"}
    cells = tuple(
        Cell(name=name, endpoint=f"tcp://{name}:1", state=s) for name, s in states.items()
    )
    with running(tmp_path, cells=lambda: CellMap(epoch=1, cells=cells)) as web:

        def ready() -> tuple[int, dict[str, object]]:
            answer = web.get("/readyz")
            return answer.status_code, answer.json()

        silent = ["cell a: its hub does not answer", "cell b: its hub does not answer"]
        web.gateway.statuses.cell_status("c", GOOD, 0.0)
        assert ready() == (503, {"status": "not ready", "missing": silent})
        web.gateway.statuses.cell_status("b", GOOD, 0.0)
        assert ready() == (200, {"status": "ok", "degraded": silent[:1]})
        web.gateway.statuses.cell_status("a", status(*map(load, SERVICES[1:])), 0.0)
        lacks = ["cell a: asr: no node is ready"]
        assert ready() == (200, {"status": "ok", "degraded": lacks})
        web.gateway.statuses.cell_status("b", None, 0.0)
        assert ready() == (503, {"status": "not ready", "missing": [*lacks, silent[1]]})
        cells = (Cell(name="a", endpoint="tcp://a:1", state="draining"),)
        assert ready() == (503, {"status": "not ready", "missing": ["no cell is open"]})


def test_a_loop_that_stands_still_is_not_alive_and_not_ready() -> None:
    now = [100.0]
    statuses = Statuses()
    health = Health(fakes.config(), statuses, clock=lambda: now[0])
    statuses.cell_status("", GOOD, 0.0)
    assert health.stuck() == ""
    now[0] += 11
    assert "stands still for 11 s" in health.stuck()
    assert health.stuck() in health.missing()
    health.tick(0.0)
    assert health.stuck() == ""


def test_a_gateway_sends_test_recordings_often_enough_unless_they_are_off() -> None:
    off = fakes.config()
    assert watched(off) == off
    rare = fakes.config(supervise=SuperviseConfig(canary_s=30.0))
    assert watched(rare) == replace(rare, supervise=SuperviseConfig(canary_s=10.0))


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as served:
        yield served


def test_strangers_learn_whether_it_works_and_no_more(web: Running) -> None:
    foreign = {"Host": "evil.example"}  # a page whose name leads to this machine

    def get(path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        return httpx2.get(web.url + path, headers=headers)

    assert get("/healthz", foreign).json() == {"status": "ok"}
    answer = get("/readyz", foreign)
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready"})
    for headers in ({}, foreign | web.bearer):
        body = get("/readyz", headers).json()
        assert body["missing"] == ["the hub has not reported yet"]
    web.gateway.statuses.cell_status("", GOOD, 0.0)
    assert (get("/readyz").status_code, get("/readyz").json()) == (200, {"status": "ok"})
    assert get("/metrics", foreign).status_code == 401
    assert web.gateway.metrics.refused == {"401": 1}
    for headers in ({}, foreign | web.bearer):
        assert "abhinaya_streams" in get("/metrics", headers).text


@pytest.mark.parametrize(
    ("client", "host", "proxied", "local"),
    [
        ("127.0.0.1", "localhost:8377", False, True),
        ("::1", "[::1]:8377", False, True),
        ("127.0.0.1", "localhost:8377", True, False),
        ("10.0.0.7", "localhost:8377", False, False),
        ("127.0.0.1", "evil.example", False, False),
        ("127.0.0.1", "[", False, False),
    ],
)
def test_who_counts_as_this_machine(client: str, host: str, proxied: bool, local: bool) -> None:
    scope = {"type": "http", "client": (client, 1), "headers": [(b"host", host.encode())]}
    assert is_local(Request(scope | ({PROXIED: True} if proxied else {}))) == local
