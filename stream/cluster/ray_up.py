"""`abhinaya cluster up` on a machine of a cluster on Ray: join it, and stay until asked to stop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from abhinaya.models.command_line import version
from abhinaya.stream.cluster import ray_settings
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.ray_machine import RayHere, keep, run_logged
from abhinaya.stream.cluster.ray_settings import Here
from abhinaya.stream.cluster.state import State
from abhinaya.stream.errors import ProcessError
from abhinaya.stream.wire.child import Stop, read_exit_report

CONTROLLER: Final = "controller"
STARTS_S: Final = 90.0
"""Seconds that the controller may take to start."""


def up(cluster: Cluster, label: str, stop: Stop, say: Callable[[str], None]) -> int:
    """Keep machine `label` in the cluster until asked to stop; return 0.

    The head also gets the controller, which reads the cluster from the folder of the state; it
    leaves when `down` has ended the cluster.

    Raises:
        AbhinayaError: Ray cannot be started here, and waiting will not help.

    """
    here = ray_settings.of(cluster, label, version())
    ray, state = RayHere(here), State(cluster.state)

    def stopped() -> bool:
        down = here.machine.head and state.read_wishes().down and not state.runs()
        return stop.asked or bool(down)

    def joined() -> None:
        if here.machine.head:
            _start_controller(here)
        say(f"machine {label} has joined the cluster {cluster.config.name}")

    try:
        ray.prepare()
        stop.serving()
        keep(ray, stopped, joined, say)
        return 0
    finally:
        ray.close()


def runs(cluster: Cluster, label: str) -> bool:
    """Whether `up` runs already for this machine."""
    return RayHere(ray_settings.of(cluster, label, version())).runs()


def _start_controller(here: Here) -> None:
    """Make the controller, in a process of its own: this one never imports Ray.

    Raises:
        ProcessError: it does not start.

    """
    log = here.directory / f"{CONTROLLER}.log"
    command = [sys.executable, "-P", "-m", "abhinaya.stream.cluster.ray_controller"]
    command += ["--state", str(here.cluster.state), "--machine", here.machine.label]
    if run_logged(here, command, log, STARTS_S):
        report = read_exit_report(here.directory, CONTROLLER)
        raise report or ProcessError("the controller", "does not start", f"see {log}")
