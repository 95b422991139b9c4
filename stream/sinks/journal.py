"""What stays on the screen besides labels: processes that come and go, remarks, alerts, the end."""

from __future__ import annotations

from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks import render
from abhinaya.stream.sinks.rows import clean
from abhinaya.stream.sinks.screen import Screen
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.wire.messages import (
    Event,
    FrontDown,
    NodeDown,
    NodeUp,
    Remark,
    StreamEnded,
    StreamStarted,
)


class Journal:
    """Writes notes and warnings, and the summary at the end.

    Args:
        screen: where to.

    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.summary = Summary()
        self._introduced: set[tuple[str, str, str]] = set()
        self._ready: set[str] = set()

    def write(self, event: Event, now_unix_s: float) -> None:
        """Count an event, and tell of it if it is no label, gap or status.

        Raises:
            SinkError: the screen cannot be written.
            SystemExit: the reader of a pipe has enough.

        """
        self.summary.add(event, now_unix_s)
        match event:
            case StreamStarted(info=info):
                what = "live" if info.live else "file"
                self.note(f"{info.stream}: listening to {info.source} ({what})")
            case StreamEnded(reason=""):
                self.note(f"{event.stream}: ended at {render.clock(event.position)}")
            case StreamEnded():
                at = render.clock(event.position)
                self.warn(f"{event.stream}: broken off at {at}: {event.reason}")
            case NodeUp():
                self._introduce(event)
            case NodeDown():
                self._ready.discard(event.node)
                self.warn(f"{event.node} is down: {event.reason}")
            case FrontDown():
                self.warn(f"{event.front} is down: {event.reason}")
            case Remark():
                self.note(f"{event.source}: {event.text}")
            case _:
                pass

    def alert(self, alert: Alert) -> None:
        """Tell of an alert.

        Raises:
            SinkError: the screen cannot be written.
            SystemExit: the reader of a pipe has enough.

        """
        text = f": “{alert.text}”" if alert.text else ""
        self.warn(f"{render.told(alert)}{text}")

    def close(self) -> None:
        """Show the summary."""
        if not self.summary.streams:
            return
        if self._screen.can_change:
            self._screen.print("", render.summary_table(self.summary, self._screen.width))
            for detail in render.summary_details(self.summary):
                self.note(detail)
        else:
            self._screen.print(*render.plain_summary(self.summary))

    def note(self, text: str) -> None:
        """Tell something that is as it should be."""
        if self._screen.can_change:
            self._screen.print(*render.wrap_note(text, self._screen.width))
        else:
            self._screen.print(f"# {clean(text)}")

    def warn(self, text: str) -> None:
        """Tell something that people should look at."""
        if self._screen.can_change:
            self._screen.print(*render.wrap_note(text, self._screen.width, render.ALERT, "!"))
        else:
            self._screen.print(f"! {clean(text)}")

    def _introduce(self, node: NodeUp) -> None:
        who = (node.service, node.model, node.version)
        known, again = node.node in self._ready, who in self._introduced
        self._ready.add(node.node)
        if again:
            if not known:  # one that gives several services is told of once
                self.note(f"{node.node} is ready")
            return
        self._introduced.add(who)
        limit = ", no commercial use" if node.noncommercial else ""
        self.note(f"{node.service}: {node.model} {node.version} ({node.licence}{limit})")
