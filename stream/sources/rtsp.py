"""RTSP: a camera, a conference bridge or a broadcaster, by FFmpeg."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.address import shown
from abhinaya.stream.sources.base import Block, Warn
from abhinaya.stream.sources.decode import Decoder

_PROTOCOLS: Final = "rtsp,rtsps,rtp,srtp,tcp,tls,udp"


class Rtsp:
    """One RTSP session, of which only the sound is taken.

    Args:
        url: of the stream, with user and password if it needs them.
        settings: patience, and what carries the audio.
        warn: told about packets that cannot be decoded.
        clock: wall clock in Unix seconds.

    Raises:
        SourceError: it cannot be reached, or has no sound.

    """

    def __init__(
        self, url: str, settings: NetworkConfig, warn: Warn, clock: Callable[[], float]
    ) -> None:
        self.silent_s = settings.stall_s
        self._subject = shown(url)
        trusted = ssl.get_default_verify_paths()
        options = {
            "protocol_whitelist": _PROTOCOLS,
            "rtsp_transport": settings.rtsp_transport,
            "allowed_media_types": "audio",
            "timeout": str(round(1e6 * settings.stall_s)),
            # FFmpeg trusts any certificate unless it is told whom to trust
            "tls_verify": "1",
            "ca_file": trusted.cafile or "/etc/ssl/certs/ca-certificates.crt",
        }
        how: dict[str, Any] = {
            "format": "rtsp",
            "options": options,
            "timeout": (settings.connect_s, settings.stall_s),
        }
        try:
            self._decoder = Decoder(url, self._subject, warn, clock=clock, how=how)
        except SourceError as error:
            remedy = "check the address, user and password, and whether it is on the air"
            raise SourceError(self._subject, error.reason, remedy) from error

    @property
    def channels(self) -> int:
        """Channels of its audio."""
        return self._decoder.channels

    @property
    def description(self) -> str:
        """Codec, rate and channels, for people."""
        return f"RTSP, {self._decoder.description}"

    def blocks(self) -> Iterator[Block]:
        """Give the audio; a recording has an end, anything else is cut off.

        Raises:
            SourceError: it was cut off.

        """
        given_s = 0.0
        for block in self._decoder.blocks():
            yield block
            given_s += (block.lost_samples + len(block.samples)) / block.rate
        declared_s = self._decoder.duration_s
        if not 0 < declared_s <= given_s + 1:
            raise SourceError(self._subject, "the server ended the session")

    def cancel(self) -> None:
        """Nothing: the session's own time-out ends it."""

    def close(self) -> None:
        """End the session."""
        self._decoder.close()
