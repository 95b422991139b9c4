"""Ray on one machine: placement by its contract, and what happens when something is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.one_ray import here, short_folder
from placement_contract import PlacementContract, hub

from abhinaya.models.command_line import version
from abhinaya.stream.cluster import ray_settings
from abhinaya.stream.cluster.ray_machine import RayHere, keep
from abhinaya.stream.cluster.ray_token import check_token
from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.run.placement.base import Placement

pytestmark = pytest.mark.cluster

AGAIN_S = 6.0
"""Issue: a node or a hub that is killed answers again within this time."""


@pytest.fixture(scope="class")
def ray_here() -> Iterator[RayHere]:
    """Start Ray, and connect this process to it."""
    with short_folder() as folder:
        machine = here(folder)
        check_token(machine.token_file, make=True)
        started = RayHere(machine)
        started.prepare()
        try:
            started.start()
            environment = ray_settings.environment(machine, os.environ)
            with pytest.MonkeyPatch.context() as patch:
                for key, value in environment.items():
                    patch.setenv(key, value)
                from abhinaya.stream.run.placement.ray_connection import connect, leave

                address = f"{machine.machine.address}:{machine.ray.port}"
                connect(address, machine.temporary, machine.machine.address)
                yield started
                leave()
        finally:
            started.close()
            assert not started.processes()


class TestRay(PlacementContract):
    patience_s = 40.0

    @pytest.fixture
    def placement(self, ray_here: RayHere) -> Iterator[Placement]:
        from abhinaya.stream.run.placement.ray_placement import RayPlacement

        made = RayPlacement("test", version())
        yield made
        made.close(kill=True)

    def test_with_its_actor_the_process_dies_and_both_come_again(
        self, placement: Placement
    ) -> None:
        placement.start(hub("i-hub", 20))
        first = self.running(placement, "i-hub")
        began = time.monotonic()
        os.kill(parent(int(first.incarnation)), signal.SIGKILL)
        second = self.running(placement, "i-hub", first.incarnation)
        assert time.monotonic() - began < AGAIN_S
        assert second.restarts == 1
        assert not Path(f"/proc/{first.incarnation}").exists()

    def test_a_new_controller_finds_what_an_earlier_one_has_started(
        self, placement: Placement
    ) -> None:
        from abhinaya.stream.run.placement.ray_placement import RayPlacement

        placement.start(hub("j-hub", 22))
        first = self.running(placement, "j-hub")
        placement.close(kill=False)
        again = RayPlacement("test", version())
        assert self.running(again, "j-hub").incarnation == first.incarnation
        again.start(hub("j-hub", 22))  # as for any that is known: a new one in its place
        assert self.running(again, "j-hub", first.incarnation)
        again.close(kill=True)

    def test_a_machine_with_another_version_is_not_used_and_is_named(
        self, placement: Placement, ray_here: RayHere
    ) -> None:
        from abhinaya.stream.run.placement.ray_placement import RayPlacement

        placement.start(hub("k-hub", 24))
        self.running(placement, "k-hub")
        newer = RayPlacement("test", "99.0")
        assert not newer.look(0.0)
        newer.start(hub("k-hub", 24))
        placed = self.until(newer, "k-hub", lambda p: p.stage == "waiting for room")
        assert f"machine one has abhinaya {version()}, the controller 99.0" in placed.error
        newer.close(kill=True)
        self.until(placement, "k-hub", lambda p: p.stage == "given up")  # the newer ended it


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_ray_is_started_again_when_its_head_dies_and_ends_without_a_rest() -> None:
    with short_folder() as folder:
        check_token(here(folder).token_file, make=True)
        kept, stop, said = RayHere(here(folder)), threading.Event(), list[str]()
        kept.prepare()
        joined = threading.Event()
        thread = threading.Thread(target=keep, args=(kept, stop.is_set, joined.set, said.append))
        thread.start()
        try:
            assert joined.wait(60)
            joined.clear()
            (server,) = [pid for pid, name in kept.processes() if name == "gcs_server"]
            os.kill(server, signal.SIGKILL)
            assert joined.wait(60)
            assert said == ["Ray's gcs_server has ended; starting Ray again"]
            with pytest.raises(AbhinayaError, match="runs already"):
                RayHere(here(folder)).prepare()
        finally:
            stop.set()
            thread.join(60)
            kept.close()
        assert not kept.processes()
