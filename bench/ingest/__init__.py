"""Telephone calls pushed at the same time: what is lost, and what a call costs each process.

Every call has two tracks of 8 kHz mu-law in messages of 20 ms, in real time, with the speech of the
demo call. The processes are the real ones; only the nodes are without models.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import MAIN, Usage, Watcher, cpu_seconds, play, resident_mib, running
from abhinaya.bench.null_nodes import NEEDS, null_config, null_nodes
from abhinaya.bench.report import Report, parser, percentiles, publish, settings_of, table
from abhinaya.stream.errors import ProcessError
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.run.supervisor import Supervisor
from abhinaya.stream.serve.calls import AudioFormat, Call, Calls
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.sources.base import Block
from abhinaya.stream.sources.condition import Conditioner
from abhinaya.stream.sources.pcm import to_float
from abhinaya.stream.wire.messages import Event, Gap, StreamEnded, Verdict

RATE: Final = 8_000
FRAME: Final = RATE // 50
TELEPHONE: Final = AudioFormat("mulaw", RATE)
PARTIES: Final = ("agent", "customer")
PLACES: Final = 8
"""Places of the demo call at which calls begin: they shall not all speak at once."""
LIVE_S: Final = 4.0
"""Time limit of verdicts, that of the profiles."""
READY_S: Final = 60.0
LAST_S: Final = 60.0
"""Time limit for the last verdicts."""

Track = tuple[bytes, list[tuple[int, int]]]
"""mu-law samples, and where their segments are."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """Figures of one run."""

    calls: int
    seconds: float
    took_s: float
    """From the first sample to the end of the last stream."""
    messages: int
    feed_us: float
    """Mean duration of `Call.feed` in microseconds."""
    dropped: int
    """Bytes that calls did not take."""
    segments: int
    lost: int
    """Segments that a recording read as a whole has, and that got no verdict."""
    other: int
    """Verdicts and gaps that it does not have."""
    incomplete: int
    """Verdicts without all votes."""
    late_ms: Mapping[str, float]
    """Percentiles: from the end of a segment's speech to its verdict."""
    cpu: Mapping[str, float]
    """Share of a core for each call, by process."""
    mib: Mapping[str, float]
    """Resident memory at the end, by process."""
    others: float = 0.0
    """Share of the machine that other processes used."""


