"""Measures the gateway: from a verdict in its run to a reader in another process.

    abhinaya bench gateway
    abhinaya bench gateway --streams 500 --rate 1000 --readers 4

The web server, its store and its board are the real ones; the run is replaced by a clock that
writes verdicts at a steady rate, each with its own time in it. Each reader is a process with a
WebSocket. The figures say how late an event comes, and that none was dropped or kept twice.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

from abhinaya.bench.report import (
    Column,
    Report,
    ms,
    parser,
    percentiles,
    publish,
    settings_of,
    table_of,
)
from abhinaya.client import Client
from abhinaya.models.labels import LABELS
from abhinaya.stream.clock import SAMPLE_RATE, unix_time
from abhinaya.stream.errors import ProcessError
from abhinaya.stream.run.directory import run_directory
from abhinaya.stream.serve.app import Gateway
from abhinaya.stream.serve.board import Board
from abhinaya.stream.serve.main import application, opened
from abhinaya.stream.serve.server import Server, bind
from abhinaya.stream.settings.config import EMBEDDED
from abhinaya.stream.settings.profile import load
from abhinaya.stream.wire.messages import StreamInfo, StreamStarted, Transcript, Verdict, Vote

RUN: Final = "bench"
USUAL: Final = ((64, 64.0), (500, 1000.0))
"""Streams and events a second of the two usual measurements."""
END: Final = "end of the measurement"
READER: Final = "from abhinaya.bench.gateway import main; main()"
LEFT_S: Final = 30.0
"""Seconds that readers have to take the rest."""


class Heard(msgspec.Struct, frozen=True):
    """What one reader got."""

    late_ms: list[float]
    numbers: int
    """Different numbers of events."""
    dropped: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The outcome of one measurement."""

    streams: int
    rate: float
    readers: int
    sent: int
    written_s: float
    """How many events a second the run really wrote."""
    heard: int
    """Events that the reader with the fewest got."""
    dropped: int
    late_ms: dict[str, float]
    longest_ms: float
    cpu: float
    """Cores that the gateway used."""
    resident_mib: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark, or one of its readers."""
    made = parser("gateway", __doc__)
    made.add_argument("--streams", type=int, metavar="N", help="streams (default: 64, then 500)")
    made.add_argument("--rate", type=float, metavar="N", help="events a second of all streams")
    made.add_argument("--readers", type=int, default=2, metavar="N", help="default: 2")
    made.add_argument("--seconds", type=float, default=10.0, metavar="S", help="default: 10")
    made.add_argument("--reader", nargs=2, metavar=("ADDRESS", "TOKENFILE"), help="be a reader")
    options = made.parse_args(argv)
    if options.reader:
        sys.stdout.buffer.write(msgspec.json.encode(read(*options.reader)))
        return 0
    usual: Sequence[tuple[int, float]] = USUAL
    if options.streams or options.rate:
        usual = ((options.streams or 64, options.rate or float(options.streams)),)
    rows = [measure(n, rate, options.readers, options.seconds) for n, rate in usual]
    columns: dict[str, Column] = {
        "streams": "{0.streams}",
        "events/s": lambda row: f"{row.written_s:.0f}",
        "readers": "{0.readers}",
        "sent": "{0.sent}",
        "heard": "{0.heard}",
        "dropped": "{0.dropped}",
        "p50 ms": lambda row: ms(row.late_ms["p50"]),
        "p95 ms": lambda row: ms(row.late_ms["p95"]),
        "p99 ms": lambda row: ms(row.late_ms["p99"]),
        "longest ms": lambda row: ms(row.longest_ms),
        "cores": "{0.cpu:.2f}",
        "MiB": "{0.resident_mib:.0f}",
    }
    table = table_of("from a verdict in the gateway to a reader", columns, rows)
    publish(Report("gateway", settings_of(options), {"rows": rows}), [table], options.json)
    return 0


@contextmanager
def gateway(folder: Path) -> Iterator[tuple[Gateway, str]]:
    """Serve from a folder without a run; return the gateway and its address."""
    config = load(EMBEDDED)
    with (
        run_directory() as directory,
        closing(bind("127.0.0.1", 0)) as door,
        opened(config, folder, directory) as made,
    ):
        server = Server(application(made), door, config.serve, made.board)
        server.start()
        try:
            yield made, f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.stop()


def measure(streams: int, rate: float, readers: int, seconds: float) -> Figures:
    """Write verdicts at a rate, and return how late they came."""
    with tempfile.TemporaryDirectory(prefix="abhinaya-bench-") as name:
        folder = Path(name)
        with gateway(folder) as (served, address):
            command = [sys.executable, "-c", READER, "--reader", address]
            processes = [
                subprocess.Popen([*command, str(folder / "token")], stdout=subprocess.PIPE)  # noqa: S603
                for _ in range(readers)
            ]
            while served.board.readers < readers:
                if any(process.poll() is not None for process in processes):
                    raise ProcessError("a reader", "has ended before it began")
                time.sleep(0.02)
            me = psutil.Process()
            before, begun = me.cpu_times(), time.monotonic()
            sent = write(served.board, streams, rate, seconds)
            took, after = time.monotonic() - begun, me.cpu_times()
            resident = me.memory_info().rss / 2**20
            heard = [
                msgspec.json.decode(process.communicate(timeout=LEFT_S)[0], type=Heard)
                for process in processes
            ]
    late = [each for one in heard for each in one.late_ms]
    used = after.user + after.system - before.user - before.system
    return Figures(
        streams=streams,
        rate=rate,
        readers=readers,
        sent=sent,
        written_s=sent / took,
        heard=min(one.numbers for one in heard),
        dropped=sum(one.dropped for one in heard),
        late_ms=percentiles(late),
        longest_ms=max(late, default=float("nan")),
        cpu=used / took,
        resident_mib=resident,
    )


def write(board: Board, streams: int, rate: float, seconds: float) -> int:
    """Be the run: write a verdict of each stream in turn; return their number."""
    names = [f"call-{n // 2}/{('agent', 'customer')[n % 2]}" for n in range(streams)]
    for name in names:
        info = StreamInfo(
            stream=name, front="bench", source="bench", live=True, start_unix_s=0.0, run=RUN
        )
        board.write(StreamStarted(info=info), unix_time())
    begun, sent = time.monotonic(), 0
    while sent < rate * seconds:
        due = begun + sent / rate - time.monotonic()
        if due > 0:
            time.sleep(due)
        board.write(verdict(names[sent % streams], sent // streams), unix_time())
        sent += 1
    board.post({"type": "remark", "stream": None, "source": "bench", "text": END})
    return sent


def verdict(stream: str, sequence: int) -> Verdict:
    """Return a verdict of usual size that says when it was made."""
    label = LABELS[sequence % len(LABELS)]
    shares = tuple(0.65 if each == label else 0.05 for each in LABELS)
    of: dict[str, Any] = {"stream": stream, "sequence": sequence, "model": "tiny-speech"}
    run: dict[str, Any] = {"queue_ms": 3.0, "run_ms": 40.0, "batch_size": 2}
    start = 3 * SAMPLE_RATE * sequence
    return Verdict(
        stream=stream,
        sequence=sequence,
        start=start,
        end=start + 2 * SAMPLE_RATE,
        start_unix_s=3.0 * sequence,
        label=label,
        leading=label,
        reason=repr(time.time()),
        confidence=0.65,
        agreement=1.0,
        margin=0.5,
        votes=tuple(
            Vote(voter=voter, label=label, probabilities=shares, version="1", **of, **run)
            for voter in ("S1", "T2", "ST1")
        ),
        transcript=Transcript(text="I would like to change the date of my ticket", **of, **run),
        captured_unix_s=time.time(),
        stages_ms={"segment": 400.0, "asr": 180.0, "voters": 60.0},
    )


def read(address: str, token: str) -> Heard:
    """Be a reader until the end of the measurement."""
    late_ms: list[float] = []
    numbers: set[int] = set()
    dropped = 0
    for event in Client(address, Path(token).read_text().strip()).events():
        if event["type"] == "verdict":
            late_ms.append(1000 * (time.time() - float(event["reason"])))
            numbers.add(event["number"])
        elif event["type"] == "dropped":
            dropped += event["events"]
        elif event.get("text") == END:
            break
    return Heard(late_ms, len(numbers), dropped)
