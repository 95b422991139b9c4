"""Placement on this machine, by the contract that Ray's fulfils too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from placement_contract import SUPERVISE, PlacementContract

from abhinaya.stream.run.placement.base import Machine, Placement
from abhinaya.stream.run.placement.local import Local

pytestmark = pytest.mark.processes


class TestLocal(PlacementContract):
    @pytest.fixture
    def placement(self, tmp_path: Path) -> Iterator[Placement]:
        made = Local(tmp_path, SUPERVISE, (Machine("here", "127.0.0.1", 1.0, 0.0),))
        yield made
        made.close(kill=True)
