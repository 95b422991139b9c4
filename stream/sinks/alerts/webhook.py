"""Posts an alert to a webhook with retries, signed as specified by standardwebhooks.com.

webhook-id          the same in every try of one alert
webhook-timestamp   Unix seconds of the try
webhook-signature   v1,BASE64 of HMAC-SHA256(secret, "ID.TIMESTAMP.BODY")
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from abhinaya.stream.sinks.alerts.worker import DeliveryError, Job

if TYPE_CHECKING:
    from abhinaya.models.timed_http import TimedClient

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Maximum pause, even if the server asks for a longer one."""
RETRIED_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
PREFIX: Final = "whsec_"
"""Prefix of a secret in base64; a secret without the prefix is used as it is."""


class _RetryError(Exception):
    """This try failed; another may succeed."""

    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        self.pause_s = pause_s
        super().__init__(reason)


@dataclass(slots=True)
class Webhook:
    """Posts alerts to one address."""

    url: str
    secret: bytes
    """Key that signs the posts; empty: they are not signed."""
    timeout_s: float
    """Time limit of a try, however slowly the server answers."""
    attempts: int
    clock: Callable[[], float] = time.time
    """Returns Unix seconds."""
    first_pause_s: float = FIRST_PAUSE_S
    """Pause between the first two tries; it doubles each time."""
    _http: TimedClient | None = None

    @property
    def host(self) -> str:
        """Host name for messages; the path of a webhook is often secret."""
        return urlsplit(self.url).hostname or self.url

    def deliver(self, job: Job, stop: threading.Event) -> None:
        """Post an alert, with retries until it is accepted or refused, or no try is left.

        Raises:
            DeliveryError: the last failure.

        """
        for attempt in range(self.attempts):
            try:
                self._post(job)
                return
            except _RetryError as error:
                reason, pause_s = str(error), error.pause_s
            if pause_s is None:
                # random, so that webhooks that failed together are not retried together
                pause_s = self.first_pause_s * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311
            last = attempt + 1 == self.attempts
            if last or stop.wait(min(pause_s, LONGEST_PAUSE_S)):
                break
        tries = "1 try" if attempt == 0 else f"{attempt + 1} tries"
        raise DeliveryError(f"{self.host} {reason} ({tries})")

    def _post(self, job: Job) -> None:
        import httpx2  # slow to import

        from abhinaya.models.timed_http import TimedClient, retry_after_s

        if self._http is None:
            # a proxy of the environment cannot reach this machine's own servers
            own = self.host in ("localhost", "127.0.0.1", "::1")
            self._http = TimedClient(trust_env=not own)
        try:
            with self._http.stream(
                "POST", self.url, self.timeout_s, content=job.body, headers=self._headers(job)
            ) as answer:  # the body of the answer is not read
                status, after = answer.status_code, answer.headers.get("retry-after")
        except httpx2.TimeoutException as error:
            raise _RetryError(f"did not answer within {self.timeout_s:g} s") from error
        except httpx2.ConnectError as error:
            raise _RetryError(f"cannot be reached: {error}") from error
        except httpx2.TransportError as error:
            raise _RetryError(f"broke the connection: {error or type(error).__name__}") from error
        except httpx2.InvalidURL as error:
            raise DeliveryError(f"{self.host} is not an address: {error}") from error
        if 200 <= status < 300:
            return
        if status in RETRIED_STATUS:
            raise _RetryError(f"answered {status}", retry_after_s(after, self.clock()))
        hint = ": give the address that it leads to" if 300 <= status < 400 else ""
        raise DeliveryError(f"{self.host} answered {status}{hint}")

    def _headers(self, job: Job) -> dict[str, str]:
        headers = {"content-type": "application/json", "user-agent": "abhinaya"}
        headers["webhook-id"] = job.id
        headers["webhook-timestamp"] = f"{int(self.clock())}"
        if self.secret:
            headers["webhook-signature"] = sign(
                self.secret, job.id, headers["webhook-timestamp"], job.body
            )
        return headers


def sign(secret: bytes, id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a post."""
    content = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, content, hashlib.sha256)).decode()


def secret_of(text: str) -> bytes:
    """Return the key for a secret in text form.

    Raises:
        ValueError: the part after `whsec_` is not base64.

    """
    if not text.startswith(PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64 behind {PREFIX}") from error
