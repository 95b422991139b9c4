"""A real run with null nodes whose calls a test feeds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from abhinaya.bench.demo import CALL
from abhinaya.bench.null_nodes import null_config, null_nodes
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.run.monitor import Run
from abhinaya.stream.run.plan import Plan
from abhinaya.stream.serve.calls import AudioFormat, Call, Calls
from abhinaya.stream.settings.config import Config
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Event, Gap, StreamEnded, StreamStarted, Verdict

LINEAR = AudioFormat("s16le", 16_000)
PARTIES = ("agent", "customer")


class PushedRun:
    """Runs until `body` returns; keeps the events, and what went wrong."""

    def __init__(self, body: Callable[[PushedRun], None], config: Config | None = None) -> None:
        self.events: list[Event] = []
        self.troubles: list[str] = []
        self.error: BaseException | None = None
        self._body = body
        with run_directory() as directory, null_nodes():
            self.directory: Path = directory
            self.calls = Calls(directory)
            plan = Plan(config or null_config(4.0), (), None, True, calls=self.calls)
            self.run = Run(plan, directory, [self], self)
            threading.Thread(target=self._feed, daemon=True).start()
            self.code = self.run.run()
            self.calls.close()
        if self.error is not None:
            raise self.error

    def _feed(self) -> None:
        try:
            until(lambda: self.calls.ready, "the push front")
            self._body(self)
        except BaseException as error:
            self.error = error
        signal.raise_signal(signal.SIGTERM)

    def write(self, event: Event, now_unix_s: float) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass

    def loading(self, stages: dict[str, Stage]) -> None:
        pass

    def trouble(self, message: str) -> None:
        self.troubles.append(message)

    def of(self, stream: str) -> list[Verdict | Gap | StreamEnded]:
        """The numbered events of a stream."""
        kinds = Verdict | Gap | StreamEnded
        return [e for e in self.events if isinstance(e, kinds) and e.stream == stream]

    def ended(self, *calls: Call) -> bool:
        """Whether the end of each stream of these calls is written."""
        ends = {e.stream for e in self.events if isinstance(e, StreamEnded)}
        return all(stream in ends for call in calls for stream in call.streams)

    def started(self, call: Call) -> bool:
        names = {e.info.stream for e in self.events if isinstance(e, StreamStarted)}
        return names.issuperset(call.streams)


def until(what: Callable[[], bool], name: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"{name} did not come"
        time.sleep(0.02)


def demo(seconds: float) -> list[bytes]:
    """The beginning of the demo call, 16-bit samples of each party."""
    chunks = open_source(InputConfig(str(CALL), channels="split")).chunks()
    samples = np.concatenate([chunk.samples for chunk in chunks])[: int(16_000 * seconds)]
    return [(32767 * np.clip(party, -1, 1)).astype("<i2").tobytes() for party in samples.T]


def feed(
    call: Call, tracks: list[bytes], begin_s: float, end_s: float, speed: float = 16.0
) -> None:
    """Feed a part of the tracks in messages of 20 ms, faster than real time."""
    begun, speed = time.monotonic(), 16.0
    for start in range(int(32_000 * begin_s), int(32_000 * end_s), 640):
        for number, track in enumerate(tracks):
            call.feed(number, track[start : start + 640])
        time.sleep(max(0.0, begun + (start / 32_000 - begin_s) / speed - time.monotonic()))
