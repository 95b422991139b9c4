"""A picture of the live view at one moment of the demo call, as SVG: real processes, real words."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from abhinaya.bench.demo import CALL
from abhinaya.stream import config as configuration
from abhinaya.stream.clock import to_samples
from abhinaya.stream.errors import ProcessError, SinkError
from abhinaya.stream.messages import Activity, Event, Verdict
from abhinaya.stream.plan import Input, Plan
from abhinaya.stream.run import Run, run_directory
from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.sinks.live.picture import picture
from abhinaya.stream.sinks.live.row import Picture
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.supervisor import Stage

WIDTH: Final = 80
HEIGHT: Final = 24
TITLE: Final = "abhinaya-stream call.opus --channels split --realtime"

THEME: Final = TerminalTheme(
    (22, 24, 29),
    (214, 216, 220),
    [(22, 24, 29)] * 8,
    [(214, 216, 220)] * 8,
)
"""Of the SVG's background and text; the view itself names neither."""


class _Camera:
    """A sink that sees everything and keeps one picture."""

    def __init__(self, at_s: float) -> None:
        self._at = to_samples(at_s)
        self._board = Board()
        self.kept: Picture | None = None

    def write(self, event: Event, now_unix_s: float) -> None:
        self._board.see(event, now_unix_s)

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        self._board.see(event, now_unix_s)

    def tick(self, now_unix_s: float) -> None:
        streams = self._board.streams.values()
        if self.kept is None and any(s.position(now_unix_s) >= self._at for s in streams):
            self.kept = picture(self._board, WIDTH - 1, HEIGHT - 1, now_unix_s)

    def close(self) -> None:
        pass


class _Quiet:
    """Says on standard error what went wrong."""

    def loading(self, stages: Mapping[str, Stage]) -> None:
        pass

    def trouble(self, message: str) -> None:
        print(message, file=sys.stderr)


def still(path: Path, at_s: float) -> None:
    """Listen to the demo call and write the picture of second `at_s` of it.

    Raises:
        ProcessError: the run did not come so far.
        SinkError: the file cannot be written.

    """
    channels = InputConfig(
        str(CALL), channels="split", channel_names=("agent", "customer"), realtime=True
    )
    plan = Plan(configuration.load(configuration.EMBEDDED), (Input("call", channels),), None, True)
    camera = _Camera(at_s)
    with run_directory() as directory:
        code = Run(plan, directory, [camera], _Quiet()).run()
    if code or camera.kept is None:
        raise ProcessError("the demo call", f"ended with exit code {code} before {at_s:g} s")
    try:
        path.write_text(svg(camera.kept), "utf-8")
    except OSError as error:
        raise SinkError(str(path), f"cannot be written: {error.strerror}") from error


def svg(drawn: Picture) -> str:
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
