"""Opens the inputs of a front."""

from __future__ import annotations

import queue

from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.front.assignment import AssignedInput
from abhinaya.stream.front.reader import Feed
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.compliance import lawful, remark
from abhinaya.stream.sources import open_source
from abhinaya.stream.sources.base import channel_names
from abhinaya.stream.wire.messages import StreamInfo


def open_feed(
    front: str,
    assigned: AssignedInput,
    run: configuration.Config,
    remarks: queue.SimpleQueue[tuple[str, str]],
    run_id: str,
) -> Feed:
    """Open an input. If it fails but had streams, return a feed that only ends these streams.

    Raises:
        AbhinayaError: the input cannot be opened, and had no streams.

    """
    name, written = assigned.name, assigned.standings
    start = written[0].start_unix_s if written else None

    def warn(text: str) -> None:
        remarks.put((name, text))

    def info(stream: str, source: str, live: bool, start_unix_s: float) -> StreamInfo:
        marked = StreamInfo(
            stream=stream,
            front=front,
            source=source,
            live=live,
            start_unix_s=start_unix_s,
            input=name,
            run=run_id,
            consent=assigned.config.consent,
        )
        return lawful(run.compliance, marked)

    try:
        source = open_source(assigned.config, warn, start, run.network)
    except AbhinayaError as error:
        if not written:
            raise
        infos = [info(s.stream, assigned.config.subject, False, s.start_unix_s) for s in written]
        return Feed(name, tuple(infos), written, fault=error)
    channels = channel_names(assigned.config, source.channels)
    streams = [f"{name}/{channel}" if channel else name for channel in channels]
    facts = (source.description, source.live, source.start_unix_s)
    infos = [info(stream, *facts) for stream in streams]
    if text := remark(run.compliance, infos):
        warn(text)
    return Feed(name, tuple(infos), written, source)
