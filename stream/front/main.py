"""A front process of a run: reads the inputs that the main process has assigned to it."""

from __future__ import annotations

import argparse
import queue
import sys
from collections.abc import Sequence
from pathlib import Path

import zmq

from abhinaya.models.text import unpack
from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.front.assignment import Assignment
from abhinaya.stream.front.loop import Front, Note, Report
from abhinaya.stream.front.opening import open_feed
from abhinaya.stream.front.reader import Feed
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.wire.child import Notes, Stop, leave_fault, run_child
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.sockets import connect, workers_endpoint


def serve(
    run: configuration.Config,
    assignment: Assignment,
    stop: Stop,
    report: Report,
    note: Note = lambda reached: None,
) -> int:
    """Open the inputs, connect to the hub, and send the segments; return the exit code.

    Raises:
        ProcessError: an unexpected error, or the hub refuses this front.

    """
    remarks: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    feeds: list[Feed] = []
    for assigned in assignment.inputs:
        try:
            feeds.append(open_feed(assignment.front, assigned, run, remarks, assignment.run))
        except AbhinayaError as error:
            report(assigned.name, error)
    if not feeds:
        return 0
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys = Keys(Path(assignment.keys[0]), assignment.keys[1]) if assignment.keys else None
    socket = connect(context, workers_endpoint(assignment.endpoint), assignment.front, keys)
    try:
        return Front(assignment.front, run, feeds, socket, remarks, report, note).run(stop)
    finally:
        for feed in feeds:
            if feed.source is not None:
                feed.source.close()
        socket.close()
        context.term()


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a child of the supervisor."""
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
        lambda stop: serve(
            run,
            assignment,
            stop,
            lambda name, error: leave_fault(args.directory, args.name, name, error),
            Notes(args.directory, args.name),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
