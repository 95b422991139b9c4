"""Measures the cost of the live view: processor time for each second of many live streams.

    abhinaya bench view
    abhinaya bench view --svg docs/live-view.svg

The real processes play the demo call once, in real time. Its events are then shown as several calls
at once, each starting a little after the one before. The clock is simulated; the view's own sink
draws on a terminal that discards its output. With --svg nothing is measured: the picture of one
moment of the call is saved.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import Console, Group
from rich.terminal_theme import TerminalTheme

from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import Watcher, play
from abhinaya.bench.report import Column, Report, parser, publish, settings_of, table_of
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
"""Delay from the start of one call to the start of the next."""
WIDTH, HEIGHT = 80, 24
"""Size of the picture of --svg, in characters."""
MEASURED: Final = (120, 40)
"""Width and height of the terminal whose cost is measured."""
TITLE: Final = "abhinaya-stream call.opus --channels split --realtime"
THEME: Final = TerminalTheme(
    (22, 24, 29), (214, 216, 220), [(22, 24, 29)] * 8, [(214, 216, 220)] * 8
)
"""Background and text of the SVG; the view sets neither."""


class Recorded(NamedTuple):
    """An event and the time when it reached the sinks."""

    at_unix_s: float
    event: Event | Activity


class _Tape(Watcher):
    def __init__(self) -> None:
        self.events: list[Recorded] = []

    def event(self, event: Event, now_unix_s: float) -> None:
        self.events.append(Recorded(now_unix_s, event))

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        self.events.append(Recorded(now_unix_s, event))


class _NullTerminal(io.TextIOBase):
    """Counts bytes and pictures, and discards them."""

    size = pictures = 0

    def write(self, text: str, /) -> int:
        self.size += len(text.encode())
        # each picture is one write
        self.pictures += "\x1b" in text
        return len(text)

    def writable(self) -> bool:
        return True


def listen() -> list[Recorded]:
    """Return the events of the real processes on the demo call, played in real time."""
    call = InputConfig(str(CALL), channels="split", channel_names=CHANNELS, realtime=True)
    tape = _Tape()
    play(profile_files.load(configuration.EMBEDDED), [Input("call", call)], [tape])
    return tape.events


def several(events: Sequence[Recorded], streams: int) -> list[Recorded]:
    """Return the events of a number of streams: copies of the call, each a little later."""
    found = []
    for number in range(streams):
        own = f"/{CHANNELS[number % len(CHANNELS)]}"
        apart_s = APART_S * (number // len(CHANNELS))
        for at_unix_s, event in events:
            if name := _stream_of(event):
                if name.endswith(own):
                    renamed = _renamed(event, f"call-{number:02}{own}", apart_s)
                    found.append(Recorded(at_unix_s + apart_s, renamed))
            elif not number:
                found.append(Recorded(at_unix_s, event))
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


def measure(events: Sequence[Recorded], streams: int) -> dict[str, float]:
    """Return the cost of showing the events as a number of streams, for each second of them."""
    terminal = _NullTerminal()
    console = Console(
        file=terminal,  # type: ignore[arg-type]
        force_terminal=True,
        color_system="truecolor",
        width=MEASURED[0],
        height=MEASURED[1],
    )
    view, shown = View(console), several(events, streams)
    begun = time.process_time()
    for now, event in _with_ticks(shown):
        if event is None:
            view.tick(now)
        else:
            base.publish([view], event, now)
    used_s = time.process_time() - begun
    seconds = shown[-1].at_unix_s - shown[0].at_unix_s
    result = {
        "streams": streams,
        "core_share": used_s / seconds,
        "events_per_s": len(shown) / seconds,
        "pictures_per_s": terminal.pictures / seconds,
        "bytes_per_s": terminal.size / seconds,
    }
    view.close()
    return result


def _with_ticks(events: Sequence[Recorded]) -> Iterator[tuple[float, Event | Activity | None]]:
    next_unix_s = events[0].at_unix_s
    for at_unix_s, event in events:
        while next_unix_s <= at_unix_s:
            yield next_unix_s, None
            next_unix_s += POLL_S
        yield at_unix_s, event


def still(events: Sequence[Recorded], at_s: float) -> Group:
    """Return the picture of one moment of the call."""
    board = Board()
    for now, event in _with_ticks(events):
        if event is not None:
            board.see(event, now)
        elif any(s.position(now) >= to_samples(at_s) for s in board.streams.values()):
            return Group(*picture(board, WIDTH - 1, HEIGHT - 1, now))
    raise ProcessError("the demo call", f"ended before {at_s:g} s")


def svg(drawn: Group) -> str:
    """Return a picture as SVG without external files."""
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
    """Measure, or save a picture."""
    made = parser("view", __doc__)
    made.add_argument("--streams", type=int, nargs="+", default=[2, 4, 16, 64])
    made.add_argument("--svg", type=Path, metavar="FILE", help="save a picture of the demo call")
    made.add_argument("--at", type=float, default=38.5, help="second of the call (%(default)s)")
    options = made.parse_args(argv)
    events = listen()
    if options.svg:
        try:
            options.svg.write_text(svg(still(events, options.at)), "utf-8")
        except OSError as error:
            raise SinkError(str(options.svg), f"cannot be written: {error.strerror}") from error
        return 0
    costs = [measure(events, count) for count in options.streams]
    columns: dict[str, Column] = {
        "streams": "{0[streams]}",
        "of one core": "{0[core_share]:.1%}",
        "events/s": "{0[events_per_s]:.0f}",
        "pictures/s": "{0[pictures_per_s]:.1f}",
        "written/s": lambda cost: f"{cost['bytes_per_s'] / 1000:.1f} kB",
    }
    drawn = table_of("The live view, 120 x 40", columns, costs)
    publish(Report("view", settings_of(options), {"costs": costs}), [drawn], options.json)
    return 0
