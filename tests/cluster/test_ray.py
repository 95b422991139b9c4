"""Ray on one machine: placement by its contract, and what happens when something is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from cluster.one_ray import here, short_folder
from placement_contract import PlacementContract

from abhinaya.models.command_line import version
from abhinaya.stream.cluster import ray_settings
from abhinaya.stream.cluster.ray_machine import RayHere
from abhinaya.stream.run.placement.base import Placement

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def ray_here() -> Iterator[RayHere]:
    """Start Ray, and connect this process to it."""
    with short_folder() as folder:
        machine = here(folder)
        started = RayHere(machine)
        started.prepare()
        try:
            started.start()
            environment = ray_settings.environment(machine, os.environ)
            with pytest.MonkeyPatch.context() as patch:
                for key, value in environment.items():
                    patch.setenv(key, value)
                from abhinaya.stream.run.placement.ray_placement import connect

                address = f"{machine.head.address}:{machine.ray.port}"
                connect(address, machine.directory, machine.machine.address)
                yield started
                import ray

                ray.shutdown()
        finally:
            started.close()


class TestRay(PlacementContract):
    patience_s = 40.0

    @pytest.fixture
    def placement(self, ray_here: RayHere) -> Iterator[Placement]:
        from abhinaya.stream.run.placement.ray_placement import RayPlacement

        made = RayPlacement("test", version())
        yield made
        made.close(kill=True)
