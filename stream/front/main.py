"""A front process of a run: reads the inputs that the main process has assigned to it."""

from __future__ import annotations

import queue
import sys
from collections.abc import Sequence
from pathlib import Path

from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.front.assignment import Assignment
from abhinaya.stream.front.child import Place, connected, run_front
from abhinaya.stream.front.loop import Front
from abhinaya.stream.front.opening import open_feed
from abhinaya.stream.front.reader import Feed
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.wire.child import Notes, Stop, leave_fault


def serve(run: configuration.Config, assignment: Assignment, directory: Path, stop: Stop) -> int:
    """Open the inputs, connect to the hub, and send the segments; return the exit code.

    Raises:
        ProcessError: an unexpected error, or the hub refuses this front.

    """

    def report(name: str, error: AbhinayaError) -> None:
        leave_fault(directory, assignment.front, name, error)

    remarks: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    feeds: list[Feed] = []
    for assigned in assignment.inputs:
        try:
            feeds.append(open_feed(assignment.front, assigned, run, remarks, assignment.run))
        except AbhinayaError as error:
            report(assigned.name, error)
    if not feeds:
        return 0
    note, place = Notes(directory, assignment.front), Place(directory, assignment.front)
    try:
        with connected(assignment, place) as socket:
            front = Front(assignment.front, run, feeds, socket, remarks, report, place, note)
            return front.run(stop)
    finally:
        for feed in feeds:
            if feed.source is not None:
                feed.source.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a child of the supervisor."""
    return run_front(argv, serve)


if __name__ == "__main__":
    sys.exit(main())
