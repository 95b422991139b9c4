"""Keys that are pressed while a picture is shown do not appear in it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable


def hush() -> Callable[[], None]:
    """Stop the terminal from writing what is typed; give what undoes it.

    Ctrl-C and its like work on. Where standard input is no terminal, or one that belongs to another
    job, nothing is changed.
    """
    try:
        # not every system has it
        import termios

        keyboard = sys.stdin.fileno()
        # a job in the background would be stopped for touching the terminal
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
