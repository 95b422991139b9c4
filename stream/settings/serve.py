"""The settings of `abhinaya serve`, section [serve] of a profile."""

from __future__ import annotations

from dataclasses import dataclass, field

from abhinaya.models.fields import setting
from abhinaya.stream.settings.siprec import SiprecConfig


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The gateway: its limits."""

    connections: int = setting(
        12_000, doc="connections at a time; a further one gets status 503", least=8, most=100_000
    )
    idle_s: float = setting(
        10.0,
        doc="seconds in which a connection must send a whole request; then it is closed",
        least=0.1,
        most=600,
    )
    requests_per_s: float = setting(
        50.0, doc="requests a second of one client, on average", least=0.1, most=100_000
    )
    requests_at_once: int = setting(
        400, doc="requests of one client in a moment", least=1, most=100_000
    )
    body_kb: int = setting(
        1024, doc="longest body of a request that is not an upload, in kB", least=1, most=100_000
    )
    upload_mb: int = setting(500, doc="longest upload, in MB", least=1, most=100_000)
    message_kb: int = setting(64, doc="longest message of a WebSocket, in kB", least=1, most=16_384)
    queue: int = setting(
        5_000,
        doc="events that wait for one slow reader; further ones are dropped, and it is said",
        least=1,
        most=1_000_000,
    )
    session_h: float = setting(
        12.0, doc="hours after which a browser must log in again", least=0.01, most=720
    )
    files_at_once: int = setting(
        8, doc="files and addresses of the API that are read at a time", least=1, most=256
    )
    files_waiting: int = setting(
        100, doc="further ones that may wait; then status 503", least=0, most=10_000
    )
    calls: int = setting(
        500,
        doc="calls at a time whose audio is pushed; a further one is refused",
        least=1,
        most=3000,
    )
    audiosocket: str = setting(
        "", doc="IP:PORT for AudioSocket of Asterisk, loopback or private; empty: off"
    )
    twilio_token_file: str = setting(
        "", doc="file with the auth token of the Twilio account (or $TWILIO_AUTH_TOKEN)"
    )
    twilio_next: str = setting(
        "", doc="address where Twilio continues a call after its stream has begun"
    )
    siprec: SiprecConfig = field(
        default_factory=SiprecConfig, metadata={"doc": "calls of recorders of a telephone system"}
    )
