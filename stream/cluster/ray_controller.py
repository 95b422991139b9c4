"""The controller of a cluster as a detached actor on Ray's head.

`python -m` runs `main`, a child of `abhinaya cluster up` on the head: it connects to Ray, makes the
actor if there is none, and ends. So no command of ours imports Ray.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from abhinaya.models.command_line import version
from abhinaya.stream.cluster import ray_settings
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.main import run
from abhinaya.stream.cluster.ray_settings import Here
from abhinaya.stream.cluster.state import State
from abhinaya.stream.errors import AbhinayaError, ConfigError
from abhinaya.stream.log import open_log
from abhinaya.stream.run.placement.ray_actor import HEAD_LABEL
from abhinaya.stream.wire.child import leave_exit_report

NAME: Final = "controller"
"""Of the process that makes the actor: the name of its exit report."""

PAUSE_S: Final = 5.0
"""Seconds after which a controller that has failed begins again."""

_LOG = logging.getLogger("abhinaya.controller")


class Controller:
    """The actor. Each time that it begins it reads what shall run: Ray restores it with the head.

    Args:
        state: folder of the controller, on the head.

    """

    def __init__(self, state: str) -> None:
        self._state = State(Path(state))
        log = argparse.Namespace(
            log_level="info", log_format=None, log_file=Path(state) / "controller.log"
        )
        open_log(log, NAME)
        threading.Thread(target=self._run, daemon=True).start()

    def ready(self) -> str:
        """Return the version of the package here."""
        return version()

    def _run(self) -> None:
        from abhinaya.stream.run.placement.ray_connection import leave
        from abhinaya.stream.run.placement.ray_placement import RayPlacement

        while True:
            try:
                cluster = _cluster(self._state)
                labels = [machine.label for machine in cluster.config.machines]
                run(cluster, RayPlacement(cluster.config.name, version(), labels))
                break
            except AbhinayaError as error:
                _LOG.error("the controller begins again: %s", error)
            except Exception:
                _LOG.exception("the controller begins again")
            time.sleep(PAUSE_S)
        leave()


def start(here: Here) -> None:
    """Make the controller if there is none; end that of another version of ours.

    Raises:
        NetworkError: Ray does not answer.

    """
    from abhinaya.stream.run.placement.ray_connection import connect, make_one

    address = f"{here.machine.address}:{here.ray.port}"
    connect(address, here.temporary, here.machine.address)
    namespace = f"abhinaya-controller/{here.cluster.config.name}"
    make_one(Controller, namespace, here.version, {HEAD_LABEL: "yes"}, str(here.cluster.state))


def _cluster(state: State) -> Cluster:
    cluster = state.read_cluster()
    if cluster is None:
        raise ConfigError(str(state.folder), "has no cluster", "run `abhinaya cluster up`")
    return cluster


def main(argv: Sequence[str] | None = None) -> int:
    """Make the actor; leave an exit report if that fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--machine", required=True)
    args = parser.parse_args(argv)
    here = ray_settings.of(_cluster(State(args.state)), args.machine, version())
    try:
        start(here)
    except AbhinayaError as error:
        leave_exit_report(here.directory, NAME, error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
