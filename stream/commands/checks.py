"""What can be known of a command line before any process starts, or any output is opened."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from abhinaya.models import registry
from abhinaya.models.asr import load as transcribers
from abhinaya.models.catalogue import CATALOGUE, unpinned
from abhinaya.models.errors import OptionsError, UnknownModelError
from abhinaya.models.plugins import plugins
from abhinaya.models.tiny.metadata import FOLDER, read_card
from abhinaya.stream.errors import AbhinayaError, ConfigError, ModelError
from abhinaya.stream.run.plan import Input, check_licence
from abhinaya.stream.settings.config import Config, WorkerConfig, workers_of
from abhinaya.stream.settings.flags import from_flags
from abhinaya.stream.settings.profile import profiles
from abhinaya.stream.sources.address import check_address, is_address, scheme_of
from abhinaya.stream.sources.base import InputConfig, check_names
from abhinaya.stream.sources.file import open_file, read_head
from abhinaya.stream.sources.stdin import standard_input

_REPOSITORIES: Final = frozenset({"checkpoint", "llm", "model", "whisper"})
"""Options of models that may name a repository on the Hub."""


def check_flags(args: argparse.Namespace, whats: Sequence[str]) -> None:
    """Refuse flags that would have no effect, and inputs that can be read only once.

    Raises:
        ConfigError: names the first such flag, and what it needs.

    """
    check_names(from_flags(InputConfig, args, what=""), 0)
    for what, name in (("-", "standard input"), ("mic", "the microphone")):
        if whats.count(what) > 1:
            raise ConfigError(what, "can be read only once", f"name {name} once")
    for flag, remedy in _without_effect(args, whats):
        if getattr(args, flag, None) not in (None, False):
            name = f"--{flag.replace('_', '-')}"
            raise ConfigError(name, "has no effect", f"{remedy}, or leave {name} out")


def _without_effect(args: argparse.Namespace, whats: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (flag, what it needs) for each flag whose need is not met."""
    raw = hasattr(args, "sample_format")
    if "-" not in whats:
        yield "sample_format", "pipe the raw samples in, with `-` as the input"
    if not raw:
        yield "rate", "add --sample-format: only raw samples do not carry their rate"
    if not raw and "mic" not in whats:
        yield "channel_count", "add --sample-format or --mic: other inputs carry their channels"
    if "mic" not in whats:
        yield "device", "add --mic"
    if not any(map(is_address, whats)):
        yield "endless", "name an http address"
    if not args.output:
        yield "append", "add --output FILE.jsonl"
    if not (args.hub or args.cells):
        yield "keys", "add --hub ENDPOINT or --cells"
        yield "key_name", "add --hub ENDPOINT or --cells"
    if not args.feed:
        yield from ((flag, "add --feed URL") for flag in ("follow", "keep", "feed_state", "newest"))


def fault_of(item: Input) -> AbhinayaError | None:
    """Return the error of an input that certainly cannot be read; the others can go on."""
    config = item.config
    try:
        if config.what == "-":
            standard_input()
        elif config.what == "mic":
            # PortAudio is loaded only when it is needed
            from abhinaya.stream.sources.microphone import find

            check_names(config, find(config)[1])
        elif is_address(config.what):
            if scheme_of(config.what) not in plugins("sources"):
                check_address(config.what)
        else:
            _check_file(config)
    except AbhinayaError as error:
        return error
    return None


def _check_file(config: InputConfig) -> None:
    path = Path(config.what)
    with contextlib.suppress(OSError, ValueError):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return  # a pipe or a device: reading it here would take from it
    read_head(path, config.subject)
    if config.channel_names:
        source = open_file(config, lambda _: None)
        try:
            check_names(config, source.channels)
        finally:
            source.close()


def check_outputs(args: argparse.Namespace, inputs: Iterable[Input]) -> None:
    """Refuse to write over a file that the run reads, or a log.

    Raises:
        ConfigError: names the output.

    """
    read = {item.config.what: "an input" for item in inputs}
    read |= {str(args.rules): "the file of --rules"} if args.rules else {}
    read |= {args.profile: "the profile"} if args.profile not in (None, *profiles()) else {}
    logs = [("--log-file", args.log_file)] if args.log_file else []
    for flag, path in (*logs, *(("--output", path) for path in args.output)):
        for other, role in read.items():
            if _is_same(str(path), other):
                raise ConfigError(f"{flag} {path}", f"is {role} too", "write to another file")
        if flag == "--log-file":
            read[str(path)] = "the --log-file"


def _is_same(one: str, other: str) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def faults_of_models(config: Config, accept_noncommercial: bool) -> Iterator[AbhinayaError]:
    """Check the models of a profile as far as that needs no import of theirs.

    Yields:
        ConfigError: a model or an option is unknown, or an option is missing or wrong.
        ModelError: a package or a file is missing, or the licence of a model must be accepted.

    """
    for service, worker in workers_of(config).items():
        if not worker.replicas:  # its nodes run on other machines
            continue
        try:
            known = transcribers if service == "asr" else registry
            known.check(worker.model, worker.options)
        except ModelError as error:
            usage = isinstance(error, OptionsError | UnknownModelError)
            what = f"{error.subject}: {error.reason}" if error.reason else error.subject
            subject, reason = f"{service} ({worker.model})", f"cannot be loaded: {what}"
            yield (ConfigError if usage else ModelError)(subject, reason, error.remedy)
            continue
        try:
            if not accept_noncommercial and (licence := _noncommercial(worker)):
                check_licence(config.profile, service, worker.model, licence)
        except ModelError as error:
            yield error


def unpinned_models(config: Config) -> Iterator[str]:
    """Yield a warning for each model on the Hub whose owner can change what is loaded."""
    for service, worker in workers_of(config).items():
        entry = CATALOGUE.get(worker.model)
        if not worker.replicas or (entry is not None and not entry.on_hub):
            continue
        for key in _REPOSITORIES & worker.options.keys():
            name = str(worker.options[key])
            if unpinned(name):
                text = "names no revision, so its owner can change it; write ORG/NAME@COMMIT"
                yield f"{service}: {key} = {name!r} {text}"


def _noncommercial(worker: WorkerConfig) -> str:
    """Return the licence of a model's files that forbids commercial use; empty if none does."""
    options: Mapping[str, object] = worker.options
    entry = CATALOGUE.get(worker.model)
    if entry and entry.packaged:
        card = read_card(Path(str(options.get("weights") or FOLDER / worker.model)))
        return str(card.get("licence")) if card.get("noncommercial") else ""
    if options.get("noncommercial") is True:
        return str(options.get("licence", "see the model's card"))
    sources = (*entry.sources, *entry.others) if entry else ()
    used = (s for s in sources if s.noncommercial and s.repo in options.values())
    return next((source.licence for source in used), "")
