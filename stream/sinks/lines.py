"""Shows events as lines of text: on a terminal in colour with a status line, else plain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.text import Text

from abhinaya.models.text import clean
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks import render
from abhinaya.stream.sinks.palette import ALERT, QUIET
from abhinaya.stream.sinks.screen import Screen
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import (
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

PROGRESS: Final = {
    Stage.STARTING: "starting",
    Stage.WAITING: "starting again",
    Stage.GIVEN_UP: "given up",
}


class Lines:
    """Shows events and the state of the processes on a console.

    Every method raises SinkError if the console cannot be written, and SystemExit if the reader of
    a pipe has closed it.
    """

    def __init__(self, console: Console) -> None:
        self.screen = Screen(console)
        self._summary = Summary()
        self._introduced: set[tuple[str, str, str]] = set()
        self._ready: set[str] = set()
        self._shown = ""
        self._loading = False
        self._closed = False

    def write(self, event: Event, now_unix_s: float) -> None:
        """Show one event."""
        if isinstance(event, StreamStarted):
            self._loading = False
        self.note_event(event, now_unix_s)
        rich, width = self.screen.can_change, self.screen.width
        match event:
            case Status():
                self._status(event)
            case Verdict() if rich:
                self.screen.print(*render.verdict_lines(event, now_unix_s, width))
            case Verdict():
                self.screen.print(render.plain_verdict(event, now_unix_s))
            case Gap() if rich:
                self.screen.print(*render.gap_lines(event, width))
            case Gap():
                self.screen.print(render.plain_gap(event))
            case _:
                pass

    def note_event(self, event: Event, now_unix_s: float) -> None:
        """Count an event, and show it unless it is a verdict, a gap or a status."""
        self._summary.add(event, now_unix_s)
        match event:
            case StreamStarted(info=info) if info.front:  # else no process has opened it
                what = "live" if info.live else "file"
                self._note(f"{info.stream}: listening to {info.source} ({what})")
            case StreamEnded(reason=""):
                at = f"{event.stream}: ended at {render.clock(event.position)}"
                if note := self._summary.streams[event.stream].sound_note:
                    self._warn(f"{at}; {note}")
                else:
                    self._note(at)
            case StreamEnded() if why := self._summary.streams[event.stream].not_processed:
                self._warn(f"{event.stream}: {why}")
            case StreamEnded():
                at = render.clock(self._summary.streams[event.stream].heard)
                self._warn(f"{event.stream}: broken off at {at}: {event.reason}")
            case NodeUp():
                self._introduce(event)
            case NodeDown():
                self._ready.discard(event.node)
                self._warn(f"{event.node} is down: {event.reason}")
            case FrontDown():
                self._warn(f"{event.front} is down: {event.reason}")
            case Remark():
                self._note(f"{event.source}: {event.text}")
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
        """Show a warning, for example that a process died and is restarted."""
        self._warn(message)

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Show an alert."""
        text = f": “{alert.text}”" if alert.text else ""
        self._warn(f"{render.alert_sentence(alert)}{text}")

    def close(self) -> None:
        """Remove the status line and print the summary."""
        if self._closed:
            return
        self._closed = True
        self.screen.clear()
        if self.screen.closed or not self._summary.streams:
            return
        if self.screen.can_change:
            self.screen.print("", render.summary_table(self._summary, self.screen.width))
            for detail in render.summary_details(self._summary):
                self._note(detail)
        else:
            self.screen.print(*render.plain_summary(self._summary))

    def _note(self, text: str) -> None:
        self._print_note(text, "·", "#", QUIET)

    def _warn(self, text: str) -> None:
        self._print_note(text, "!", "!", ALERT)

    def _print_note(self, text: str, mark: str, plain_mark: str, style: str) -> None:
        if self.screen.can_change:
            self.screen.print(*render.wrap_note(text, self.screen.width, style, mark))
        else:
            self.screen.print(f"{plain_mark} {clean(text)}")

    def _introduce(self, node: NodeUp) -> None:
        who = (node.service, node.model, node.version)
        known, again = node.node in self._ready, who in self._introduced
        self._ready.add(node.node)
        if again:
            if not known:  # a node with several services is shown once
                self._note(f"{node.node} is ready")
            return
        self._introduced.add(who)
        limit = ", no commercial use" if node.noncommercial else ""
        self._note(f"{node.service}: {node.model} {node.version} ({node.licence}{limit})")

    def _status(self, event: Status) -> None:
        if self._loading:  # the hub sends its status before any stream has started
            return
        parts = [
            render.count(len(event.nodes), "node"),
            f"{sum(node.held for node in event.nodes)} at work",
            f"{event.waiting} waiting",
            f"{event.open_segments} open",
            render.count(self._summary.gaps, "gap"),
        ]
        if event.left_out:
            parts.append(f"overloaded: {', '.join(event.left_out)} left out")
        if refused := sum(event.refused.values()):
            parts.append(f"{render.count(refused, 'message')} refused")
        self._below(" · ".join(parts))

    def _below(self, text: str) -> None:
        """Replace the status line; only a terminal has one."""
        if not self.screen.can_change or self._closed or text == self._shown:
            return
        self._shown = text
        line = Text(f"  {clean(text)}", QUIET, no_wrap=True)
        line.truncate(max(1, self.screen.width - 1), overflow="ellipsis")
        self.screen.below(line)
