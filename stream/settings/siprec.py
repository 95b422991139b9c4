"""The settings of SIPREC, section [serve.siprec] of a profile."""

from __future__ import annotations

from dataclasses import dataclass

from abhinaya.models.fields import setting


@dataclass(frozen=True, slots=True)
class SiprecConfig:
    """Recorders of a telephone system send their calls over SIP."""

    listen: str = setting("", doc="HOST:PORT of SIP over UDP and TCP; empty: off")
    peers: tuple[str, ...] = setting(
        ("127.0.0.0/8", "::1"), doc="addresses and networks of the recorders that may call"
    )
    host: str = setting("", doc="our address in answers; empty: the one that the recorder reaches")
    ports: tuple[int, int] = setting(
        (30_000, 31_999), doc="first and last UDP port of RTP; a party needs two"
    )
    timeout_s: float = setting(
        30.0, doc="seconds without a packet of RTP that end a call", least=1, most=3_600
    )
