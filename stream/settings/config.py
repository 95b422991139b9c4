"""The settings of a run: one frozen dataclass for each topic, each default written once.

The defaults of [vote], [serve], [compliance] and [[rules]] are in files of these names, those of an
input in `sources/base.py`; all others are here. A profile is a TOML file with these fields
(`profile.py`). The command line is built from the same fields (`flags.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from abhinaya.models.fields import setting
from abhinaya.models.text import pack, unpack
from abhinaya.stream.settings.compliance import ComplianceConfig
from abhinaya.stream.settings.rules import RuleConfig
from abhinaya.stream.settings.serve import ServeConfig
from abhinaya.stream.settings.vote import VoteConfig

EMBEDDED: Final = "embedded"
"""The default profile."""


@dataclass(frozen=True, slots=True)
class VadConfig:
    """Voice activity detection, and the length of segments."""

    start_threshold: float = setting(
        0.5, doc="speech probability that begins a segment", least=0, most=1
    )
    end_threshold: float = setting(
        0.35, doc="speech probability under which silence begins", least=0, most=1
    )
    min_speech_s: float = setting(
        0.25, doc="shorter bursts do not count as speech, in seconds", least=0.032, most=5
    )
    min_silence_s: float = setting(
        0.4,
        doc="silence that ends a segment, in seconds; it delays every label",
        least=0.032,
        most=5,
    )
    pad_s: float = setting(
        0.15, doc="audio kept before and after speech, in seconds", least=0, most=1
    )
    max_segment_s: float = setting(
        10.0, doc="longest segment, in seconds; the voters accept at most 10", least=1, most=10
    )
    cut_search_s: float = setting(
        3.0,
        doc="seconds before that limit in which a segment is cut at a brief silence, "
        "or else at the deepest pause",
        least=0,
        most=9,
    )
    brief_silence_s: float = setting(
        0.1, doc="length of a brief silence, in seconds", least=0.032, most=5
    )
    provisional_after_s: float = setting(
        0.7,
        doc="seconds of speech in a live stream before the first provisional label",
        least=0.25,
        most=10,
    )
    provisional_every_s: float = setting(
        0.7,
        doc="seconds between provisional labels, more if the nodes are busy; 0: no such labels",
        least=0,
        most=10,
    )
    provisional_pause_s: float = setting(
        0.2,
        doc="seconds of silence after which one more provisional label is made, so that the "
        "transcript is complete when the segment ends; 0: none",
        least=0,
        most=5,
    )


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """Limits on the number of segments in progress."""

    file_window: int = setting(
        8, doc="segments of one file in progress at once; then reading waits", least=1, most=1024
    )
    files_window: int = setting(
        64,
        doc="the same for all files together, less if the nodes are slow; the files that began "
        "first are processed, the others wait",
        least=1,
        most=65_536,
    )
    live_backlog: int = setting(
        24,
        doc="segments of one live stream that may wait; with more, the oldest becomes a gap",
        least=1,
        most=1024,
    )
    audio_mib: int = setting(
        1024,
        doc="MiB of audio of one key that the hub holds; with more, files wait and live segments "
        "become gaps",
        least=1,
        most=1_000_000,
    )
    kept_s: float = setting(
        1800.0,
        doc="seconds of speech of one live input that are kept while the hub does not answer, "
        "32 kB each; with more, the oldest becomes a gap",
        least=1,
        most=86_400,
    )


@dataclass(frozen=True, slots=True)
class DeadlineConfig:
    """Time limits."""

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
    """One service (a voter, the transcriber or the refiner): its model and its batches."""

    model: str = setting(doc="name in the registry (`abhinaya models list`)")
    replicas: int = setting(1, doc="processes that share the work", least=0, most=64)
    needed: bool = setting(
        False, doc="whether a run ends before its inputs are opened if the model cannot be loaded"
    )
    host: str = setting(
        "",
        doc="voter, or asr, whose processes this voter shares; common parts are loaded once "
        "(S2 and ST1: Whisper's encoder and BEATs), and both are restarted together",
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
    """Start, heartbeat, restart and end of the processes."""

    ready_s: float = setting(120.0, doc="seconds that a process may take to become ready", least=1)
    beat_s: float = setting(0.5, doc="seconds between two heartbeats", least=0.05, most=10)
    silent_s: float = setting(
        4.0, doc="seconds without a heartbeat after which a process counts as dead", least=0.2
    )
    restarts: int = setting(
        5, doc="restarts of one process within `restart_window_s` before giving up", least=0
    )
    restart_window_s: float = setting(300.0, doc="window of that count, in seconds", least=1)
    backoff_s: float = setting(
        0.25, doc="seconds before the first restart; doubles each time", least=0, most=60
    )
    canary_s: float = setting(
        30.0,
        doc="seconds between two test recordings sent to a node, which is taken out if it answers "
        "wrongly; 0: none",
        least=0,
    )
    drain_s: float = setting(
        3.0, doc="seconds in which open segments may finish after Ctrl-C or SIGTERM", least=0
    )
    hub_wait_s: float = setting(
        600.0,
        doc="seconds that a run waits for a hub on another machine that does not answer any more",
        least=0,
    )
    take_over_s: float = setting(
        10.0,
        doc="seconds without an answer after which the calls of a cell go to other cells; longer "
        "than the hub of a cell needs to be started again",
        least=1,
    )
    logs_days: float = setting(
        14.0,
        doc="days after which the logs of failed runs are removed from the folder for temporary "
        "files; 0: never",
        least=0,
    )
    forget_s: float = setting(
        900.0,
        doc="seconds without front and recorder after which a hub ends the streams of a run; "
        "longer than `hub_wait_s`",
        least=1,
    )


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Connections to inputs over a network."""

    connect_s: float = setting(10.0, doc="seconds to connect to a server", least=0.1, most=120)
    stall_s: float = setting(
        15.0, doc="seconds without a byte after which a connection counts as lost", least=0.2
    )
    first_pause_s: float = setting(
        0.5,
        doc="seconds before the first reconnection; doubles with each, varied at random by half",
        least=0.01,
        most=60,
    )
    longest_pause_s: float = setting(
        30.0, doc="maximum seconds between two tries to reconnect", least=0.01, most=3600
    )
    give_up_s: float = setting(
        300.0, doc="seconds without a connection after which a lost input is given up", least=0
    )
    redirects: int = setting(10, doc="number of redirects that are followed", least=0, most=30)
    rtsp_transport: Literal["tcp", "udp"] = setting(
        "tcp", doc="what carries the audio of rtsp: addresses"
    )


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """Podcast feeds."""

    parallel: int = setting(2, doc="episodes processed at once, of all feeds", least=1, most=64)
    interval_s: float = setting(
        900.0, doc="seconds between two checks of a feed that is followed", least=0.05
    )
    attempts: int = setting(
        3, doc="tries of one episode in one run, each at another check", least=1, most=100
    )
    max_feed_mb: float = setting(16.0, doc="a longer feed is refused, in MB", least=0.001)
    max_episode_mb: float = setting(2000.0, doc="a longer episode is refused, in MB", least=0.001)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a run."""

    profile: str = setting(doc="name of the profile")
    asr: WorkerConfig | None = setting(None, doc="transcriber; none: text voters are missing")
    refiner: WorkerConfig | None = setting(
        None, doc="model that chooses again after a close vote; none: the vote stands"
    )
    voters: Mapping[str, WorkerConfig] = dataclasses.field(
        default_factory=dict, metadata={"doc": "the voters", "least": None, "most": None}
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
    compliance: ComplianceConfig = field(
        default_factory=ComplianceConfig, metadata={"doc": "whose voice is judged"}
    )
    serve: ServeConfig = field(default_factory=ServeConfig, metadata={"doc": "the gateway"})
    rules: tuple[RuleConfig, ...] = setting((), doc="when to raise an alert (docs/rules.md)")


def workers_of(config: Config) -> dict[str, WorkerConfig]:
    """Return the worker settings by service: the transcriber, the voters, the refiner."""
    workers = {"asr": config.asr, **config.voters, "refiner": config.refiner}
    return {name: worker for name, worker in workers.items() if worker is not None}


def guests(voters: Mapping[str, WorkerConfig], service: str) -> list[str]:
    """Return the voters that share the processes of `service`."""
    return [name for name, worker in voters.items() if worker.host == service]


def encode(config: Config) -> bytes:
    """Return a config as bytes for the processes of a run; `decode` is the inverse."""
    return pack(config)


def decode(data: bytes) -> Config:
    """Return the config from the bytes of `encode`."""
    return unpack(data, Config)
