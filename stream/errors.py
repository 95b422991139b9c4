"""The tree of errors that are shown to a user, with the exit code of each.

    AbhinayaError           1   any other error
    |-- ConfigError         2   a flag, a profile or an environment variable is wrong
    |-- SourceError         3   audio cannot be read: missing, empty, not audio, unknown device
    |-- SinkError           4   results cannot be written: missing folder, full disk
    |   `-- StoreError      4   the history cannot be opened, read or written
    |-- ProcessError        5   a process of the monitor did not start or died too often
    |-- ModelError          6   a model is missing, damaged or not allowed (models/errors.py)
    |-- NetworkError        7   an endpoint is in use, unreachable, or refused: keys are missing
    `-- WireError           8   a message is malformed, too large or not allowed from its sender

An exit code above 128 means that a signal ended the run before its input ended: 130 Ctrl-C, 143
SIGTERM (models/interrupts.py). Errors of other libraries
(ZeroMQ, the decoder, PortAudio, a model) are converted to these, with the cause chained.
"""

from __future__ import annotations

from typing import Final

from abhinaya.models.errors import AbhinayaError, ModelError

__all__ = [
    "AbhinayaError", "ConfigError", "ModelError", "NetworkError", "ProcessError", "SinkError",
    "SourceError", "StoreError", "WireError",
]  # fmt: skip

EXIT_OK: Final = 0


class ConfigError(AbhinayaError):
    """A flag, a profile or an environment variable is wrong."""

    exit_code = 2


class SourceError(AbhinayaError):
    """Audio cannot be read."""

    exit_code = 3


class SinkError(AbhinayaError):
    """Results cannot be written."""

    exit_code = 4


class StoreError(SinkError):
    """The history cannot be opened, read or written."""


class ProcessError(AbhinayaError):
    """A process of the monitor did not start, or died too often."""

    exit_code = 5


class NetworkError(AbhinayaError):
    """An endpoint is in use, unreachable, or refused because keys are missing."""

    exit_code = 7


class WireError(AbhinayaError):
    """A message is malformed, too large, or not allowed from its sender."""

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
"""Error class of each exit code: the supervisor reports why a child process died."""
