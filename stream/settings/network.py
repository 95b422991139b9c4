"""Settings of inputs that come over a network: how patient to be, and how much to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from abhinaya.models.fields import setting


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """How to reach inputs over a network, and what to do when they break off."""

    connect_s: float = setting(10.0, doc="seconds to connect to a server", least=0.1, most=120)
    stall_s: float = setting(
        15.0, doc="seconds without a byte after which a connection counts as lost", least=0.2
    )
    first_pause_s: float = setting(
        0.5,
        doc="seconds before the first try to connect again; doubles with each, spread by half",
        least=0.01,
        most=60,
    )
    longest_pause_s: float = setting(
        30.0, doc="seconds between two tries to connect again, at most", least=0.01, most=3600
    )
    give_up_s: float = setting(
        300.0, doc="seconds of trying in vain after which a lost input is given up", least=0
    )
    redirects: int = setting(
        10, doc="redirects that are followed, one after the other", least=0, most=30
    )
    rtsp_transport: Literal["tcp", "udp"] = setting(
        "tcp", doc="what carries the audio of rtsp: addresses"
    )


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """How feeds are followed."""

    parallel: int = setting(2, doc="episodes of all feeds that are heard at once", least=1, most=64)
    interval_s: float = setting(
        900.0, doc="seconds between two looks at a feed that is followed", least=0.05
    )
    attempts: int = setting(
        3, doc="tries of one episode in one run, each at another look", least=1, most=100
    )
    max_feed_mb: float = setting(16.0, doc="a longer feed is refused, in MB", least=0.001)
    max_episode_mb: float = setting(2000.0, doc="a longer episode is refused, in MB", least=0.001)
