"""Client of an OpenAI-compatible chat server: retries, time limits, clear errors.

    Chat.ask(body, deadline), or Chat.insist(body, timeout_s, wait_s) for work that can wait
        -> the body of the answer, or raises
    Chat.look(path, deadline) -> a page of the server, or raises
        ServerError     no answer: unreachable, too slow, broken, overloaded, or key refused
        RejectedError   the server rejects the request: an unknown field, a text that is too long

Threads share one client, its connections and its circuit breaker.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from abhinaya.models.errors import OptionsError
from abhinaya.models.timed_http import TimedClient, retry_after_s

MAX_REPLY_BYTES: Final = 1 << 20
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_REJECTED: Final = frozenset({400, 413, 415, 422, 501})
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_LONGEST_WAIT_S: Final = 30.0
"""Longest pause between two tries of `insist`, unless the server asks for more."""
_SHOWN: Final = 120

log: Final = logging.getLogger(__name__)


class ServerError(Exception):
    """The server gave no answer; the text holds reason and remedy.

    Args:
        text: reason and remedy.
        wait_s: pause that the server asks for.
        lasts: whether waiting does not help: the key, the model or the address is wrong.

    """

    def __init__(self, text: str, wait_s: float | None = None, lasts: bool = False) -> None:
        super().__init__(text)
        self.wait_s, self.lasts = wait_s, lasts


class RejectedError(Exception):
    """The server rejects this request; the text is the server's message."""


