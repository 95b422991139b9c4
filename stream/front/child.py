"""The beginning of a front process, as a child of the supervisor, and its connection to the hub."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import zmq

from abhinaya.models.text import unpack
from abhinaya.stream.front.assignment import Assignment
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.wire.child import Stop, cancelled_of, hub_of, run_child
from abhinaya.stream.wire.client import Client
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.sockets import connect, workers_endpoint

Serve = Callable[[configuration.Config, Assignment, Path, Stop], int]
"""Gets the settings, the assignment and the directory of the run; returns the exit code."""


def run_front(argv: Sequence[str] | None, serve: Serve) -> int:
    """Read what the main process has written for this front, and call `serve`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--name", required=True)
    args = parser.parse_args(argv)
    run = configuration.decode((args.directory / "config.json").read_bytes())
    assignment = unpack((args.directory / f"{args.name}.json").read_bytes(), Assignment)
    return run_child(
        args.name,
        args.directory,
        args.lifeline,
        lambda stop: serve(run, assignment, args.directory, stop),
    )


class Place:
    """What the main process may change for a front that runs: where its hub is, and its inputs."""

    def __init__(self, directory: Path, front: str) -> None:
        self._directory, self._front = directory, front
        self.endpoint, self.server = hub_of(directory, front)

    def moved(self) -> bool:
        """Whether the hub is somewhere else since the last look."""
        before, found = (self.endpoint, self.server), hub_of(self._directory, self._front)
        if not found[0] or found == before:
            return False
        self.endpoint, self.server = found
        return True

    def cancelled(self) -> frozenset[str]:
        """Return the names of the inputs that shall end."""
        return cancelled_of(self._directory, self._front)


@contextmanager
def connected(assignment: Assignment, place: Place) -> Iterator[Client]:
    """Lend the socket to the hub; it is closed at the end."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys = None
    if assignment.keys:
        directory, name = assignment.keys
        keys = Keys(Path(directory), name, place.server)
    socket = connect(context, workers_endpoint(place.endpoint), assignment.front, keys)
    try:
        yield socket
    finally:
        socket.close()
        context.term()
