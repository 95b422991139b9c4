"""The programs: `abhinaya-stream`, also as `python -m abhinaya.stream`, and `abhinaya`.

Signals are handled before anything slow is imported: Ctrl-C at any time prints one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from abhinaya.models.interrupts import INTERRUPTS, exit_code_of, leave_at_once


def stream() -> NoReturn:
    """Run `abhinaya-stream`."""
    leave_at_once("abhinaya-stream")
    from abhinaya.stream.commands.stream import main

    _exit(main)


def commands() -> NoReturn:
    """Run `abhinaya`."""
    leave_at_once("abhinaya")
    from abhinaya.stream.commands.main import main

    _exit(main)


def _exit(main: Callable[[], int]) -> NoReturn:
    try:
        code = main()
    except KeyboardInterrupt as stopped:  # while the message about the first one was printed
        code = exit_code_of(stopped)
    if INTERRUPTS.count:  # a stopped program leaves without the slow end of the interpreter
        for file in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                file.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    stream()
