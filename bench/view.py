"""What the live view costs: processor time for each second of many live streams.

    abhinaya bench view
    abhinaya bench view --svg docs/live-view.svg

The demo call is listened to once by the real processes at real pace. What they tell is then shown
again, as many calls at once as asked, each begun a little after the one before: the clock is
simulated, the drawing real, by the view's own sink on a terminal whose output is thrown away.
With --svg nothing is measured: the picture of one moment of the call is kept.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import Console, Group
from rich.terminal_theme import TerminalTheme

from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import Watcher, play_inputs
from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.stream.clock import to_samples
from abhinaya.stream.errors import ProcessError, SinkError
from abhinaya.stream.run.monitor import POLL_S
from abhinaya.stream.run.plan import Input
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.sinks import base
from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.sinks.live.picture import picture
from abhinaya.stream.sinks.live.view import View
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.messages import Activity, Event, StreamStarted, Verdict

CHANNELS: Final = ("agent", "customer")
APART_S: Final = 1.7
"""Between two calls: they do not move in step."""
WIDTH, HEIGHT = 80, 24
"""Of the picture that is kept."""
TITLE: Final = "abhinaya-stream call.opus --channels split --realtime"
THEME: Final = TerminalTheme(
    (22, 24, 29), (214, 216, 220), [(22, 24, 29)] * 8, [(214, 216, 220)] * 8
)
"""Of the SVG's background and text; the view itself names neither."""


class Told(NamedTuple):
    """An event, and when it reached the sinks."""

    at_unix_s: float
    event: Event | Activity


class _Recorded(Watcher):
    def __init__(self) -> None:
        self.told: list[Told] = []

    def event(self, event: Event, now_unix_s: float) -> None:
        self.told.append(Told(now_unix_s, event))

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        self.told.append(Told(now_unix_s, event))


@dataclass(frozen=True, slots=True)
class Cost:
    """What one number of streams costs."""

    streams: int
    core_share: float
    """Processor seconds for each second of the streams."""
    events_per_s: float
    pictures_per_s: float
    bytes_per_s: float
    """Written to the terminal."""


class _Away(io.TextIOBase):
    """Counts what is written, and throws it away."""

    size = pictures = 0

    def write(self, text: str, /) -> int:
        self.size += len(text.encode())
        # a picture is written at once
        self.pictures += "\x1b" in text
        return len(text)

    def writable(self) -> bool:
        return True


def listen() -> list[Told]:
    """Return all that the real processes tell of the demo call, at real pace.

    Raises:
        ProcessError: the run failed.

    """
    call = InputConfig(str(CALL), channels="split", channel_names=CHANNELS, realtime=True)
    recorded = _Recorded()
    play_inputs(profile_files.load(configuration.EMBEDDED), [Input("call", call)], [recorded])
    return recorded.told


def several(told: Sequence[Told], streams: int) -> list[Told]:
    """Return what would be told of so many streams: the call again and again, side by side."""
    found = []
    for number in range(streams):
        own = f"/{CHANNELS[number % len(CHANNELS)]}"
        apart_s = APART_S * (number // len(CHANNELS))
        for at_unix_s, event in told:
            if name := _stream_of(event):
                if name.endswith(own):
                    renamed = _renamed(event, f"call-{number:02}{own}", apart_s)
                    found.append(Told(at_unix_s + apart_s, renamed))
            elif not number:
                found.append(Told(at_unix_s, event))
    return sorted(found, key=lambda one: one.at_unix_s)


def _stream_of(event: Any) -> str:
    return event.info.stream if isinstance(event, StreamStarted) else getattr(event, "stream", "")


def _renamed(event: Any, stream: str, apart_s: float) -> Any:
    if isinstance(event, StreamStarted):
        return StreamStarted(info=_renamed(event.info, stream, apart_s))
    changed: dict[str, Any] = {"stream": stream}
    for name in ("start_unix_s", "captured_unix_s"):
        if hasattr(event, name):
            changed[name] = getattr(event, name) + apart_s
    return msgspec.structs.replace(event, **changed)


def measure(told: Sequence[Told], streams: int, width: int, height: int) -> Cost:
    """Show so many streams, and take the time."""
    away = _Away()
    console = Console(
        file=away,  # type: ignore[arg-type]
        force_terminal=True,
        color_system="truecolor",
        width=width,
        height=height,
    )
    view, shown = View(console), several(told, streams)
    begun = time.process_time()
    for now, event in _with_ticks(shown):
        if event is None:
            view.tick(now)
        else:
            base.publish([view], event, now)
    used_s = time.process_time() - begun
    seconds = shown[-1].at_unix_s - shown[0].at_unix_s
    result = Cost(
        streams=streams,
        core_share=used_s / seconds,
        events_per_s=len(shown) / seconds,
        pictures_per_s=away.pictures / seconds,
        bytes_per_s=away.size / seconds,
    )
    view.close()
    return result


def _with_ticks(told: Sequence[Told]) -> Iterator[tuple[float, Event | Activity | None]]:
    next_unix_s = told[0].at_unix_s
    for at_unix_s, event in told:
        while next_unix_s <= at_unix_s:
            yield next_unix_s, None
            next_unix_s += POLL_S
        yield at_unix_s, event


def still(told: Sequence[Told], at_s: float) -> Group:
    """Return the picture of one moment of the call.

    Raises:
        ProcessError: the run did not come so far.

    """
    board = Board()
    for now, event in _with_ticks(told):
        if event is not None:
            board.see(event, now)
        elif any(s.position(now) >= to_samples(at_s) for s in board.streams.values()):
            return Group(*picture(board, WIDTH - 1, HEIGHT - 1, now))
    raise ProcessError("the demo call", f"ended before {at_s:g} s")


def svg(drawn: Group) -> str:
    """Return a picture as SVG that loads nothing from elsewhere."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=WIDTH,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(drawn)
    text = console.export_svg(title=TITLE, theme=THEME)
    text = re.sub(r"\s*@font-face \{.*?\}", "", text, flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or keep a picture.

    Raises:
        AbhinayaError: the demo call could not be listened to, or a file not be written.

    """
    made = parser("view", __doc__)
    made.add_argument("--streams", type=int, nargs="+", default=[2, 4, 16, 64])
    made.add_argument("--width", type=int, default=120)
    made.add_argument("--height", type=int, default=40)
    made.add_argument("--svg", type=Path, metavar="FILE", help="keep a picture of the demo call")
    made.add_argument("--at", type=float, default=38.5, help="its second (%(default)s)")
    options = made.parse_args(argv)
    told = listen()
    if options.svg:
        try:
            options.svg.write_text(svg(still(told, options.at)), "utf-8")
        except OSError as error:
            raise SinkError(str(options.svg), f"cannot be written: {error.strerror}") from error
        return 0
    costs = [measure(told, count, options.width, options.height) for count in options.streams]
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
    settings = {"width": options.width, "height": options.height}
    publish(Report("view", settings, {"costs": costs}), [table(title, columns, rows)], options.json)
    return 0
