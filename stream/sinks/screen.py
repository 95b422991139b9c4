"""A terminal, or what stands in its place: lines that stay, and below them a part that changes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Final

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live
from rich.text import Text

from abhinaya.stream.errors import EXIT_OK, SinkError

REPEATED: Final = 6
"""Lines that are printed again when the terminal has another size."""


class Terminal(Console):
    """A console whose reader may leave: `abhinaya-stream ... | head` is not a failure."""

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

    Every method raises SinkError if the console cannot be written, and SystemExit if the reader of
    a pipe has gone.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._recent: deque[str | Text] = deque(maxlen=REPEATED)
        """Lines that were printed last."""
        self._size = console.size
        self.closed = False
        """Whether nothing can be printed any more."""

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

    def print(self, *parts: RenderableType) -> None:
        """Print what stays, above the part that changes."""
        with self._guarded():
            self._fit()
            for part in parts:
                self._print(part)
                if isinstance(part, str | Text):
                    self._recent.append(part)
            self._console.file.flush()

    def below(self, part: RenderableType) -> None:
        """Replace the part that changes; a pipe has none.

        Args:
            part: what to show, no taller than the terminal.

        """
        if not self.can_change or self.closed:
            return
        with self._guarded():
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

    def clear(self) -> None:
        """Take the part that changes away, and give the cursor back."""
        live, self._live = self._live, None
        if live is None:
            return
        if self.closed:  # the fault was reported; this frees the console
            with contextlib.suppress(OSError):
                live.stop()
            return
        with self._guarded():
            self._fit()
            live.stop()

    def _print(self, part: RenderableType) -> None:
        # Neither markup nor wrapping: a stream may be called [red], a pipe has no width.
        line = isinstance(part, str | Text)
        self._console.print(part, markup=False, highlight=False, emoji=False, soft_wrap=line)

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
            self._print(line)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.closed = True
            raise SystemExit(EXIT_OK) from None
        except OSError as error:
            self.closed = True
            reason = f"cannot be written: {error.strerror or error}"
            raise SinkError("standard output", reason, "make room, or write elsewhere") from error
