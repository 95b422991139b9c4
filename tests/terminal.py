"""A terminal to look at: what a program has written is what stands on a screen."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte
from rich.console import Console


class Screen:
    """An emulated terminal with the lines that have left it at the top.

    Args:
        width: columns.
        height: rows.

    """

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self._screen = pyte.HistoryScreen(width, height, history=1000)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self.writes = 0

    def feed(self, data: bytes) -> None:
        self.raw += data
        self.writes += 1
        self._stream.feed(data)

    def resize(self, width: int, height: int) -> None:
        self._screen.resize(height, width)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """What is to be seen."""
        return "\n".join(self.lines).rstrip()

    @property
    def past(self) -> str:
        """What has left the screen at its top."""
        rows = self._screen.history.top
        width = self._screen.columns
        return "\n".join(
            "".join(row[column].data for column in range(width)).rstrip() for row in rows
        )

    @property
    def cursor_hidden(self) -> bool:
        return bool(self._screen.cursor.hidden)

    def colour_at(self, text: str) -> tuple[str, bool]:
        """Give colour and reverse video of the first cell of a text on the screen."""
        for y, line in enumerate(self._screen.display):
            if (x := line.find(text)) >= 0:
                cell = self._screen.buffer[y][x]
                return str(cell.fg), bool(cell.reverse)
        raise AssertionError(f"{text!r} is not on the screen:\n{self.text}")


class _Wire(io.StringIO):
    """Passes what a console writes on to a screen, as a terminal would get it."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._to = screen

    def write(self, text: str, /) -> int:
        self._to.feed(text.replace("\n", "\r\n").encode())
        return len(text)


def console_on(screen: Screen, width: int = 80, height: int = 24) -> Console:
    return Console(
        file=_Wire(screen),
        force_terminal=True,
        color_system="truecolor",
        width=width,
        height=height,
        _environ={},
    )


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Program:
    """A program on a pseudo-terminal.

    Args:
        arguments: the command line.
        environment: added to that of the test.
        width: columns.
        height: rows.

    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        width: int = 80,
        height: int = 24,
    ) -> None:
        self.screen = Screen(width, height)
        self._ours, theirs = pty.openpty()
        self.resize(width, height)
        blank = {"COLUMNS", "LINES", "NO_COLOR", "COLORTERM"}
        inherited = {name: value for name, value in os.environ.items() if name not in blank}
        self.process = subprocess.Popen(
            arguments,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=inherited | {"TERM": "xterm-256color"} | environment,
            start_new_session=True,
            # as in a shell, the terminal is the program's own: without that, Ctrl-C is but a key
            preexec_fn=_take_terminal,
        )
        self.modes = termios.tcgetattr(theirs)
        self._theirs = theirs

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.screen.resize(width, height)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def read_until(self, seen: Callable[[Screen], bool], patience_s: float = 90.0) -> None:
        """Read what is written until something is to be seen.

        Raises:
            AssertionError: it is not, in time.

        """
        deadline = time.monotonic() + patience_s
        while not seen(self.screen):
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"not seen; the screen:\n{self.screen.past}\n{self.screen.text}"
            if select.select([self._ours], [], [], min(0.2, left_s))[0]:
                self.screen.feed(os.read(self._ours, 65536))
            elif self.process.poll() is not None:
                assert seen(self.screen), f"it has ended; the screen:\n{self.screen.text}"

    def finish(self, patience_s: float = 90.0) -> int:
        """Read to the end; give the exit code."""
        self.read_until(lambda _: self.process.poll() is not None, patience_s)
        while select.select([self._ours], [], [], 0.1)[0]:
            self.screen.feed(os.read(self._ours, 65536))
        return self.process.wait()

    @property
    def modes_are_kept(self) -> bool:
        """Whether the terminal is as sane as before."""
        return termios.tcgetattr(self._theirs) == self.modes

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)
