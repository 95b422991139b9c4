"""What every `Placement` must do; a test class of each implementation derives from this one.

Its processes are hubs without keys on the loopback interface: real, light, and ready in a second.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import fakes
import pytest

from abhinaya.stream.run.placement.base import Placed, Placement, Process
from abhinaya.stream.settings.config import SuperviseConfig, encode

FIRST_PORT = 23_500
SUPERVISE = SuperviseConfig(silent_s=1.0, beat_s=0.2, backoff_s=0.1, restarts=2)
CONFIG = encode(fakes.config(supervise=SUPERVISE))


def hub(name: str, port: int, **changes: object) -> Process:
    """A hub that binds the address of its machine."""
    endpoint = f"tcp://{{address}}:{FIRST_PORT + port}"
    fields = {
        "name": name,
        "module": "abhinaya.stream.hub.main",
        "arguments": ("--name", name, "--endpoint", endpoint),
        "config": CONFIG,
    }
    return Process(**(fields | changes))  # type: ignore[arg-type]


class PlacementContract:
    """Needs a fixture `placement` with one machine of at least one CPU, and no GPU."""

    patience_s = 15.0

    def until(self, placement: Placement, name: str, holds: Callable[[Placed], bool]) -> Placed:
        deadline, placed = time.monotonic() + self.patience_s, None
        while time.monotonic() < deadline:
            placed = placement.look(time.monotonic()).get(name)
            if placed is not None and holds(placed):
                return placed
            time.sleep(0.05)
        raise AssertionError(f"it did not happen; {name} is {placed}")

    def running(self, placement: Placement, name: str, but: str = "") -> Placed:
        return self.until(placement, name, lambda p: p.stage == "running" and p.incarnation != but)

    def test_a_process_runs_and_is_restarted_in_place_and_stops(self, placement: Placement) -> None:
        (machine,) = placement.machines()
        placement.start(hub("a-hub", 0))
        first = self.running(placement, "a-hub")
        assert (first.machine, first.address) == (machine.label, machine.address)
        os.kill(int(first.incarnation), signal.SIGKILL)
        second = self.running(placement, "a-hub", first.incarnation)
        assert second.restarts == 1
        assert "SIGKILL" in second.error
        os.kill(int(second.incarnation), signal.SIGSTOP)  # it is silent, and does not starve
        third = self.running(placement, "a-hub", second.incarnation)
        assert third.restarts == 2
        placement.stop("a-hub", 5.0)
        self.until(placement, "a-hub", lambda p: p.stage == "ended")
        assert "a-hub" not in placement.look(time.monotonic())
        with pytest.raises(ProcessLookupError):
            os.kill(int(third.incarnation), 0)
        placement.stop("a-hub", 5.0)
        placement.stop("unknown", 5.0)

    def test_one_that_cannot_work_is_given_up_with_its_reason_and_can_be_tried_again(
        self, placement: Placement
    ) -> None:
        bad = hub("b-hub", 0, arguments=("--name", "b-hub", "--endpoint", "tcp://10.255.0.9:80"))
        placement.start(bad)
        placed = self.until(placement, "b-hub", lambda p: p.stage == "given up")
        assert "has no keys" in placed.error
        placement.start(hub("b-hub", 2))
        self.running(placement, "b-hub")

    def test_one_without_room_waits_until_there_is_some(self, placement: Placement) -> None:
        (machine,) = placement.machines()
        placement.start(hub("c-hub", 4, gpus=machine.gpus + 1))
        placement.start(hub("d-hub", 6, machines=("elsewhere",)))
        placement.start(hub("e-hub", 8, cpus=machine.cpus))
        self.running(placement, "e-hub")
        placement.start(hub("f-hub", 10, cpus=machine.cpus))
        for name in ("c-hub", "d-hub", "f-hub"):
            placed = self.until(placement, name, lambda p: p.stage == "waiting for room")
            assert not placed.machine
            assert not placed.incarnation
        placement.stop("d-hub", 0.0)
        self.until(placement, "d-hub", lambda p: p.stage == "ended")
        placement.stop("e-hub", 5.0)
        self.running(placement, "f-hub")

    def test_one_that_moves_is_the_same_process(self, placement: Placement) -> None:
        before, after = (f"tcp://127.0.0.1:{FIRST_PORT + port}" for port in (12, 14))
        placement.start(hub("g-hub", 0, arguments=("--name", "g-hub"), hub=before))
        first = self.running(placement, "g-hub")
        assert first.hub == before
        placement.move("g-hub", after)
        moved = self.until(placement, "g-hub", lambda p: p.hub == after)
        assert moved.incarnation == first.incarnation

    def test_no_process_outlives_a_placement_that_is_closed(self, placement: Placement) -> None:
        placement.start(hub("h-hub", 16))
        pid = int(self.running(placement, "h-hub").incarnation)
        placement.close(kill=True)
        deadline = time.monotonic() + self.patience_s
        with suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(pid, 0)
                time.sleep(0.05)
            raise AssertionError("it lives")
