"""`Monitor`: labels for speech from Python, in one process.

    from abhinaya.stream import Monitor

    with Monitor() as monitor:
        for verdict in monitor.label("call.wav"):
            print(verdict.start_s, verdict.label, verdict.text)

`Monitor` uses no signal handlers, no child processes and no files. Its verdicts are the same as
those of `abhinaya-stream` on the same audio.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from abhinaya.models.text import distinct, short_name
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.errors import AbhinayaError, SourceError
from abhinaya.stream.front.numbering import Speech, SpeechItem
from abhinaya.stream.run.local import FRONT, Local, items_of, load_nodes
from abhinaya.stream.run.plan import check_licence, name_of_input
from abhinaya.stream.settings.compliance import ComplianceConfig, lawful, remark
from abhinaya.stream.settings.config import EMBEDDED, VadConfig
from abhinaya.stream.settings.profile import load
from abhinaya.stream.sources.array import open_arrays
from abhinaya.stream.sources.base import InputConfig, Opened, channel_names, check_names
from abhinaya.stream.sources.opening import open_source
from abhinaya.stream.wire.messages import Activity, Event, Gap, StreamInfo, Verdict

Audio = str | os.PathLike[str] | npt.NDArray[Any] | Iterable[npt.NDArray[Any]]
"""A path or address; samples [n] or [n, channels], int16 or float in [-1, 1]; or an iterator of
such arrays."""

AT_ONCE: Final = 8
"""Number of files that are processed at the same time, so that models get batches."""

_LOG = logging.getLogger("abhinaya.api")


@dataclass(frozen=True, slots=True)
class _Input:
    """An opened source and its name."""

    name: str
    config: InputConfig
    source: Opened

    def infos(self, compliance: ComplianceConfig) -> list[StreamInfo]:
        """Return the stream information for each channel."""
        source = self.source
        found = [
            StreamInfo(
                stream=f"{self.name}/{channel}" if channel else self.name,
                front=FRONT,
                source=source.description,
                live=source.live,
                start_unix_s=source.start_unix_s,
                input=self.name,
                consent=self.config.consent,
            )
            for channel in channel_names(self.config, source.channels)
        ]
        return [lawful(compliance, info) for info in found]


class Monitor:
    """A line-up of models, loaded once, that labels any number of recordings and live sources.

    Only one thread may use a monitor at a time.

    Args:
        profile: name of a profile of the package, or path of a TOML file.
        accept_noncommercial: whether models with a non-commercial licence may be used; the
            package's own models have no such licence.
        settings: settings of the profile, with two underscores for the dot:
            `vote__min_confidence=0.4`. `abhinaya settings` lists them.

    Raises:
        ConfigError: the profile or a setting is wrong.
        ModelError: a model cannot be loaded, or its licence was not accepted.

    """

    def __init__(
        self,
        profile: str | os.PathLike[str] = EMBEDDED,
        *,
        accept_noncommercial: bool = False,
        **settings: Any,
    ) -> None:
        changes = {name.replace("__", "."): value for name, value in settings.items()}
        self._config = load(os.fspath(profile), changes)
        self._nodes = load_nodes(self._config)
        for node in self._nodes:
            for service in node.ready.gives:
                if service.noncommercial and not accept_noncommercial:
                    profile = self._config.profile
                    check_licence(profile, service.name, service.model, service.licence)
        self._closed = self._busy = False
        self._inputs: list[_Input] = []
        """Inputs that are open, also those of iterators that were left or never used."""

    def label(
        self,
        audio: Audio,
        *,
        sample_rate: int = 16_000,
        name: str = "",
        channels: Literal["mix", "split"] = "mix",
        names: Sequence[str] = (),
        track: int = 0,
        consent: str = "",
    ) -> Iterator[Verdict]:
        """Yield the verdicts on a recording, each as soon as it is known.

        Args:
            audio: path, address, samples, or an iterator of samples.
            sample_rate: sample rate of samples, in Hz; a file has its own.
            name: name of the stream; by default the file's name, or `audio`.
            channels: `mix` all channels into one stream, or `split` them into one stream each.
            names: names of the split channels.
            track: audio track of a container, from 1; 0: the default one, or the first with sound.
            consent: consent of the persons concerned, for the start of each stream.

        Raises:
            SourceError: the audio cannot be read; verdicts on the audio before were yielded.

        """
        return _verdicts(
            self.events(
                audio,
                sample_rate=sample_rate,
                name=name,
                channels=channels,
                names=names,
                track=track,
                consent=consent,
            )
        )

    def label_files(
        self, paths: Iterable[str | os.PathLike[str]], *, at_once: int = AT_ONCE
    ) -> Iterator[Verdict]:
        """Yield the verdicts on many files, `at_once` of them processed at the same time.

        `Verdict.stream` is the file's name without its suffix, with a number if two are equal.

        Raises:
            SourceError: a file cannot be read; verdicts on the files before were yielded.

        """
        files = [os.fsdecode(path) for path in paths]
        streams = distinct([name_of_input(file) for file in files])
        for begin in range(0, len(files), at_once):
            opened: list[_Input] = []
            fault: SourceError | None = None
            for stream, file in zip(
                streams[begin:][:at_once], files[begin:][:at_once], strict=True
            ):
                try:
                    opened.append(self._open(InputConfig(file), stream))
                except SourceError as error:  # the files before it are labelled first
                    fault = error
                    break
            yield from _verdicts(self._run(opened))
            if fault:
                raise fault

    def listen(
        self,
        source: str = "mic",
        *,
        device: str = "",
        partials: bool = False,
        realtime: bool = False,
    ) -> Iterator[Verdict]:
        """Yield the verdicts on a live source until it ends or the iterator is closed.

        Args:
            source: `mic`, or the address of a live stream; a file with `realtime`.
            device: the microphone: its number or a part of its name.
            partials: also yield provisional verdicts during speech; their `final` is False.
            realtime: play a file as if it were live.

        Raises:
            SourceError: the source cannot be opened, or failed.

        """
        config = InputConfig(source, device=device, realtime=realtime)
        return _verdicts(self._run([self._open(config)], partials=partials))

    def events(
        self,
        audio: Audio,
        *,
        sample_rate: int = 16_000,
        name: str = "",
        channels: Literal["mix", "split"] = "mix",
        names: Sequence[str] = (),
        track: int = 0,
        consent: str = "",
    ) -> Iterator[Event | Activity]:
        """Yield all events that `abhinaya-stream` would write about a recording (docs/events.md).

        Arguments and errors are those of `label`. `sinks.events.to_dict` converts an event to JSON.
        """
        if isinstance(audio, str | os.PathLike):
            what = os.fsdecode(audio)
            config = InputConfig(
                what,
                channels=channels,
                channel_names=tuple(names),
                track=track,
                consent=consent,
            )
            return self._run([self._open(config, name)])
        config = InputConfig(
            short_name(name or "audio"),
            channels=channels,
            channel_names=tuple(names),
            consent=consent,
        )
        arrays = [audio] if isinstance(audio, np.ndarray) else audio
        source = open_arrays(arrays, sample_rate, config.what, channels, _LOG.warning)
        check_names(config, source.channels)
        return self._run([self._opened(_Input(config.what, config, source))])

    async def alabel(self, audio: Audio, **options: Any) -> AsyncIterator[Verdict]:
        """Like `label`, for asyncio: the models run in a thread."""
        async for verdict in _in_thread(self.label(audio, **options)):
            yield verdict

    async def alisten(self, source: str = "mic", **options: Any) -> AsyncIterator[Verdict]:
        """Like `listen`, for asyncio: the models run in a thread."""
        async for verdict in _in_thread(self.listen(source, **options)):
            yield verdict

    def close(self) -> None:
        """Release the models, and close all inputs."""
        self._closed = True
        self._nodes = []
        self._close(self._inputs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, config: InputConfig, name: str = "") -> _Input:
        source = open_source(config, _LOG.warning, network=self._config.network)
        return self._opened(_Input(short_name(name or name_of_input(config.what)), config, source))

    def _opened(self, opened: _Input) -> _Input:
        self._inputs.append(opened)
        return opened

    def _close(self, inputs: Sequence[_Input]) -> None:
        for each in inputs:
            each.source.interrupt()
            each.source.close()
        self._inputs = [each for each in self._inputs if each not in inputs]

    def _run(
        self, inputs: Sequence[_Input], *, partials: bool = False
    ) -> Iterator[Event | Activity]:
        """Yield the events of the inputs, then close the inputs."""
        try:
            if self._closed or self._busy:
                state = "is closed" if self._closed else "is busy with another source"
                raise AbhinayaError("Monitor", state, "make another one")
            self._busy = True
            try:
                yield from self._events(inputs, partials)
            finally:
                self._busy = False
        finally:
            self._close(inputs)

    def _events(self, inputs: Sequence[_Input], partials: bool) -> Iterator[Event | Activity]:
        compliance = self._config.compliance
        infos = [each.infos(compliance) for each in inputs]
        for each, streams in zip(inputs, infos, strict=True):
            if text := remark(compliance, streams):
                _LOG.warning("%s: %s", each.name, text)
        local = Local(self._config, self._nodes, [info for streams in infos for info in streams])
        vad = self._config.vad if partials else replace(self._config.vad, provisional_every_s=0.0)
        readers = [
            items_of(each.source, _speech(vad, each.source, streams))
            for each, streams in zip(inputs, infos, strict=True)
        ]
        yield from _label(local, readers)


def _speech(vad: VadConfig, source: Opened, streams: Sequence[StreamInfo]) -> Speech:
    names, heard = [i.stream for i in streams], [i.heard for i in streams]
    return Speech(vad, source, names, (), heard=heard)


def _label(local: Local, readers: Sequence[Iterator[SpeechItem]]) -> Iterator[Event | Activity]:
    """Yield the events of all readers, which are read in turn, one item each."""
    waiting, fault = list(readers), None
    while waiting:
        items: list[SpeechItem] = []
        for reader in list(waiting):
            try:
                items.append(next(reader))
            except StopIteration:
                waiting.remove(reader)
            except AbhinayaError as error:  # raised after the audio before it is labelled
                waiting.remove(reader)
                fault = fault or error
        yield from local.feed(*items)
    yield from local.finish()
    if fault:
        raise fault


def _verdicts(events: Iterator[Event | Activity]) -> Iterator[Verdict]:
    for event in events:
        if isinstance(event, Verdict):
            yield event
        elif isinstance(event, Gap):
            start, end = to_seconds(event.start), to_seconds(event.end)
            _LOG.warning("%s: no label, %.1f to %.1f s: %s", event.stream, start, end, event.reason)


async def _in_thread(verdicts: Iterator[Verdict]) -> AsyncIterator[Verdict]:
    while (verdict := await asyncio.to_thread(next, verdicts, None)) is not None:
        yield verdict
