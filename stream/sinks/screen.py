"""Prints lines on a terminal or a pipe; on a terminal, a part below the lines is redrawn."""

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
"""Number of latest lines that are printed again after the terminal was resized."""


class Terminal(Console):
    """A console for which a closed pipe is not a failure, as in `abhinaya-stream ... | head`."""

    def on_broken_pipe(self) -> None:
        """Exit with code 0 and without a message."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise SystemExit(EXIT_OK) from None


class Screen:
    """Prints on a console.

    Every method raises SinkError if the console cannot be written, and SystemExit if the reader of
    a pipe has closed it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._recent: deque[str | Text] = deque(maxlen=REPEATED)
        """The latest printed lines."""
        self._size = console.size
        self.closed = False
        """Whether printing has failed; then nothing more can be printed."""

    @property
    def can_change(self) -> bool:
        """Whether printed text can be redrawn: a terminal with cursor control."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    @property
    def width(self) -> int:
        """Current width, in cells."""
        return self._console.width

    @property
    def height(self) -> int:
        """Current height, in lines."""
        return self._console.height

    def print(self, *parts: RenderableType) -> None:
        """Print lines above the redrawn part."""
        with self._guarded():
            self._fit()
            for part in parts:
                self._print(part)
                if isinstance(part, str | Text):
                    self._recent.append(part)
            self._console.file.flush()

    def below(self, part: RenderableType) -> None:
        """Redraw the part below the lines; `part` must fit the terminal. A pipe shows nothing."""
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
        """Remove the redrawn part, and show the cursor again."""
        live, self._live = self._live, None
        if live is None:
            return
        if self.closed:  # the error was reported before; this only releases the console
            with contextlib.suppress(OSError):
                live.stop()
            return
        with self._guarded():
            self._fit()
            live.stop()

    def _print(self, part: RenderableType) -> None:
        # no markup, since a stream may be called [red]; no wrapping, since a pipe has no width
        line = isinstance(part, str | Text)
        self._console.print(part, markup=False, highlight=False, emoji=False, soft_wrap=line)

    def _fit(self) -> None:
        """Clear the screen and draw again if the terminal was resized.

        rich moves the cursor up by the lines that it has drawn. A narrower terminal may have folded
        these into more lines; a taller one may show older lines again.
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
        except KeyboardInterrupt:  # nobody reads the pipe
            self.closed = True
            raise
        except OSError as error:
            self.closed = True
            reason = f"cannot be written: {error.strerror or error}"
            raise SinkError("standard output", reason, "make room, or write elsewhere") from error