class _AgainError(Exception):
    """An attempt failed, but a retry may succeed. `wait_s`: pause requested by the server."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait_s = reason, wait_s


@dataclass(frozen=True, slots=True)
class Access:
    """Address, key and limits of a server."""

    url: str
    """Base address, which ends in /v1."""
    key: str | None = None
    key_name: str = ""
    """Environment variable that holds the key."""
    attempts: int = 3
    connections: int = 8


@dataclass(slots=True)
class Circuit:
    """A circuit breaker: stops requests after `limit` failures in a row; later allows one trial.

    Time is passed in. The class is not thread-safe: its owner holds a lock.
    """

    limit: int
    """Failures in a row that open the circuit."""
    rest_s: float
    """Seconds from opening the circuit to the trial request."""
    failures: int = 0
    _open_until: float | None = None
    _trying: bool = False

    def wait_s(self, now: float) -> float:
        """Return the seconds until a request is allowed; 0: send it now.

        While a trial request is under way, others wait `rest_s` from now.
        """
        if self._open_until is None:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        if self._trying:
            return self.rest_s
        self._trying = True
        return 0.0

    def succeeded(self) -> None:
        """Record that the server answered."""
        self.failures, self._open_until, self._trying = 0, None, False

    def failed(self, now: float) -> None:
        """Record that the server did not answer."""
        self.failures += 1
        if self.failures >= self.limit or self._trying:
            self._open_until, self._trying = now + self.rest_s, False


@dataclass(slots=True)
class Chat:
    """A thread-safe client of one server. Tests pass their own `clock` and `sleep`."""

    access: Access
    circuit: Circuit
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _idle: queue.LifoQueue[TimedClient] = field(init=False, default_factory=queue.LifoQueue)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.access.key}"} if self.access.key else {}
        # A proxy of the environment cannot reach servers on this machine.
        verify, trusts = httpx2.create_ssl_context(), not is_loopback(self.access.url)
        for _ in range(self.access.connections):
            self._idle.put(TimedClient(headers=headers, verify=verify, trust_env=trusts))

    def ask(self, body: Mapping[str, Any], deadline: float) -> bytes:
        """Send a chat completion request; return the body of the answer.

        Raises:
            ServerError: no answer came by `deadline`, a time of `clock`.
            RejectedError: the server rejects the request.

        """
        with self._lock:
            wait_s = self.circuit.wait_s(self.clock())
        if wait_s:
            raise ServerError(
                f"{self._where} failed {self.circuit.failures} times in a row;"
                f" it is asked again in {wait_s:.0f} s"
            )
        content = json.dumps(body).encode()
        try:
            answer = self._persistent(content, deadline)
        except RejectedError:  # a rejection is an answer too
            self._note(works=True)
            raise
        except BaseException:
            self._note(works=False)
            raise
        self._note(works=True)
        return answer

    def insist(self, body: Mapping[str, Any], timeout_s: float, wait_s: float) -> bytes:
        """Return the body of the answer; ask again for `wait_s` while the server gives none.

        Raises:
            ServerError: no answer came in this time, or none can come.
            RejectedError: the server rejects the request.

        """
        end, pause_s = self.clock() + wait_s, 1.0
        while True:
            try:
                return self.ask(body, self.clock() + timeout_s)
            except ServerError as error:
                pause_s = max(pause_s, error.wait_s or 0.0)
                if error.lasts or self.clock() + pause_s >= end:
                    raise
                if self.circuit.failures == 1:
                    log.warning("%s; it is asked again for %.0f s", error, wait_s)
            self.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_WAIT_S)

    def look(self, path: str, deadline: float) -> bytes:
        """Return a page of the server: `/models`, or `//version` beside its /v1. One try.

        Raises ServerError, RejectedError: as `ask`; the circuit breaker takes no notice.
        """
        base, own = self.access.url, path.startswith("//")
        url = f"{base.removesuffix('/v1')}{path[1:]}" if own else f"{base}{path}"
        try:
            return self._once(None, deadline, url)
        except _AgainError as error:
            raise ServerError(f"{self._where} {error.reason}", error.wait_s) from error

    def close(self) -> None:
        """Close the connections."""
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    @property
    def _where(self) -> str:
        return f"the server at {self.access.url}"

    def _note(self, *, works: bool) -> None:
        with self._lock:
            if works:
                self.circuit.succeeded()
            else:
                self.circuit.failed(self.clock())

    def _persistent(self, content: bytes, deadline: float) -> bytes:
        for attempt in range(self.access.attempts):
            try:
                return self._once(content, deadline, f"{self.access.url}/chat/completions")
            except _AgainError as error:
                pause = error.wait_s
                if pause is None:
                    # Random, so that clients that failed together do not retry together.
                    pause = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
                    pause *= random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                last = attempt + 1 == self.access.attempts
                if last or self.clock() + pause >= deadline:
                    tries = f"{attempt + 1} tries" if attempt else "1 try"
                    asked = f", asking to wait {pause:.4g} s" if error.wait_s else ""
                    text = f"{self._where} {error.reason}{asked} ({tries})"
                    raise ServerError(text, error.wait_s) from error
                self.sleep(pause)
        raise AssertionError("attempts is at least 1")

    def _once(self, content: bytes | None, deadline: float, url: str) -> bytes:
        left = deadline - self.clock()
        if left <= 0:
            raise ServerError(f"{self._where} was not asked: the time for this batch was used up")
        try:
            client = self._idle.get(timeout=left)
        except queue.Empty:
            raise ServerError(f"{self._where} was not asked: all connections are busy") from None
        done = "answer"
        try:
            with client.stream(
                "GET" if content is None else "POST",
                url,
                left,
                content=content,
                headers={"Content-Type": "application/json"},
            ) as response:
                done = "finish its answer"
                body = self._read(response)
        except httpx2.TimeoutException as error:
            raise ServerError(f"{self._where} did not {done} within {left:.1f} s") from error
        except httpx2.ConnectError as error:
            raise _AgainError("cannot be reached; is it running, and is base_url right?") from error
        except httpx2.TransportError as error:
            raise _AgainError(f"broke the connection ({error or type(error).__name__})") from error
        except (httpx2.DecodingError, httpx2.StreamError) as error:
            raise _AgainError(f"sent what cannot be read ({error})") from error
        finally:
            self._idle.put(client)
        if response.is_success:
            return body
        raise self._refusal(response, body)

    def _read(self, response: httpx2.Response) -> bytes:
        """Read the body; limit its size."""
        body = bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MAX_REPLY_BYTES:
                raise ServerError(f"{self._where} sent more than {MAX_REPLY_BYTES >> 20} MiB")
        return bytes(body)

    def _refusal(self, response: httpx2.Response, body: bytes) -> Exception:
        status, message = response.status_code, _message(body, self.access.key)
        if status in _AGAIN:
            reason = "is overloaded (429)" if status == 429 else f"failed ({status}: {message})"
            return _AgainError(
                reason, retry_after_s(response.headers.get("Retry-After"), time.time())
            )
        if status in _REJECTED:
            return RejectedError(message)
        if status in (401, 403):
            key = (
                f"the key in {self.access.key_name}"
                if self.access.key
                else "requests without a key"
            )
            return ServerError(f"{self._where} refuses {key} ({status}: {message})", lasts=True)
        if status == 404:
            return ServerError(
                f"{self._where} does not have this model, or no /chat/completions ({message});"
                " check the options base_url and model",
                lasts=True,
            )
        return ServerError(f"{self._where} answers {status}: {message}; check base_url", lasts=True)


def checked_url(url: str, allow_http: bool) -> str:
    """Return the base address of a server without its last slash.

    Raises:
        OptionsError: not a web address, with credentials, or unencrypted to another machine.

    """
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise _no_address() from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _no_address()
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise OptionsError(
            f"base_url of {parsed.host}",
            "it carries a user, a query or a fragment",
            "give a key by the environment variable that api_key_env names",
        )
    if parsed.scheme == "http" and not (allow_http or is_loopback(url)):
        raise OptionsError(
            f"base_url {url!r}",
            "transcripts and the key would travel unencrypted to another machine",
            "use https, an ssh tunnel to it, or allow_http = true in a network you trust",
        )
    return str(parsed).rstrip("/")


def _no_address() -> OptionsError:
    # without the address: it may hold a password
    return OptionsError("base_url", "is not a web address", "use http://HOST:PORT/v1")


def is_loopback(url: str) -> bool:
    """Whether an address belongs to this machine."""
    host = httpx2.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _message(body: bytes, key: str | None) -> str:
    """Return the message in an error body of any form; a server may repeat the key in it."""
    text = body.decode("utf-8", "replace")
    text = text.replace(key, "***") if key else text
    try:
        found = json.loads(text)
        for name in ("error", "message", "detail"):
            if isinstance(found, dict) and name in found:
                found = found[name]
        text = found if isinstance(found, str) else json.dumps(found)
    except (ValueError, RecursionError):
        pass
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else flat[:_SHOWN] + "..."
