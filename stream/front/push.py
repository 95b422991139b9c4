"""The push front: the front process of all calls of a cell whose audio the gateway pushes.

A thread receives the audio (`_Intake`) and makes a feed of each track; from there on it goes the
way of other live inputs. A new push front continues the calls that are open: the audio between is a
gap.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import secrets
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast, get_args

import zmq

from abhinaya.models.text import say_traceback
from abhinaya.stream.errors import ProcessError, SourceError, WireError
from abhinaya.stream.front.assignment import AssignedInput, Assignment
from abhinaya.stream.front.child import Place, connected, run_front
from abhinaya.stream.front.loop import Front
from abhinaya.stream.front.reader import Feed
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.compliance import ComplianceConfig, lawful, remark
from abhinaya.stream.sources.base import SampleFormat
from abhinaya.stream.sources.pushed import PushedTrack, to_stream
from abhinaya.stream.wire.child import Notes, Stop
from abhinaya.stream.wire.messages import StreamInfo
from abhinaya.stream.wire.push import (
    Audio,
    Calls,
    CloseCall,
    Decoder,
    Done,
    Here,
    OpenCall,
    ToPushFront,
    encode,
    push_endpoint,
)
from abhinaya.stream.wire.sockets import receive

POLL_MS: Final = 100
ENDED: Final = "the call ended while its process was restarted"

Remarks = queue.SimpleQueue[tuple[str, str]]


class _Intake:
    """Receives the calls of the gateway and gives them to the front.

    Args:
        assignment: what the predecessor had.
        compliance: whose voice is judged.
        front: takes the feeds.
        remarks: receives warnings about inputs.

    """

    def __init__(
        self,
        assignment: Assignment,
        compliance: ComplianceConfig,
        front: Front,
        remarks: Remarks,
    ) -> None:
        self._assignment = assignment
        self._compliance = compliance
        self._front = front
        self._remarks = remarks
        self._left = {assigned.name: assigned for assigned in assignment.inputs}
        """Calls of the predecessor that the gateway has not named yet."""
        self._tracks: dict[int, list[PushedTrack]] = {}
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._context: zmq.Context[Any] = zmq.Context()
        self._decoder = Decoder(ToPushFront)

    def start(self, directory: Path) -> None:
        """Start the thread that receives from the gateway of the run in `directory`."""
        threading.Thread(target=self._run, args=(directory,), daemon=True).start()

    def _run(self, directory: Path) -> None:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.identity = b"push-" + secrets.token_hex(8).encode()
        socket.connect(os.fsencode(push_endpoint(str(directory))))  # type: ignore[arg-type]
        here = Here(incarnation=str(os.getpid()), cell=self._assignment.cell)
        try:
            socket.send_multipart(encode(here))
            while True:
                socket.poll(POLL_MS)
                while (frames := receive(socket)) is not None:
                    with contextlib.suppress(WireError):  # the gateway is of the same version
                        self._take(*self._decoder.decode(frames))
                while not self._done.empty():
                    done = self._done.get()
                    self._tracks.pop(done.call, None)
                    socket.send_multipart(encode(done))
        except Exception as error:
            say_traceback()
            reason = f"stopped on an unexpected {type(error).__name__}: {error}"
            self._front.reader.error = ProcessError(self._assignment.front, reason)

    def _take(self, message: Any, sound: memoryview) -> None:
        match message:
            case Audio():
                self._audio(message, sound)
            case OpenCall():
                self._open(message)
            case CloseCall(call=call, reason=reason):
                for track in self._tracks.pop(call, ()):
                    track.end(reason)
                self._front.reader.make_room()
            case Calls(calls=calls):
                for opening in calls:
                    self._open(opening)
                for assigned in self._left.values():
                    self._front.add([self._ending(assigned)])
                self._left.clear()

    def _audio(self, audio: Audio, sound: memoryview) -> None:
        begin = 0
        for part in audio.parts:
            data = sound[begin : begin + part.size]
            begin += part.size
            tracks = self._tracks.get(part.call, ())
            if part.track < len(tracks):
                tracks[part.track].put(part.position, bytes(data), audio.sent_unix_s)
        self._front.reader.make_room()

    def _open(self, opening: OpenCall) -> None:
        if opening.call in self._tracks:
            return
        if opening.encoding not in get_args(SampleFormat):
            raise WireError("message", f"unknown encoding {opening.encoding[:40]!r}")
        encoding = cast("SampleFormat", opening.encoding)
        assigned = self._left.pop(opening.name, None)
        written = {s.stream: s for s in assigned.standings} if assigned else {}
        tracks, feeds = [], []
        consent = opening.facts.get("consent", "")
        infos = [
            self._info(t.stream, opening.name, opening.source, opening.start_unix_s, consent)
            for t in opening.tracks
        ]
        if text := remark(self._compliance, infos):
            self._remarks.put((opening.name, text))
        left = itertools.count(len(opening.tracks) - 1, -1)

        def done(reason: str) -> None:
            if not next(left):
                self._done.put(Done(call=opening.call, reason=reason))

        def warn(text: str) -> None:
            self._remarks.put((opening.name, text))

        for said, info in zip(opening.tracks, infos, strict=True):
            rate, begin = opening.rate, said.position
            track = PushedTrack(said.stream, encoding, rate, begin, warn)
            standing = written.get(said.stream)
            feed = Feed(
                opening.name,
                (info,),
                (standing,) if standing else (),
                track.opened(opening.source, opening.start_unix_s),
                begin=to_stream(begin, rate),
                done=done,
            )
            tracks.append(track)
            feeds.append(feed)
        self._tracks[opening.call] = tracks
        self._front.add(feeds)

    def _ending(self, assigned: AssignedInput) -> Feed:
        """Return a feed that only ends the streams of a call which is over."""
        standings = [s for s in assigned.standings if not s.ended]
        infos = (self._info(s.stream, assigned.name, "", s.start_unix_s) for s in standings)
        fault = SourceError(assigned.name, ENDED)
        return Feed(assigned.name, tuple(infos), tuple(standings), fault=fault)

    def _info(
        self, stream: str, name: str, source: str, start_unix_s: float, consent: str = ""
    ) -> StreamInfo:
        info = StreamInfo(
            stream=stream,
            front=self._assignment.front,
            source=source,
            live=True,
            start_unix_s=start_unix_s,
            input=name,
            run=self._assignment.run,
            consent=consent,
        )
        return lawful(self._compliance, info)


def serve(run: configuration.Config, assignment: Assignment, directory: Path, stop: Stop) -> int:
    """Process calls until asked to stop; return the exit code.

    Raises:
        ProcessError: an unexpected error, or the hub refuses this front.

    """
    remarks: Remarks = queue.SimpleQueue()
    place = Place(directory, assignment.front)
    with connected(assignment, place) as socket:
        front = Front(
            assignment.front,
            run,
            [],
            socket,
            remarks,
            lambda name, error: remarks.put((name, str(error))),
            place,
            Notes(directory, assignment.front),
            stays=assignment.run,
        )
        _Intake(assignment, run.compliance, front, remarks).start(directory)
        return front.run(stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a child of the supervisor."""
    return run_front(argv, serve)


if __name__ == "__main__":
    sys.exit(main())
