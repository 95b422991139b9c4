"""HTTP for inputs: redirects counted, certificates checked, faults in plain words.

httpx2 is loaded by the first request: most runs make none.
"""

from __future__ import annotations

import os
import random
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.address import WEB, check_address, is_own, shown

if TYPE_CHECKING:
    import httpx2

AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may be taken."""
_CHECK: Final = "check the address"


class WebError(OSError):
    """A request that failed.

    Args:
        reason: in plain words, without the address.
        remedy: what to do about it.
        passing: whether the same request may succeed later.

    """

    def __init__(self, reason: str, remedy: str, *, passing: bool) -> None:
        self.reason = reason
        self.remedy = remedy
        self.passing = passing
        super().__init__(reason)

    def error(self, url: str) -> SourceError:
        """Give the error of the input that `url` names."""
        return SourceError(shown(url), self.reason, self.remedy)


class Web:
    """Requests of one input.

    Args:
        settings: patience.

    """

    def __init__(self, settings: NetworkConfig) -> None:
        self._settings = settings
        self._clients: dict[bool, httpx2.Client] = {}

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Ask for `url`; the answer's status is a success, and its body is still to be read.

        Raises:
            WebError: no answer, or one that is none.
            SourceError: the address is of another protocol.

        """
        import httpx2

        check_address(url, WEB)
        try:
            client = self._client(is_own(url))
            request = client.build_request("GET", url, headers=dict(headers or {}))
            answer = client.send(request, stream=True)
        except Exception as error:  # what a library raises for odd addresses is not its own kind
            if not isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | ValueError):
                raise
            raise self.fault(error) from error
        if answer.is_success or answer.status_code == 304:
            return answer
        answer.close()
        raise _refusal(answer.status_code)

    def fetch(
        self, url: str, limit: int, headers: Mapping[str, str] | None = None
    ) -> tuple[httpx2.Response, bytes]:
        """Ask for `url` and read the whole body, of at most `limit` bytes.

        Raises:
            WebError: it failed, or is longer.
            SourceError: the address is of another protocol.

        """
        answer = self.get(url, headers)
        try:
            return answer, b"".join(self.body(answer, limit))
        finally:
            answer.close()

    def body(self, answer: httpx2.Response, limit: float = float("inf")) -> Iterator[bytes]:
        """Give the body as it comes.

        Raises:
            WebError: it breaks off, stalls, or is longer than `limit` bytes.

        """
        import httpx2

        length = 0
        try:
            for part in answer.iter_bytes():
                length += len(part)
                if length > limit:
                    reason = f"is longer than {limit / 1e6:g} MB"
                    raise WebError(reason, "raise the limit if it is right", passing=False)
                yield part
        except httpx2.HTTPError as error:
            raise self.fault(error) from error

    def fault(self, error: Exception) -> WebError:
        """Give the plain words of an error of httpx2."""
        import httpx2

        settings = self._settings
        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
            reason = f"does not answer within {settings.connect_s:g} s"
            return WebError(reason, _CHECK + " and the network", passing=True)
        if isinstance(error, httpx2.TimeoutException):
            reason = f"sent nothing for {settings.stall_s:g} s"
            return WebError(reason, "is the server overloaded?", passing=True)
        if isinstance(error, httpx2.TooManyRedirects):
            reason = f"redirects more than {settings.redirects} times"
            return WebError(reason, "give the address that it should lead to", passing=False)
        if isinstance(error, httpx2.ConnectError):
            return _no_connection(str(error))
        if isinstance(error, httpx2.UnsupportedProtocol):
            reason = "leads to an address that is neither http nor https"
            return WebError(reason, "give the address of the audio", passing=False)
        if isinstance(error, httpx2.InvalidURL | ValueError):
            return WebError("is no address, or leads to none", _CHECK, passing=False)
        return WebError("the connection was cut", "try again", passing=True)

    def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            client.close()

    def _client(self, own: bool) -> httpx2.Client:
        import httpx2

        if own not in self._clients:
            settings = self._settings
            timeout = httpx2.Timeout(settings.connect_s, read=settings.stall_s)
            self._clients[own] = httpx2.Client(
                timeout=timeout,
                follow_redirects=True,
                max_redirects=settings.redirects,
                # a compressed body cannot be resumed in its middle
                headers={"user-agent": "abhinaya", "accept-encoding": "identity"},
                # a proxy of the environment cannot reach this machine's own servers
                trust_env=not own,
                verify=_trusted(),
            )
        return self._clients[own]


class Backoff:
    """Pauses between tries: doubling, bounded, and spread so that clients do not return together.

    Args:
        settings: first and longest pause.
        stop: ends a pause.

    """

    def __init__(self, settings: NetworkConfig, stop: threading.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._tries = 0

    def wait(self) -> bool:
        """Pause; whether to go on."""
        longest = self._settings.longest_pause_s
        pause = min(longest, self._settings.first_pause_s * 2.0 ** min(self._tries, 60))
        self._tries += 1
        return not self._stop.wait(min(longest, pause * random.uniform(0.5, 1.5)))  # noqa: S311


def _trusted() -> ssl.SSLContext | bool:
    """Give whom to trust: the system's authorities, or those of SSL_CERT_FILE."""
    file = os.environ.get("SSL_CERT_FILE")
    return ssl.create_default_context(cafile=file) if file else True


def _refusal(status: int) -> WebError:
    if status in (401, 403, 407):
        remedy = "does it need a password? write https://USER:PASSWORD@HOST/..."
        return WebError(f"refuses access (HTTP {status})", remedy, passing=False)
    if status in (404, 410):
        return WebError(f"is not there (HTTP {status})", _CHECK, passing=False)
    if 300 <= status < 400:
        return WebError(f"redirects to nowhere (HTTP {status})", _CHECK, passing=False)
    again = status in AGAIN
    return WebError(
        f"answers with HTTP {status}", "try again later" if again else _CHECK, passing=again
    )


def _no_connection(text: str) -> WebError:
    if "CERTIFICATE" in text.upper():
        why = re.search(r"certificate verify failed: ([^(]*)", text)
        reason = f"its certificate cannot be trusted ({why.group(1).strip() if why else text})"
        remedy = "set SSL_CERT_FILE to its authority's certificate if you trust it"
        return WebError(reason, remedy, passing=False)
    if "SSL" in text or "TLS" in text:
        return WebError(f"speaks no TLS that is understood ({text})", _CHECK, passing=False)
    why = re.search(r"\[Errno -?\d+\] (.*)", text)
    reason = f"cannot be reached ({why.group(1) if why else text})"
    return WebError(reason, _CHECK + " and the network", passing=True)
