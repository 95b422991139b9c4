"""The hubs of a run, none of which is there."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import fakes
import pytest

from abhinaya.stream.cells.map import Cell, CellMap
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.run.hubs import Hubs
from abhinaya.stream.run.plan import Plan
from abhinaya.stream.settings.config import SuperviseConfig
from abhinaya.stream.wire.child import Stage


class Dead:
    """A map of hubs that nobody has started."""

    fault = ""

    def __init__(self, folder: str, count: int) -> None:
        cells = (Cell(name=f"c{n}", endpoint=f"ipc://{folder}/{n}") for n in range(count))
        self.current = CellMap(epoch=1, cells=tuple(cells))

    def look(self, now: float) -> None:
        return None

    def close(self) -> None:
        pass


def test_many_cells_that_do_not_answer_are_not_all_tried() -> None:
    """Each is waited for a second, so 30 would take half a minute."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        supervise = SuperviseConfig(silent_s=0.5, take_over_s=1.0, hub_wait_s=1.0)
        plan = Plan(fakes.config(supervise=supervise), (), cells=Dead(folder, 30))
        supervisor = SimpleNamespace(
            stages=lambda: {"front": Stage.STARTING}, ready=print, suspect=print
        )
        said: list[str] = []
        hubs = Hubs(plan, Path(folder), "run", cast("Any", supervisor), said.append)
        try:
            hubs.follow.add("front", "call")
            began = time.monotonic()
            with pytest.raises(NetworkError, match=r"^cells: none answers: cell c"):  # noqa: PT012
                while time.monotonic() - began < 10:
                    hubs.look(time.monotonic())
                    time.sleep(0.02)
            assert 1.4 < time.monotonic() - began < 4
        finally:
            hubs.close()
