"""The console in Chromium, against a real `abhinaya serve` that plays the demo call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
