"""Loads a profile, a TOML file, with overrides as a `Config`; reports all faults at once."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import near_miss
from abhinaya.models.fields import Faults, build
from abhinaya.models.toml import parse_toml
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings import rules
from abhinaya.stream.settings import vote as voting
from abhinaya.stream.settings.config import Config, WorkerConfig

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Pattern of voter names, from which the names of processes, logs and sockets are made."""

RESERVED: Final = ("asr", "front", "hub", "refiner")
"""Names of other processes, which a voter may not have."""

VOTER_TABLES: Final = (["voters"], ["vote", "weights"], ["vote", "temperatures"])
"""Tables with names of voters as keys. These names are case-sensitive."""


def profiles() -> list[str]:
    """Return the names of the profiles of the package."""
    folder = importlib.resources.files("abhinaya.stream.settings.profiles")
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


@dataclass(frozen=True, slots=True)
class Override:
    """A setting that is changed for this run."""

    key: str
    """Dotted key: section.key."""
    value: Any
    origin: str
    """Name of the variable or flag, for messages."""
    any_case: bool = False
    """Whether to ignore upper and lower case in `key`, as for environment variables."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A config, and the origin of each value that is not a default."""

    config: Config
    origins: Mapping[str, str]
    """Profile, variable or flag, by dotted key."""


def load(profile: str, overrides: Mapping[str, Any] | Sequence[Override] | None = None) -> Config:
    """Return the config of a profile, by name or path, with `section.key` overrides.

    Raises:
        ConfigError: names every fault in the file and the overrides at once.

    """
    if isinstance(overrides, Mapping):
        overrides = [Override(key, value, "") for key, value in overrides.items()]
    return trace(profile, overrides or ()).config


def trace(profile: str, overrides: Sequence[Override] = ()) -> Traced:
    """Like `load`, but also return the origin of each value. Later overrides win."""
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
    _anchor(table, Path.cwd())  # a path from a flag or a variable is relative to this folder
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
            return parse_toml(resource.read_text("utf-8"))
        return parse_toml(Path(profile).read_text("utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(
            f"profile {profile!r}",
            "is neither a profile of the package nor a file",
            near_miss(profile, profiles()),
        ) from error
    except (OSError, ValueError) as error:  # also a name with a NUL
        raise ConfigError(f"profile {profile!r}", f"cannot be read: {error}") from error


def _folder(profile: str) -> Path:
    if profile in profiles():
        return Path(str(importlib.resources.files("abhinaya.stream.settings.profiles")))
    return Path(profile).resolve().parent


def _anchor(table: dict[str, Any], folder: Path) -> None:
    """Make the path of the combiner absolute, for processes in other folders."""
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
    """Return a dotted key as the table spells it, ignoring case; an unknown key in lower case.

    An unknown name of a voter stays as it is.
    """
    found: list[str] = []
    for part in dotted.split("."):
        known = {key.casefold(): key for key in table}
        own = part if found in VOTER_TABLES else part.lower()
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
    """Yield (message, settings concerned, ...) for each conflict between settings."""
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
        pair = ("supervise.silent_s", "supervise.beat_s")
        yield f"{pair[0]} is less than twice {pair[1]}", *pair
    if config.asr is not None and config.asr.host:
        yield "asr.host: only a voter can share the processes of another", "asr.host"
    if config.refiner is not None and config.refiner.host:
        yield "refiner.host: only a voter can share the processes of another", "refiner.host"
    if config.refiner is not None and config.asr is None:
        yield "refiner needs transcripts, but the profile has no [asr]", "refiner"
    if config.compliance.mode and not config.supervise.logs_days:
        pair = ("supervise.logs_days", "compliance.mode")
        yield f"{pair[0]} = 0 keeps logs for ever, which {pair[1]} does not allow", *pair
    yield from _host_conflicts(config.voters, config.asr)
    yield from rules.conflicts(config.rules)


def _host_conflicts(
    voters: Mapping[str, WorkerConfig], asr: WorkerConfig | None
) -> Iterator[tuple[str, ...]]:
    """Yield (message, settings concerned, ...) for each wrong `host` of a voter."""
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
            yield f"{path}: {worker.host} itself shares the processes of {host.host}", path
        elif host.replicas != worker.replicas:
            own, its = f"voters.{name}.replicas", f"{other}.replicas"
            yield f"{own} must equal {its}, since they share processes", path, its
