"""Lines for people: coloured, with a status line below, on a terminal; else plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.text import Text

from abhinaya.stream.run.supervisor import Stage
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks import render
from abhinaya.stream.sinks.journal import Journal
from abhinaya.stream.sinks.rows import clean
from abhinaya.stream.sinks.screen import Screen
from abhinaya.stream.wire.messages import Event, Gap, Status, StreamStarted, Verdict

PROGRESS: Final = {
    Stage.STARTING: "starting",
    Stage.WAITING: "starting again",
    Stage.GIVEN_UP: "given up",
}


class Lines:
    """Shows events, and what the supervisor sees, on a console."""

    def __init__(self, console: Console) -> None:
        self.screen = Screen(console)
        self.journal = Journal(self.screen)
        self._shown = ""
        self._loading = False
        self._closed = False

    def write(self, event: Event, now_unix_s: float) -> None:
        """Show one event.

        Raises:
            SinkError: the console cannot be written.
            SystemExit: the reader of a pipe has enough.

        """
        if isinstance(event, StreamStarted):
            self._loading = False
        self.journal.write(event, now_unix_s)
        match event:
            case Status():
                self._status(event)
            case Verdict() if self.screen.can_change:
                self.screen.print(*render.verdict_lines(event, now_unix_s, self.screen.width))
            case Verdict():
                self.screen.print(render.plain_verdict(event, now_unix_s))
            case Gap() if self.screen.can_change:
                self.screen.print(*render.gap_lines(event, self.screen.width))
            case Gap():
                self.screen.print(render.plain_gap(event))
            case _:
                pass

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
        self.journal.warn(message)

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Show an alert.

        Raises:
            SinkError: the console cannot be written.
            SystemExit: the reader of a pipe has enough.

        """
        self.journal.alert(alert)

    def close(self) -> None:
        """Take the status line away and show the summary."""
        if self._closed:
            return
        self._closed = True
        self.screen.clear()
        if not self.screen.closed:
            self.journal.close()

    # --- what is below the lines ------------------------------------------------------------------

    def _status(self, event: Status) -> None:
        if self._loading:  # the hub beats long before there is anything to do
            return
        busy = sum(node.held for node in event.nodes)
        parts = [
            render.count(len(event.nodes), "node"),
            f"{busy} at work",
            f"{event.waiting} waiting",
            f"{event.open_segments} open",
            render.count(self.journal.summary.gaps, "gap"),
        ]
        refused = sum(event.refused.values())
        if refused:
            parts.append(f"{render.count(refused, 'message')} refused")
        self._below(" · ".join(parts))

    def _below(self, text: str) -> None:
        """Replace the status line; where there is no terminal there is none."""
        if not self.screen.can_change or self._closed or text == self._shown:
            return
        self._shown = text
        line = Text(f"  {clean(text)}", style=render.QUIET, no_wrap=True)
        line.truncate(max(1, self.screen.width - 1), overflow="ellipsis")
        self.screen.below(line)