class Feeder(Watcher):
    """Feeds the calls once the push front is there, and follows what becomes of them."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._count, self._seconds = calls, seconds
        self._tracks = telephone_tracks(seconds)
        self._calls: list[Call] = []
        self._spans: dict[str, list[tuple[int, int]]] = {}
        self._expected: dict[str, list[tuple[int, int]]] = {}
        self._gaps = self._incomplete = 0
        self._late_ms: list[float] = []
        self._ended: dict[str, float] = {}
        self._pids: dict[str, int] = {}
        self._cpu: tuple[dict[str, float], dict[str, float]] = {}, {}
        self._mib: dict[str, float] = {}
        self._feed_s = self._begun = 0.0
        self._messages = 0

    def event(self, event: Event, now_unix_s: float) -> None:
        """Count verdicts, gaps and ends."""
        match event:
            case Verdict():
                self._spans.setdefault(event.stream, []).append((event.start, event.end))
                self._incomplete += len(event.votes) < len(NEEDS) - 1
                self._late_ms.append(1000 * (now_unix_s - event.captured_unix_s))
            case Gap():
                self._gaps += 1
            case StreamEnded():
                self._ended[event.stream] = time.monotonic()

    def look(self, processes: Supervisor, now: float) -> None:
        """Note which processes there are."""
        self._pids = {MAIN: os.getpid(), **dict(running(processes))}

    def feed(self, calls: Calls) -> None:
        """Feed all calls in real time, then wait for their ends.

        Raises:
            ProcessError: the push front does not come.

        """
        until = time.monotonic() + READY_S
        while not (calls.ready and self._pids):
            if time.monotonic() > until:
                raise ProcessError("the push front", f"was not ready after {READY_S:g} s")
            time.sleep(0.02)
        for number in range(self._count):
            call = calls.open(f"bench:{number}", PARTIES, TELEPHONE, source="the demo call")
            self._calls.append(call)
            place = self._tracks[number % PLACES]
            self._expected |= {s: t[1] for s, t in zip(call.streams, place, strict=True)}
        self._cpu = self._used(), {}
        self._begun = time.monotonic()
        for start in range(0, int(RATE * self._seconds), FRAME):
            before = time.perf_counter()
            for number, call in enumerate(self._calls):
                for track, (sound, _) in enumerate(self._tracks[number % PLACES]):
                    call.feed(track, sound[start : start + FRAME])
                    self._messages += 1
            self._feed_s += time.perf_counter() - before
            time.sleep(max(0.0, self._begun + start / RATE - time.monotonic()))
        for call in self._calls:
            call.close()
        until = time.monotonic() + LAST_S
        while len(self._ended) < len(self._expected) and time.monotonic() < until:
            time.sleep(0.02)
        self._cpu = self._cpu[0], self._used()
        self._mib = {name: resident_mib(pid) for name, pid in self._pids.items()}

    def _used(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def result(self) -> Ingest:
        """Return the figures."""
        lost = other = 0
        for stream, expected in self._expected.items():
            found, wanted = Counter(self._spans.get(stream, ())), Counter(expected)
            lost, other = lost + (wanted - found).total(), other + (found - wanted).total()
        lost += len(self._expected.keys() - self._ended.keys())
        before, after = self._cpu
        core_s = self._seconds * self._count
        return Ingest(
            calls=self._count,
            seconds=self._seconds,
            took_s=max(self._ended.values(), default=0.0) - self._begun,
            messages=self._messages,
            feed_us=1e6 * self._feed_s / max(1, self._messages),
            dropped=sum(call.dropped for call in self._calls),
            segments=sum(map(len, self._expected.values())),
            lost=lost,
            other=other + self._gaps,
            incomplete=self._incomplete,
            late_ms=percentiles(self._late_ms),
            cpu={name: (after[name] - before.get(name, 0.0)) / core_s for name in after},
            mib=self._mib,
        )


def telephone_tracks(seconds: float) -> list[list[Track]]:
    """Return for each place of the demo call what both parties say from there on."""
    chunks = open_source(InputConfig(str(CALL), channels="split")).chunks()
    half = np.concatenate([chunk.samples for chunk in chunks])[::2]  # a telephone has half the rate
    law = to_float(bytes(range(256)), "mulaw")
    order = np.argsort(law).astype(np.uint8)
    codes = order[np.searchsorted(law[order], half).clip(0, 255)]
    found = []
    for place in range(PLACES):
        turned = np.roll(codes, -place * len(codes) // PLACES, axis=0)
        sounds = [np.resize(party, int(RATE * seconds)).tobytes() for party in turned.T]
        found.append([(sound, spoken(sound)) for sound in sounds])
    return found


def spoken(sound: bytes) -> list[tuple[int, int]]:
    """Return where the segments of a track are, read as a whole."""
    conditioner = Conditioner("split", "demo", lambda text: None)
    block = Block(to_float(sound, "mulaw").reshape(-1, 1), RATE, 0.0)
    chunks = [*conditioner.feed(block), *conditioner.finish()]
    listener = Listener(VadConfig(), 1)
    found = listener.feed(np.concatenate([chunk.samples for chunk in chunks])) + listener.finish()
    return [(piece.start, piece.end) for _, piece in found]


def measure(calls: int, seconds: float) -> Ingest:
    """Push so many calls of such a length at once; return the figures."""
    feeder, usage = Feeder(calls, seconds), Usage()
    with null_nodes():
        play(null_config(LIVE_S), [], [feeder, usage], pushes=feeder.feed)
    return replace(feeder.result(), others=usage.others)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 if anything was lost."""
    arguments = parser("ingest", __doc__)
    add = arguments.add_argument
    add("--calls", type=int, default=200, help="at the same time, of two tracks (%(default)s)")
    add("--seconds", type=float, default=60.0, help="length of each call (%(default)g)")
    options = arguments.parse_args(argv)
    run = measure(options.calls, options.seconds)
    title = f"{run.calls} calls of two tracks at once, {run.seconds:g} s each"
    rows = [
        ("took", f"{run.took_s:.1f} s"),
        ("messages", f"{run.messages}, {run.feed_us:.1f} us each in the gateway"),
        ("bytes dropped", f"{run.dropped}"),
        ("segments", f"{run.segments}: {run.lost} lost, {run.other} others"),
        ("votes missing", f"in {run.incomplete} verdicts"),
        ("other processes had", f"{run.others:.0%} of the machine"),
        ("end of speech to verdict", ", ".join(f"{p} {v:.0f} ms" for p, v in run.late_ms.items())),
    ]
    costs = [
        (name, f"{100 * share:.3f} %", f"{share * run.calls:.2f}", f"{run.mib[name]:.0f}")
        for name, share in run.cpu.items()
    ]
    columns = ("process", "of a core a call", "cores", "MiB")
    publish(
        Report("ingest", settings_of(options), {"run": run}),
        [table(title, ("", "figure"), rows), table("Cost", columns, costs)],
        options.json,
    )
    return 1 if run.dropped or run.lost or run.other or run.incomplete else 0
