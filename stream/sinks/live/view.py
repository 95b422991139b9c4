"""The live view as a sink: it shows a picture as soon as one of the streams is live.

Messages are printed as lines above the picture. The picture is redrawn only if it has changed, and
at most 8 times a second.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

from rich.console import Console, Group
from rich.text import Text

from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.sinks.live.picture import picture
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Activity, Event, StreamStarted, Verdict

MIN_INTERVAL_S: Final = 1 / 8
"""Minimum seconds between two pictures."""
MAX_INTERVAL_S: Final = 1 / 2
"""Seconds between two pictures without events: the times in them advance."""
ABOVE: Final = 4
"""Lines above the picture that are kept free for messages; fewer on a low terminal."""


class View:
    """Shows events as lines until a live stream begins, and as a picture from then on.

    Every method raises SinkError if the terminal cannot be written.

    Args:
        console: a terminal with cursor control.
        always: whether to show the picture for streams that are not live, too.

    """

    def __init__(self, console: Console, always: bool = False) -> None:
        self._lines = Lines(console)
        self._screen = self._lines.screen
        self._board = Board()
        self._always = always
        self._viewing = False
        self._restore_echo: Callable[[], None] = _nothing
        self._changed = False
        self._drawn_unix_s = 0.0
        self._size = (0, 0)
        self._shown: list[Text] = []
        self._closed = False

    def write(self, event: Event, now_unix_s: float) -> None:
        """Add one event, and redraw the picture if it is due."""
        self._board.see(event, now_unix_s)
        self._changed = True
        if self._viewing:
            self._lines.note_event(event, now_unix_s)
        else:
            self._lines.write(event, now_unix_s)
            if isinstance(event, StreamStarted) and (self._always or event.info.live):
                self._viewing, self._restore_echo = True, silence_keyboard()
        self.tick(now_unix_s)

    def provisional(self, event: Verdict | Activity, now_unix_s: float) -> None:
        """Add a provisional event; it is shown only in the picture."""
        self._board.see(event, now_unix_s)
        self._changed = True
        self.tick(now_unix_s)

    def tick(self, now_unix_s: float) -> None:
        """Redraw the picture if it is due."""
        if not self._viewing or self._closed:
            return
        since_s = abs(now_unix_s - self._drawn_unix_s)  # a clock may be set back
        size = (self._screen.width, self._screen.height)
        due_s = MIN_INTERVAL_S if self._changed or size != self._size else MAX_INTERVAL_S
        if since_s >= due_s:
            self._drawn_unix_s, self._changed = now_unix_s, False
            self._draw(*size, now_unix_s)

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Show an alert."""
        self._board.add_alert(alert, now_unix_s)
        self._changed = True
        self._lines.alert(alert, now_unix_s)

    def loading(self, stages: Mapping[str, Stage]) -> None:
        """Show which processes are not ready yet."""
        if not self._viewing:
            self._lines.loading(stages)

    def trouble(self, message: str) -> None:
        """Show a warning, for example that a process died and is restarted."""
        self._lines.trouble(message)

    def close(self) -> None:
        """Remove the picture and print the summary."""
        self._closed = True
        restore, self._restore_echo = self._restore_echo, _nothing
        restore()
        self._lines.close()

    def _draw(self, width: int, height: int, now_unix_s: float) -> None:
        # the last cell stays free: full lines would break when the terminal is made narrower
        rows = height - min(ABOVE, height // 6) - 1
        drawn = picture(self._board, width - 1, rows, now_unix_s)
        if drawn == self._shown and (width, height) == self._size:
            return
        self._shown, self._size = drawn, (width, height)
        self._screen.below(Group(*drawn))


def silence_keyboard() -> Callable[[], None]:
    """Stop the terminal from showing typed keys; return a function that restores it.

    Ctrl-C still works. Nothing changes if standard input is not a terminal, or if it belongs to
    another job.
    """
    try:
        import termios  # missing on some systems

        keyboard = sys.stdin.fileno()
        # the system would stop a background job that changes the terminal
        if not os.isatty(keyboard) or os.tcgetpgrp(keyboard) != os.getpgrp():
            return _nothing
        before = termios.tcgetattr(keyboard)
        quiet = termios.tcgetattr(keyboard)
        quiet[3] &= ~termios.ECHO
        termios.tcsetattr(keyboard, termios.TCSADRAIN, quiet)
    except (ImportError, AttributeError, OSError, ValueError):
        return _nothing
    except termios.error:
        return _nothing

    def undo() -> None:
        with contextlib.suppress(termios.error, OSError, ValueError):
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)

    return undo


def _nothing() -> None:
    pass
