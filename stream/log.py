"""The log of a run: the standard `logging` of all its processes, in one file or on stderr.

The main process opens the file. Child processes inherit the descriptor; an environment variable has
its number. A line is written by one call, so that lines of several processes do not mix.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from abhinaya.models.text import clean, to_json
from abhinaya.stream.errors import ConfigError, SinkError

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
VARIABLE: Final = "ABHINAYA_LOG"
"""Environment variable for child processes, with the value LEVEL:FORMAT:DESCRIPTOR."""
STDERR: Final = 2

ROOT: Final = logging.getLogger("abhinaya")


def add_log_flags(parser: argparse._ActionsContainer) -> None:
    """Add the flags of the log."""
    add = parser.add_argument
    add("--log-level", choices=LEVELS, help="write a log of messages from this level on")
    add("--log-format", choices=FORMATS, help=f"log format (default: {FORMATS[0]})")
    add("--log-file", type=Path, metavar="FILE", help="append the log to this file, not to stderr")


def open_log(
    args: argparse.Namespace,
    process: str = "main",
    environment: MutableMapping[str, str] = os.environ,
) -> int | None:
    """Open the log; return its descriptor for child processes, None if no log is asked for.

    Args:
        args: the parsed flags of `add_log_flags`.
        process: name of this process in the log.
        environment: variables for child processes.

    Raises:
        ConfigError: a format is given, but no log.
        SinkError: the file cannot be opened.

    """
    if args.log_level is None and args.log_file is None:
        if args.log_format is not None:
            raise ConfigError(f"--log-format {args.log_format}", "has no log", "add --log-level")
        # without any handler, logging itself would write to stderr, into the live view
        ROOT.handlers[:] = [logging.NullHandler()]
        return None
    descriptor = os.dup(STDERR)
    if args.log_file is not None:
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            os.dup2(opened := os.open(args.log_file, flags, 0o644), descriptor)
            os.close(opened)
        except OSError as error:
            os.close(descriptor)
            reason = f"cannot be opened: {error.strerror}"
            raise SinkError(f"--log-file {args.log_file}", reason, "name another file") from error
    environment[VARIABLE] = (
        f"{args.log_level or 'info'}:{args.log_format or FORMATS[0]}:{descriptor}"
    )
    join_log(process, environment)
    return descriptor


def descriptor_of(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the descriptor of the log that this process writes to; None without one."""
    text = environment.get(VARIABLE, "").rpartition(":")[2]
    return int(text) if text.isdecimal() else None


def join_log(process: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send the records of this process to the log of the run; without one, warnings to stderr."""
    level, _, rest = environment.get(VARIABLE, "").partition(":")
    descriptor = descriptor_of(environment)
    handler = Handler(STDERR if descriptor is None else descriptor)
    handler.setFormatter(Json(process) if rest.startswith("json") else Text(process))
    ROOT.handlers[:] = [handler]
    ROOT.propagate = False
    ROOT.setLevel(level.upper() if level in LEVELS else logging.WARNING)


def adopt(name: str) -> logging.Logger:
    """Return the logger of a library, whose records go where ours go."""
    log = logging.getLogger(name)
    log.handlers[:], log.propagate = ROOT.handlers, False
    return log


class Handler(logging.Handler):
    """Writes each record as one line to a descriptor."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._full = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a full disk does not end the run, but costs the log some records."""
        try:
            os.write(self._descriptor, self.format(record).encode("utf-8", "replace") + b"\n")
            self._full = False
        except OSError as error:
            if not self._full:
                with contextlib.suppress(OSError):
                    text = f"abhinaya: the log lacks records: {error.strerror}\n"
                    os.write(STDERR, text.encode())
            self._full = True


class Throttle:
    """Decides which of many similar messages are logged: ten a minute, each subject once."""

    def __init__(self) -> None:
        self._subjects: set[str] = set()
        self._until = -math.inf
        self._dropped = 0

    def note(self, now: float, subject: str) -> str | None:
        """Return what to add to the message; None if it must not be logged."""
        if now >= self._until:
            self._until = now + 60
            self._subjects.clear()
        if subject in self._subjects or len(self._subjects) >= 10:
            self._dropped += 1
            return None
        self._subjects.add(subject)
        dropped, self._dropped = self._dropped, 0
        return f" ({dropped} similar messages before it were dropped)" if dropped else ""


class Text(logging.Formatter):
    """Formats a record as one line of text, with control characters escaped."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level, process, message and exception."""
        head = f"{_time(record)} {record.levelname.lower():7} {self._process}"
        message = record.getMessage()
        if record.exc_info:
            message += " | " + self.formatException(record.exc_info)
        visible = message.replace("\n", "\\n")  # the lines of a traceback
        return f"{head}: {clean(visible)}"


class Json(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return a JSON object: time, level, process, logger, message, exception."""
        values = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return to_json(values).decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
