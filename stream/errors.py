"""Everything that can go wrong for a person, as one tree, with the exit code of each branch.

    AbhinayaError           1   anything without a branch of its own
    |-- ConfigError         2   a flag, a profile or an environment variable is wrong
    |-- SourceError         3   audio cannot be read: missing, empty, not audio, no such device
    |-- SinkError           4   results cannot be written: no such folder, disk full
    |-- ProcessError        5   a process of the monitor did not start or died too often
    |-- ModelError          6   a model is missing, damaged or not allowed
    |-- NetworkError        7   an endpoint is taken, unreachable or refused for lack of keys
    `-- WireError           8   a message is malformed, too large or not allowed to its sender

Exit code 130 means that Ctrl-C ended the run before its input did.
Foreign errors (of ZeroMQ, the decoder, PortAudio, a model) become one of these at the boundary
where they appear, with the cause chained.
"""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_INTERRUPTED: Final = 130


class AbhinayaError(Exception):
    """What was wrong, with which value, and what to do.

    Args:
        subject: the input at fault, as the person named it: a path, a flag, a device.
        reason: what is wrong with it.
        remedy: what to do about it.

    """

    exit_code: ClassVar[int] = 1

    def __init__(self, subject: str, reason: str, remedy: str = "") -> None:
        self.subject = subject
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{subject}: {reason}" + (f"; {remedy}" if remedy else ""))


class ConfigError(AbhinayaError):
    """A flag, a profile or an environment variable is wrong."""

    exit_code = 2


class SourceError(AbhinayaError):
    """Audio cannot be read."""

    exit_code = 3


class SinkError(AbhinayaError):
    """Results cannot be written."""

    exit_code = 4


class ProcessError(AbhinayaError):
    """A process of the monitor did not start, or died too often."""

    exit_code = 5


class ModelError(AbhinayaError):
    """A model is missing, damaged or not allowed."""

    exit_code = 6


class NetworkError(AbhinayaError):
    """An endpoint is taken, unreachable, or refused for lack of keys."""

    exit_code = 7


class WireError(AbhinayaError):
    """A message is malformed, too large, or not allowed to its sender."""

    exit_code = 8


BY_EXIT_CODE: Final[dict[int, type[AbhinayaError]]] = {
    error.exit_code: error
    for error in (
        AbhinayaError,
        ConfigError,
        SourceError,
        SinkError,
        ProcessError,
        ModelError,
        NetworkError,
        WireError,
    )
}
"""How the supervisor names what a child process died of."""
