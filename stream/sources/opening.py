"""Open a source of any kind, and play a file in real time."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from abhinaya.models.errors import ModelError
from abhinaya.models.plugins import load_plugin, plugins
from abhinaya.stream.clock import SAMPLE_RATE, to_seconds, unix_time
from abhinaya.stream.errors import AbhinayaError, ConfigError, SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.address import is_address, scheme_of
from abhinaya.stream.sources.base import AudioChunk, InputConfig, Opened, Warn, check_names
from abhinaya.stream.sources.file import open_file
from abhinaya.stream.sources.microphone import open_microphone
from abhinaya.stream.sources.network import open_address
from abhinaya.stream.sources.stdin import open_stdin

_LOG = logging.getLogger("abhinaya.sources")
_STEP: Final = SAMPLE_RATE // 50


def open_source(
    config: InputConfig,
    warn: Warn = _LOG.warning,
    start_unix_s: float | None = None,
    network: NetworkConfig | None = None,
) -> Opened:
    """Open the input of `config`; the caller closes it.

    Args:
        config: the input.
        warn: receives messages about audio that has a fault but is used.
        start_unix_s: wall-clock time of sample 0, if another process began the stream.
        network: time-outs and pauses for addresses.

    Raises:
        SourceError: the input cannot be read.
        ConfigError: the channel names do not fit the input.

    """
    if not config.what:
        raise ConfigError("the input", "is empty", "name a file, an address, `-` or `mic`")
    source = _open(config, warn, network or NetworkConfig())
    if start_unix_s is not None:
        source = dataclasses.replace(source, start_unix_s=start_unix_s)
    if config.realtime and not source.live:
        source = pace(source)
    try:
        check_names(config, source.channels)
    except ConfigError:
        source.close()
        raise
    return source


def _open(config: InputConfig, warn: Warn, network: NetworkConfig) -> Opened:
    if config.what == "mic":
        return open_microphone(config, warn, network)
    if config.what == "-":
        return open_stdin(config, warn)
    if is_address(config.what):
        if (scheme := scheme_of(config.what)) in plugins("sources"):
            return _open_plugin(scheme, config, warn)
        return open_address(config, network, warn)
    return open_file(config, warn)


def pace(
    source: Opened,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = unix_time,
) -> Opened:
    """Play `source` in real time: yield chunks of 20 ms, each when its last sample is due."""

    def paced() -> Iterator[AudioChunk]:
        position = 0
        for chunk in source.audio:
            lost = chunk.lost_samples
            for start in range(0, max(1, len(chunk.samples)), _STEP):
                part = chunk.samples[start : start + _STEP]
                position += lost + len(part)
                due = source.start_unix_s + to_seconds(position)
                if (wait := due - clock()) > 0:
                    sleep(wait)
                # a pipe may be live itself: its audio may arrive after it was due
                captured = max(due, chunk.captured_unix_s)
                yield AudioChunk(part, captured, lost, chunk.lost_reason if lost else "")
                lost = 0

    description = f"{source.description}, paced as live"
    return dataclasses.replace(source, live=True, description=description, audio=paced())


def _open_plugin(scheme: str, config: InputConfig, warn: Warn) -> Opened:
    """Open an address by the plug-in for its scheme: a function of `InputConfig` and `Warn`."""
    try:
        opened: Opened = load_plugin("sources", scheme)(config, warn)
    except AbhinayaError:
        raise
    except ModelError as error:
        raise SourceError(error.subject, error.reason, error.remedy) from error
    except Exception as error:  # whatever the code of another package raises
        reason = f"the plug-in {scheme!r} raised {type(error).__name__}: {error}"
        raise SourceError(config.subject, reason) from error
    return opened
