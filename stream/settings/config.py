"""What a run is made of: one frozen dataclass a topic, each default written once, here.

A profile is a TOML file with these fields; `load` reads it and reports every fault at once. The
command line is built from the same fields (`abhinaya.stream.settings.flags`).
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.models.errors import near_miss
from abhinaya.models.fields import Faults, build, setting
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings import hosting, rules
from abhinaya.stream.settings import vote as voting
from abhinaya.stream.settings.network import FeedConfig, NetworkConfig
from abhinaya.stream.settings.rules import RuleConfig
from abhinaya.stream.settings.vote import VoteConfig

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Of a voter: it names processes, their logs and their sockets."""

RESERVED: Final = ("asr", "front", "hub", "refiner")
"""Names that other processes bear."""


VOTERS_NAMED: Final = (["voters"], ["vote", "weights"], ["vote", "temperatures"])
"""Tables whose keys are names of voters, which are told apart by capitals."""

EMBEDDED: Final = "embedded"
"""The default profile."""


@dataclass(frozen=True, slots=True)
class VadConfig:
    """When speech begins and ends."""

    start_threshold: float = setting(
        0.5, doc="speech probability that begins a segment", least=0, most=1
    )
    end_threshold: float = setting(
        0.35, doc="speech probability under which silence begins", least=0, most=1
    )
    min_speech_s: float = setting(
        0.25, doc="shorter bursts are no speech, in seconds", least=0.032, most=5
    )
    min_silence_s: float = setting(
        0.4,
        doc="silence that ends a segment, in seconds: what every label waits for at least",
        least=0.032,
        most=5,
    )
    pad_s: float = setting(
        0.15, doc="audio kept before and after speech, in seconds", least=0, most=1
    )
    max_segment_s: float = setting(
        10.0, doc="longest segment, in seconds (the voters know no longer ones)", least=1, most=10
    )
    cut_search_s: float = setting(
        3.0,
        doc="last seconds before the limit, in which a brief silence ends a segment, "
        "and the deepest pause if there is none",
        least=0,
        most=9,
    )
    brief_silence_s: float = setting(
        0.1, doc="silence that is enough there, in seconds", least=0.032, most=5
    )
    provisional_after_s: float = setting(
        0.7,
        doc="seconds that someone in a live stream has spoken before the first provisional label",
        least=0.25,
        most=10,
    )
    provisional_every_s: float = setting(
        0.7,
        doc="seconds between provisional labels while they go on, more where the nodes have no "
        "time; 0: none at all",
        least=0,
        most=10,
    )
    provisional_pause_s: float = setting(
        0.2,
        doc="silence, in seconds, after which one more is asked for: at the end of speech the "
        "transcriber then has nothing left to do; 0: none",
        least=0,
        most=5,
    )


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """How much may be on its way."""

    file_window: int = setting(
        8, doc="segments of one file on their way at once; reading waits beyond", least=1, most=1024
    )
    files_window: int = setting(
        64,
        doc="the same of all files together, each of which has one on its way in any case: what "
        "waits longer than deadlines.file_s would lack votes",
        least=1,
        most=65_536,
    )
    live_backlog: int = setting(
        24,
        doc="segments of one live stream waiting at once; the oldest becomes a gap beyond",
        least=1,
        most=1024,
    )


@dataclass(frozen=True, slots=True)
class DeadlineConfig:
    """How long to wait for whom."""

    live_s: float = setting(
        4.0,
        doc="seconds from the end of a live segment to its verdict, complete or not",
        least=0.05,
    )
    file_s: float = setting(
        300.0, doc="the same for files, which can wait for every voter", least=0.05
    )
    revise_s: float = setting(
        10.0, doc="seconds after a verdict in which a late vote may still change it", least=0
    )
    provisional_s: float = setting(
        0.5,
        doc="seconds that a provisional label may take; slower voters are not asked for one",
        least=0.05,
        most=5,
    )
    task_s: float = setting(
        20.0, doc="seconds a node may work on one batch before it counts as hung", least=0.1
    )
    attempts: int = setting(2, doc="tries of one task before its voter is missing", least=1, most=9)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """A service that nodes give: its model and how its nodes batch."""

    model: str = setting(doc="name in the registry (`abhinaya models list`)")
    replicas: int = setting(1, doc="processes that share the work", least=0, most=64)
    host: str = setting(
        "",
        doc="voter, or asr, whose processes this one shares, and with them what both load alike "
        "(S2 and ST1: Whisper's encoder and BEATs); they live and die together",
    )
    max_batch: int = setting(8, doc="segments in one batch at most", least=1, most=256)
    max_padded_s: float = setting(
        80.0, doc="seconds of audio in one batch at most, padding included", least=10
    )
    max_wait_ms: float = setting(
        20.0, doc="milliseconds that a busy node lets a batch fill", least=0, most=1000
    )
    options: Mapping[str, Any] = dataclasses.field(
        default_factory=dict,
        metadata={"doc": "passed on to the model", "least": None, "most": None},
    )


@dataclass(frozen=True, slots=True)
class SuperviseConfig:
    """The life of the processes."""

    ready_s: float = setting(120.0, doc="seconds that a process may take to become ready", least=1)
    beat_s: float = setting(0.5, doc="seconds between two beats", least=0.05, most=10)
    silent_s: float = setting(
        4.0, doc="seconds without a beat after which a process counts as dead", least=0.2
    )
    restarts: int = setting(
        5, doc="restarts of one process within `restart_window_s` before giving up", least=0
    )
    restart_window_s: float = setting(300.0, doc="window of that count, in seconds", least=1)
    backoff_s: float = setting(
        0.25, doc="seconds before the first restart; doubles each time", least=0, most=60
    )
    drain_s: float = setting(
        30.0, doc="seconds in which open segments may finish after Ctrl-C", least=0
    )


@dataclass(frozen=True, slots=True)
class Config:
    """One run, whole."""

    profile: str = setting(doc="name of the profile")
    asr: WorkerConfig | None = setting(None, doc="who transcribes; none: text voters are missing")
    refiner: WorkerConfig | None = setting(
        None, doc="who is asked to choose again where the vote was close; none: nobody"
    )
    voters: Mapping[str, WorkerConfig] = dataclasses.field(
        default_factory=dict, metadata={"doc": "who votes", "least": None, "most": None}
    )
    vad: VadConfig = field(default_factory=VadConfig, metadata={"doc": "voice activity"})
    flow: FlowConfig = field(default_factory=FlowConfig, metadata={"doc": "flow"})
    deadlines: DeadlineConfig = field(default_factory=DeadlineConfig, metadata={"doc": "deadlines"})
    vote: VoteConfig = field(default_factory=VoteConfig, metadata={"doc": "vote"})
    supervise: SuperviseConfig = field(
        default_factory=SuperviseConfig, metadata={"doc": "processes"}
    )
    network: NetworkConfig = field(
        default_factory=NetworkConfig, metadata={"doc": "inputs over a network"}
    )
    feeds: FeedConfig = field(default_factory=FeedConfig, metadata={"doc": "podcast feeds"})
    rules: tuple[RuleConfig, ...] = setting((), doc="when to raise an alert (docs/rules.md)")


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


def encode(config: Config) -> bytes:
    """Serialise for the processes of a run; `decode` is its inverse."""
    return msgspec.json.encode(config)


def decode(data: bytes) -> Config:
    """Read what `encode` wrote."""
    return msgspec.json.decode(data, type=Config)


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
            text = f"voters.{name} is no name for a voter: letters and digits, none of {RESERVED}"
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
    yield from hosting.conflicts(config.voters, config.asr)
    yield from rules.conflicts(config.rules)
