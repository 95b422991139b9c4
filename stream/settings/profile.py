"""A profile: a TOML file and what overrides it become a `Config`, or every fault at once."""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import near_miss
from abhinaya.models.fields import Faults, build
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings import rules
from abhinaya.stream.settings import vote as voting
from abhinaya.stream.settings.config import Config, WorkerConfig

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Of a voter: it names processes, their logs and their sockets."""

RESERVED: Final = ("asr", "front", "hub", "refiner")
"""Names that other processes bear."""


VOTERS_NAMED: Final = (["voters"], ["vote", "weights"], ["vote", "temperatures"])
"""Tables whose keys are names of voters, which are told apart by capitals."""


def profiles() -> list[str]:
    """Give the names of the profiles that come with the package."""
    folder = importlib.resources.files("abhinaya.stream.settings.profiles")
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


@dataclass(frozen=True, slots=True)
class Override:
    """A setting that someone changes for this run."""

    key: str
    """section.key; a variable's, in capitals, means the key that is written alike."""
    value: Any
    origin: str
    """The variable or flag, for the person."""
    any_case: bool = False
    """Whether `key` is in capitals because variables are."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A config, and what set each value that is not its default."""

    config: Config
    origins: Mapping[str, str]
    """By dotted key: the profile, a variable or a flag."""


def load(profile: str, overrides: Mapping[str, Any] | Sequence[Override] | None = None) -> Config:
    """Read a profile by name or path, with `section.key` overrides on top.

    Raises:
        ConfigError: names every fault in the file and the overrides at once.

    """
    if isinstance(overrides, Mapping):
        overrides = [Override(key, value, "") for key, value in overrides.items()]
    return trace(profile, overrides or ()).config


def trace(profile: str, overrides: Sequence[Override] = ()) -> Traced:
    """Do as `load` does, and tell where each value is from; later overrides win.

    Raises:
        ConfigError: names every fault in the file and the overrides at once.

    """
    table = _read(profile)
    _anchor(table, _folder(profile))
    from_file = dict.fromkeys(_leaves(table, ""), f"profile {profile}")
    table.setdefault("profile", Path(profile).stem)
    given: dict[str, str] = {}
    faults = Faults(given)
    for override in overrides:
        key = _spelled(override.key, table) if override.any_case else override.key
        for other in [k for k in given if k == key or k.startswith(f"{key}.")]:
            del given[other]
        if override.origin:
            given[key] = override.origin
        _put(table, key, override.value, faults)
    _anchor(table, Path.cwd())  # one that a flag or a variable gives is from where we are
    config = build(Config, table, "", faults)
    if not faults.texts:
        for text, *paths in _conflicts(config):
            faults.add(text, *paths)
    if faults.texts:
        raise ConfigError(
            f"profile {profile!r}",
            "; ".join(faults.texts),
            "`abhinaya settings` lists every key",
        )
    return Traced(config, from_file | given)


def _read(profile: str) -> dict[str, Any]:
    try:
        if profile in profiles():
            resource = (
                importlib.resources.files("abhinaya.stream.settings.profiles") / f"{profile}.toml"
            )
            return tomllib.loads(resource.read_text("utf-8"))
        return tomllib.loads(Path(profile).read_text("utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(
            f"profile {profile!r}",
            "is neither a profile of the package nor a file",
            near_miss(profile, profiles()),
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"profile {profile!r}", f"cannot be read: {error}") from error


def _folder(profile: str) -> Path:
    if profile in profiles():
        return Path(str(importlib.resources.files("abhinaya.stream.settings.profiles")))
    return Path(profile).resolve().parent


def _anchor(table: dict[str, Any], folder: Path) -> None:
    """Make the path of the combiner absolute: processes elsewhere read it as well."""
    vote = table.get("vote")
    if isinstance(vote, dict) and isinstance(vote.get("combiner"), str) and vote["combiner"]:
        vote["combiner"] = str(folder / vote["combiner"])


def _leaves(table: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def _spelled(dotted: str, table: Mapping[str, Any]) -> str:
    """Give the key that is written like `dotted` but for capitals; settings are in small letters.

    A voter that the profile does not have is taken as written.
    """
    found: list[str] = []
    for part in dotted.split("."):
        known = {key.casefold(): key for key in table}
        own = part if found in VOTERS_NAMED else part.lower()
        found.append(known.get(part.casefold(), own))
        inner = table.get(found[-1])
        table = inner if isinstance(inner, Mapping) else {}
    return ".".join(found)


def _put(table: dict[str, Any], dotted: str, value: Any, faults: Faults) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            faults.add(f"{dotted} cannot be set: {section} is {inner!r}, not a table", dotted)
            return
        table = inner
    table[last] = value


def _conflicts(config: Config) -> Iterator[tuple[str, ...]]:
    """Yield what is wrong only between settings that are each right, and which these are."""
    if not config.voters:
        yield "voters is empty: a run needs at least one", "voters"
    for name in config.voters:
        if name in RESERVED or not NAME.fullmatch(name):
            text = f"voters.{name} cannot name a voter: use letters and digits, and not {RESERVED}"
            yield text, f"voters.{name}"
    vad = config.vad
    if vad.end_threshold > vad.start_threshold:
        pair = ("vad.end_threshold", "vad.start_threshold")
        yield f"{pair[0]} is above {pair[1]}", *pair
    if vad.cut_search_s >= vad.max_segment_s:
        pair = ("vad.cut_search_s", "vad.max_segment_s")
        yield f"{pair[0]} is not shorter than {pair[1]}", *pair
    yield from voting.conflicts(config.vote, {v: w.model for v, w in config.voters.items()})
    if config.supervise.silent_s < 2 * config.supervise.beat_s:
        yield "supervise.silent_s is less than two beats", "supervise.silent_s", "supervise.beat_s"
    if config.asr is not None and config.asr.host:
        yield "asr.host: only a voter can share the processes of another", "asr.host"
    if config.refiner is not None and config.refiner.host:
        yield "refiner.host: only a voter can share the processes of another", "refiner.host"
    if config.refiner is not None and config.asr is None:
        yield "refiner reads transcripts, and nobody transcribes: there is no [asr]", "refiner"
    yield from _host_conflicts(config.voters, config.asr)
    yield from rules.conflicts(config.rules)


def _host_conflicts(
    voters: Mapping[str, WorkerConfig], asr: WorkerConfig | None
) -> Iterator[tuple[str, ...]]:
    """Yield what is wrong with who shares whose processes, and the settings that it is about."""
    for name, worker in voters.items():
        path, other = f"voters.{name}.host", f"voters.{worker.host}"
        host = voters.get(worker.host)
        if worker.host == "asr":
            host, other = asr, "asr"
        if not worker.host:
            continue
        if host is None or worker.host == name:
            yield f"{path} = {worker.host!r} is not another voter of this profile, nor asr", path
        elif host.host:
            yield f"{path}: {worker.host} is itself in the processes of {host.host}", path
        elif host.replicas != worker.replicas:
            own, its = f"voters.{name}.replicas", f"{other}.replicas"
            yield f"{own} is not {its}, whose processes it shares", path, its
