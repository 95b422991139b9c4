"""A terminal, or what stands in its place: lines that stay, and below them a part that changes."""

from __future__ import annotations

from collections import deque
from typing import Final

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live
from rich.text import Text

from abhinaya.stream.errors import EXIT_OK, SinkError

REPEATED: Final = 6
"""Lines that are printed again when the terminal has another size."""


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


class Screen:
    """Prints on a console, and translates its faults.

    Args:
        console: where to.

    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._recent: deque[RenderableType] = deque(maxlen=REPEATED)
        """Lines that were printed last."""
        self._size = console.size
        self._closed = False

    @property
    def can_change(self) -> bool:
        """Whether what is written can be taken back: on a terminal that knows how."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    @property
    def width(self) -> int:
        """Cells in a line, now."""
        return self._console.width

    @property
    def height(self) -> int:
        """Lines, now."""
        return self._console.height

    @property
    def closed(self) -> bool:
        """Whether nothing can be printed any more."""
        return self._closed

    def print(self, *parts: RenderableType) -> None:
        """Print what stays, above the part that changes.

        Raises:
            SinkError: the console cannot be written.
            SystemExit: the reader of a pipe has enough.

        """
        try:
            self._fit()
            for part in parts:
                # Neither markup nor wrapping: a stream may be called [red], a pipe has no width.
                self._console.print(
                    part, markup=False, highlight=False, emoji=False, soft_wrap=_is_line(part)
                )
                if _is_line(part):
                    self._recent.append(part)
            self._console.file.flush()
        except OSError as error:
            raise self._broken(error) from error

    def below(self, part: RenderableType) -> None:
        """Replace the part that changes; where nothing can be taken back there is none.

        Args:
            part: what to show, no taller than the terminal.

        Raises:
            SinkError: the console cannot be written.
            SystemExit: the reader of a pipe has enough.

        """
        if not self.can_change or self._closed:
            return
        try:
            self._fit()
            if self._live is None:
                self._live = Live(
                    part,
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                    vertical_overflow="crop",
                )
                self._live.start(refresh=True)
            else:
                self._live.update(part, refresh=True)
        except OSError as error:
            raise self._broken(error) from error

    def clear(self) -> None:
        """Take the part that changes away, and give the cursor back.

        Raises:
            SinkError: the console cannot be written.

        """
        live, self._live = self._live, None
        if live is None:
            return
        failed = self._closed
        try:
            self._fit()
            live.stop()
        except OSError as error:
            if not failed:  # else it has been told
                raise self._broken(error) from error

    def _fit(self) -> None:
        """Begin anew on an empty screen if the terminal has another size.

        rich goes up as many lines as it has drawn. A terminal that became narrower may have folded
        them into more, and one that became taller may have brought back what had left it.
        """
        if self._console.size == self._size:
            return
        self._size = self._console.size
        if self._live is None:
            return
        self._console.control(Control.clear(), Control.home())
        self._live.update("", refresh=True)
        for line in self._recent:
            self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _broken(self, error: OSError) -> SinkError | SystemExit:
        self._closed = True
        if isinstance(error, BrokenPipeError):
            return SystemExit(EXIT_OK)
        return SinkError(
            "standard output",
            f"cannot be written: {error.strerror or error}",
            "make room, or write elsewhere",
        )


def _is_line(part: RenderableType) -> bool:
    return isinstance(part, str | Text)
