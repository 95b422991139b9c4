"""A terminal, or what stands in its place: lines that stay, and below them a part that changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from rich.console import COLOR_SYSTEMS, Console, RenderableType
from rich.control import Control
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from abhinaya.stream.errors import EXIT_OK, SinkError
from abhinaya.stream.sinks.live.row import Picture

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
        self._drawn: Picture | None = None
        """What is below and can be changed row by row; None if all of it must be drawn anew."""
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
            if self._live is not None and self._drawn is not None:
                # rich draws what it drew last below the lines: it must not be an old picture
                self._live.refresh()
                self._drawn = None
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

        Of a picture with as many rows as the one before only those are written that differ.

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
                patched = self._patch(part)
                self._live.update(part, refresh=not patched)
            self._drawn = part if isinstance(part, Picture) else None
        except OSError as error:
            raise self._broken(error) from error

    def clear(self) -> None:
        """Take the part that changes away, and give the cursor back.

        Raises:
            SinkError: the console cannot be written.

        """
        live, self._live, self._drawn = self._live, None, None
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
        self._size, self._drawn = self._console.size, None
        if self._live is None:
            return
        self._console.control(Control.clear(), Control.home())
        self._live.update("", refresh=True)
        for line in self._recent:
            self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _patch(self, part: RenderableType) -> bool:
        """Write the rows that differ from what is drawn; give whether that was possible."""
        before = self._drawn
        if not isinstance(part, Picture) or before is None or len(part.rows) != len(before.rows):
            return False
        text = ""
        for i, (old, new) in enumerate(zip(before.rows, part.rows, strict=True)):
            if old != new:
                # the cursor stands in the last row, and returns to the beginning of it
                up = len(part.rows) - 1 - i
                there, back = (f"\x1b[{up}A", f"\x1b[{up}B") if up else ("", "")
                text += f"{there}\r{self._ansi(new)}\x1b[K{back}\r"
        if text:
            self._console.file.write(text)
            self._console.file.flush()
        return True

    def _ansi(self, row: Iterable[Segment]) -> str:
        colours = COLOR_SYSTEMS.get(self._console.color_system or "")
        if self._console.no_color:
            row = Segment.remove_color(row)
        return "".join(
            part.style.render(part.text, color_system=colours) if part.style else part.text
            for part in row
        )

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
