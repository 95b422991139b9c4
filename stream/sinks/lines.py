"""Lines for people: coloured, with a status line below, on a terminal; else plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from abhinaya.stream.clock import to_seconds
from abhinaya.stream.errors import EXIT_OK, SinkError
from abhinaya.stream.messages import (
    Event,
    FrontDown,
    Gap,
    NodeDown,
    NodeUp,
    Remark,
    Status,
    StreamEnded,
    StreamStarted,
    Verdict,
)
from abhinaya.stream.rules import Alert
from abhinaya.stream.sinks import render
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.supervisor import Stage

PROGRESS: Final = {
    Stage.STARTING: "starting",
    Stage.WAITING: "starting again",
    Stage.GIVEN_UP: "given up",
}


class Terminal(Console):
    """A console whose reader may leave: `abhinaya-stream ... | head` is no failure."""

    def on_broken_pipe(self) -> None:
        """Stop, without a word.

        Raises:
            SystemExit: always.

        """
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise SystemExit(EXIT_OK) from None


class Lines:
    """Shows events, and what the supervisor sees, on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._shown = ""
        self._loading = False
        self._summary = Summary()
        self._introduced: set[tuple[str, str, str]] = set()
        self._closed = False

    def write(self, event: Event, now_unix_s: float) -> None:
        """Show one event.

        Raises:
            SinkError: the console cannot be written.
            SystemExit: the reader of a pipe has enough.

        """
        self._summary.add(event, now_unix_s)
        match event:
            case Status():
                self._status(event)
            case Verdict() if self._console.is_terminal:
                self._print(*render.verdict_lines(event, now_unix_s, self._console.width))
            case Verdict():
                self._print(render.plain_verdict(event, now_unix_s))
            case Gap() if self._console.is_terminal:
                self._print(*render.gap_lines(event, self._console.width))
            case Gap():
                self._print(render.plain_gap(event))
            case StreamStarted(info=info):
                self._loading = False
                what = "live" if info.live else "file"
                self._note(f"{info.stream}: listening to {info.source} ({what})")
            case StreamEnded(reason=""):
                self._note(f"{event.stream}: ended at {render.clock(event.position)}")
            case StreamEnded():
                at = render.clock(event.position)
                self._warn(f"{event.stream}: broken off at {at}: {event.reason}")
            case _:
                self._of_process(event)

    def _of_process(self, event: NodeUp | NodeDown | FrontDown | Remark) -> None:
        match event:
            case NodeUp():
                self._introduce(event)
            case NodeDown():
                self._warn(f"{event.node} is down: {event.reason}")
            case FrontDown():
                self._warn(f"{event.front} is down: {event.reason}")
            case Remark():
                self._note(f"{event.source}: {event.text}")

    def loading(self, stages: Mapping[str, Stage]) -> None:
        """Show which processes are not ready yet; on a terminal only."""
        waiting = [
            f"{name} {PROGRESS[stage]}" for name, stage in stages.items() if stage in PROGRESS
        ]
        ready = sum(stage is Stage.READY for stage in stages.values())
        if waiting:
            self._loading = True
            self._below(f"loading: {ready} of {len(stages)} ready · {', '.join(waiting)}")

    def trouble(self, message: str) -> None:
        """Show that a process died, and what was done about it."""
        self._warn(message)

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Show an alert.

        Raises:
            SinkError: the console cannot be written.
            SystemExit: the reader of a pipe has enough.

        """
        length = f"{_count(alert.segments, 'segment')}, {to_seconds(alert.speech):.1f} s"
        sure = f", {alert.confidence:.0%}" if alert.confidence is not None else ""
        text = f": “{alert.text}”" if alert.text else ""
        self._warn(
            f"alert {alert.rule}: {alert.stream} {alert.label} at {render.clock(alert.end)}"
            f" ({length}{sure}){text}"
        )

    def close(self) -> None:
        """Take the status line away and show the summary."""
        if self._closed:
            return
        self._closed = True
        if self._live is not None:
            self._live.stop()
            self._live = None
        if not self._summary.streams:
            return
        if self._console.is_terminal:
            table = render.summary_table(self._summary, self._console.width)
            self._print("", table)
            for detail in render.summary_details(self._summary):
                self._note(detail)
        else:
            self._print(*render.plain_summary(self._summary))

    # --- what is below the lines ------------------------------------------------------------------

    def _status(self, event: Status) -> None:
        if self._loading:  # the hub beats long before there is anything to do
            return
        busy = sum(node.held for node in event.nodes)
        parts = [
            _count(len(event.nodes), "node"),
            f"{busy} at work",
            f"{event.waiting} waiting",
            f"{event.open_segments} open",
            _count(self._summary.gaps, "gap"),
        ]
        refused = sum(event.refused.values())
        if refused:
            parts.append(f"{_count(refused, 'message')} refused")
        self._below(" · ".join(parts))

    def _below(self, text: str) -> None:
        """Replace the status line; where there is no terminal there is none."""
        if not self._console.is_terminal or self._closed or text == self._shown:
            return
        self._shown = text
        line = Text(f"  {render.clean(text)}", style=render.QUIET, no_wrap=True)
        line.truncate(max(1, self._console.width - 1), overflow="ellipsis")
        if self._live is None:
            self._live = Live(
                line,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)
        else:
            self._live.update(line, refresh=True)

    # --- lines that stay --------------------------------------------------------------------------

    def _introduce(self, node: NodeUp) -> None:
        who = (node.service, node.model, node.version)
        if who in self._introduced:
            self._note(f"{node.node} is ready")
            return
        self._introduced.add(who)
        limit = ", no commercial use" if node.noncommercial else ""
        self._note(f"{node.service}: {node.model} {node.version} ({node.licence}{limit})")

    def _note(self, text: str) -> None:
        if self._console.is_terminal:
            self._print(*render.wrap_note(text, self._console.width))
        else:
            self._print(f"# {render.clean(text)}")

    def _warn(self, text: str) -> None:
        if self._console.is_terminal:
            self._print(*render.wrap_note(text, self._console.width, render.ALERT, "!"))
        else:
            self._print(f"! {render.clean(text)}")

    def _print(self, *parts: RenderableType) -> None:
        try:
            for part in parts:
                # Neither markup nor wrapping: a stream may be called [red], a pipe has no width.
                self._console.print(
                    part, markup=False, highlight=False, emoji=False, soft_wrap=_is_line(part)
                )
            self._console.file.flush()
        except BrokenPipeError:
            raise SystemExit(EXIT_OK) from None
        except OSError as error:
            self._closed = True
            raise SinkError(
                "standard output",
                f"cannot be written: {error.strerror or error}",
                "make room, or write elsewhere",
            ) from error


def _is_line(part: RenderableType) -> bool:
    return isinstance(part, str | Text)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
