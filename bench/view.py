"""What the live view costs: processor time for each second of many live streams.

    abhinaya bench view
    abhinaya bench view --svg docs/live-view.svg

Streams are planted, with a provisional verdict every second; the clock is simulated, the drawing is
real: the view's own sink on a terminal whose output is thrown away. With --svg nothing is measured:
the demo call is listened to by the real processes at real pace, and the picture of one moment kept.
"""

from __future__ import annotations

import gc
import io
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from abhinaya.bench.conversation import conversation
from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.bench.still import still
from abhinaya.stream.run import POLL_S
from abhinaya.stream.sinks.base import tell
from abhinaya.stream.sinks.live.view import View

WARM_UP_S = 20.0
"""Of simulated time, not measured: until the timelines are full of labels."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one setting costs."""

    streams: int
    width: int
    height: int
    seconds: float
    """Of simulated time."""
    core_share: float
    """Processor seconds for each second of the streams."""
    events_per_s: float
    pictures_per_s: float
    bytes_per_s: float
    """Written to the terminal."""


class _Away(io.TextIOBase):
    """Counts what is written, and throws it away."""

    def __init__(self) -> None:
        self.size = 0
        self.pictures = 0

    def write(self, text: str, /) -> int:
        self.size += len(text.encode())
        # what differs from the picture before is written at once
        self.pictures += "\x1b" in text
        return len(text)

    def writable(self) -> bool:
        return True


def measure(streams: int, width: int, height: int, seconds: float) -> Cost:
    """Show a planted conversation of so many streams, and take the time."""
    away = _Away()
    console = Console(
        file=away,  # type: ignore[arg-type]
        force_terminal=True,
        color_system="truecolor",
        width=width,
        height=height,
    )
    view = View(console)
    start_unix_s = 1_000_000.0
    next_tick_s = used_s = 0.0
    events = 0
    measuring = False
    for timed in conversation(streams, WARM_UP_S + seconds, start_unix_s):
        if not measuring and timed.at_s >= WARM_UP_S:
            gc.collect()
            measuring, events, away.size, away.pictures = True, 0, 0, 0
            begun = time.process_time()
        while next_tick_s <= timed.at_s:
            view.tick(start_unix_s + next_tick_s)
            next_tick_s += POLL_S
        tell([view], timed.event, start_unix_s + timed.at_s)
        events += 1
    used_s = time.process_time() - begun
    result = Cost(
        streams=streams,
        width=width,
        height=height,
        seconds=seconds,
        core_share=used_s / seconds,
        events_per_s=events / seconds,
        pictures_per_s=away.pictures / seconds,
        bytes_per_s=away.size / seconds,
    )
    view.close()
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or keep a picture; give the exit code.

    Raises:
        AbhinayaError: the demo call could not be listened to, or a file not be written.

    """
    made = parser("view", __doc__)
    made.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16, 64])
    made.add_argument("--seconds", type=float, default=60.0, help="of simulated time (%(default)s)")
    made.add_argument("--width", type=int, default=120)
    made.add_argument("--height", type=int, default=40)
    made.add_argument("--svg", type=Path, metavar="FILE", help="keep a picture of the demo call")
    made.add_argument(
        "--at", type=float, default=38.5, help="second of the call for --svg (%(default)s)"
    )
    options = made.parse_args(sys.argv[1:] if argv is None else argv)
    if options.svg:
        still(options.svg, options.at)
        return 0
    costs = [
        measure(count, options.width, options.height, options.seconds) for count in options.streams
    ]
    rows = [
        (
            str(cost.streams),
            f"{cost.core_share:.1%}",
            f"{cost.events_per_s:.0f}",
            f"{cost.pictures_per_s:.1f}",
            f"{cost.bytes_per_s / 1000:.1f} kB",
        )
        for cost in costs
    ]
    columns = ("streams", "of one core", "events/s", "pictures/s", "written/s")
    title = f"The live view, {options.width} x {options.height}"
    settings = {"seconds": options.seconds, "width": options.width, "height": options.height}
    report = Report("view", settings, {"costs": [asdict(cost) for cost in costs]})
    publish(report, [table(title, columns, rows)], options.json)
    return 0
