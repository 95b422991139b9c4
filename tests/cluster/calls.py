"""Calls of a client, and the count of what comes of them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
import wave
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from cluster.count import Came, Span, counted
from cluster.lab import BIN, Machine
from places import ROOT

from abhinaya.bench.demo import CALL
from abhinaya.stream import Monitor
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.wire.messages import Verdict

NAMES: Final = tuple(f"call-{n}" for n in range(6))
SITE: Final = str(ROOT / "tests" / "plugin")
PLUGIN: Final = {"PYTHONPATH": SITE}
"""The package with the models of the lab, which need next to no processor time."""

PROFILE: Final = """
[voters.loudness]
model = "loudness"
[vad]
max_segment_s = 2.0
cut_search_s = 1.0
"""
"""One voter, and short segments: more of them to count."""


def recording(folder: Path, seconds: int) -> Path:
    """Return a file with so many seconds of the demo call, again and again."""
    path = folder / f"speech-{seconds}.wav"
    if not path.exists():
        chunks = open_source(InputConfig(str(CALL))).chunks()
        once = np.concatenate([chunk.samples.reshape(-1) for chunk in chunks])
        samples = np.resize(once, seconds * SAMPLE_RATE)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def segments(speech: Path, profile: Path) -> list[Span]:
    """Return the segments of a file, found without any network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SITE)
        monitor = Monitor(profile=str(profile))
    with monitor:
        found = [e for e in monitor.events(str(speech)) if isinstance(e, Verdict) and e.final]
    return [(e.start / SAMPLE_RATE, e.end / SAMPLE_RATE) for e in found]


class Calls:
    """A run of `abhinaya-stream` on a machine; its JSON lines are read as they come."""

    def __init__(
        self,
        machine: Machine,
        profile: Path,
        seconds: int,
        options: Sequence[object],
        names: Sequence[str] = NAMES,
    ) -> None:
        speech = recording(machine.lab.folder, seconds)
        self.expected, self.names = segments(speech, profile), names
        self.events: list[tuple[float, dict[str, Any]]] = []
        """(monotonic time, event)"""
        inputs = [word for name in self.names for word in (speech, "--name", name)]
        output = ("--profile", profile, "--format", "jsonl")
        command = [BIN / "abhinaya-stream", *inputs, *output, *options]
        self._machine, self.log = machine, machine.folder / "calls.log"
        self._process = machine.start(*command, log="calls.log", pipe=True, **PLUGIN)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.append((time.monotonic(), json.loads(line)))

    def of(
        self, kind: str, since: float = 0.0, **values: object
    ) -> list[tuple[float, dict[str, Any]]]:
        """Return the events of a type with such values, and when each came."""
        return [
            (at, event)
            for at, event in list(self.events)
            if event["type"] == kind
            and at >= since
            and all(event.get(key) == value for key, value in values.items())
        ]

    def first(
        self, seconds: float, kind: str, since: float, able: Callable[[dict[str, Any]], object]
    ) -> float:
        """Wait for an event; return how long after `since` it came."""
        until = since + seconds
        while True:
            now = time.monotonic()
            for at, event in self.of(kind, since):
                if able(event):
                    return at - since
            assert now < until, f"no such {kind} within {seconds:g} s; {self.said()}"
            assert self._process.poll() is None, f"the calls have ended; {self.said()}"
            time.sleep(0.05)

    def answers(self, since: float, seconds: float, names: Collection[str] = NAMES) -> float:
        """Wait until one of these calls has a vote on what was said since; return after how long.

        Speech itself takes time: a segment of up to 2 s, and the silence that ends it.
        """
        clock = time.time() - time.monotonic() + since

        def able(event: dict[str, Any]) -> bool:
            began = datetime.fromisoformat(event["wall_time"]).timestamp()
            return event["stream"] in names and began > clock and bool(event["votes"])

        return self.first(seconds, "verdict", since, able)

    def running(self, verdicts: int = 2, seconds: float = 60) -> None:
        """Wait until each call has so many verdicts."""
        until = time.monotonic() + seconds
        while True:
            count = Counter(e["stream"] for _, e in self.of("verdict", final=True, revision=0))
            if all(count[name] >= verdicts for name in self.names):
                return
            assert time.monotonic() < until, f"{count}; {self.said()}"
            assert self._process.poll() is None, self.said()
            time.sleep(0.1)

    def said(self) -> str:
        """Return the end of what the run has written on standard error."""
        return self.log.read_text("utf-8", "replace")[-3000:]

    def end(self, seconds: float = 120) -> int:
        """Wait for the end of the run; return its exit code."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError(f"the calls do not end; {self.said()}") from None
        self._reader.join(10)
        return code

    def stop(self) -> None:
        """End the run as a user does."""
        for sent in (signal.SIGTERM, signal.SIGKILL):
            self._machine.kill("abhinaya-stream", "--format", signal=sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
                break

    def count(self) -> Came:
        """Wait for the end of the calls, and count what came of them."""
        code = self.end()
        assert code == 0, f"exit code {code}; {self.said()}"
        return counted([event for _, event in self.events], self.names, self.expected)
