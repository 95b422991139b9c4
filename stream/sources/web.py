"""HTTP for one input: limited redirects, checked certificates, clear errors.

We tested FFmpeg 8.1's own HTTP and HLS readers (`reconnect` options) with the servers of the
tests, and do not use them. They resume a broken file correctly. But they read on in a changed file
of the same length, end without an error if the rest answers 404 or 503, skip missing parts of a
finished HLS broadcast, end a live one at the first failed reload, read an endless playlist into
memory (300 MB in 5 s), and wait without a way to interrupt them.

httpx2 is loaded by the first request, because most runs make none.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources.address import WEB, check_address, join, shown, with_credentials
from abhinaya.stream.sources.base import Warn
from abhinaya.stream.sources.tries import tries

if TYPE_CHECKING:
    import httpx2

    from abhinaya.models.timed_http import Cut

_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed later."""
_THIS_MACHINE: Final = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_CODINGS: Final = ("identity", "gzip", "deflate", "")
"""Content codings that are undone; the first is asked for."""
T = TypeVar("T")
_CHECK: Final = "check the address"
DOCUMENT_STALLS: Final = 20
"""Time for a whole feed or playlist, in `stall_s`; a server may send it byte by byte."""


class HttpError(SourceError):
    """A failed request; if `transient`, the same request may succeed later."""

    def __init__(self, subject: str, reason: str, remedy: str, transient: bool) -> None:
        super().__init__(subject, reason, remedy)
        self.transient = transient


class Web:
    """Requests for one input.

    Args:
        subject: name of the input in messages.
        settings: time-outs and pauses.
        warn: receives messages about lost connections.
        stop: ends all pauses when set.
        address: its user and password are sent to its origin, and to no other.

    """

    def __init__(
        self,
        subject: str,
        settings: NetworkConfig,
        warn: Warn,
        stop: threading.Event,
        address: str = "",
    ) -> None:
        self.subject = subject
        self.settings = settings
        self.warn = warn
        self.stop = stop
        self._address = address
        self._made: httpx2.Client | None = None

    def remark(self, text: str) -> None:
        """Send a message about the input to `warn`."""
        self.warn(f"{self.subject}: {text}")

    def error(self, reason: str, remedy: str = "", *, transient: bool = False) -> HttpError:
        """Return an error about the input."""
        return HttpError(self.subject, reason, remedy, transient)

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, cut: Cut | None = None
    ) -> httpx2.Response:
        """Request `url`; return a successful answer with its body unread.

        `cut` limits the time until then, and also that of the body; without it only the former is
        limited.

        Raises:
            HttpError: no answer, or an error status.
            SourceError: the address is neither http nor https.

        """
        import httpx2

        check_address(url, WEB)
        from abhinaya.models.timed_http import Cut

        client = self._client()
        limit_s = self.settings.connect_s + 2 * self.settings.stall_s
        timed = cut or Cut(limit_s)
        try:
            url = with_credentials(url, self._address)
            request = client.build_request(
                "GET", url, headers=dict(headers or {}), extensions={"trace": timed.note}
            )
            answer = client.send(request, stream=True)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            if timed.over:
                raise self._too_slow() from error
            raise self._fault(error) from error
        finally:
            if cut is None:
                timed.stop()
        coding = answer.headers.get("content-encoding", "identity").lower()
        if (answer.is_success and coding in _CODINGS) or answer.status_code == 304:
            return answer
        answer.close()
        if answer.is_success:
            reason = f"is sent in a coding that was not asked for ({coding})"
            raise self.error(reason, "fetch it with another program, and name the file")
        raise self._refusal(answer.status_code)

    def fetch(
        self, url: str, limit: int, headers: Mapping[str, str] | None = None
    ) -> tuple[httpx2.Response, bytes]:
        """Request `url`; return the answer and its whole body of at most `limit` bytes.

        Raises:
            HttpError: the request failed, or the body is longer.
            SourceError: the address is neither http nor https.

        """
        from abhinaya.models.timed_http import Cut

        cut = Cut(DOCUMENT_STALLS * self.settings.stall_s)
        try:
            answer = self.get(url, headers, cut)
            try:
                data = b"".join(self.body(answer, limit))
            finally:
                answer.close()
        except HttpError as error:
            raise (self._too_slow() if cut.over else error) from error
        finally:
            cut.stop()
        if cut.over:  # a body without a length ends as if it were whole
            raise self._too_slow()
        return answer, data

    def body(self, answer: httpx2.Response, limit: float = float("inf")) -> Iterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            HttpError: the body breaks off, stalls, or is longer than `limit` bytes.

        """
        import httpx2

        length = 0
        try:
            for part in answer.iter_bytes():
                length += len(part)
                if length > limit:
                    reason = f"is longer than {limit / 1e6:g} MB"
                    raise self.error(reason, "raise the limit if it is right")
                yield part
        except httpx2.HTTPError as error:
            raise self._fault(error) from error

    def tries(self, patience_s: float, *, at_once: bool = False) -> Iterator[None]:
        """Yield once for each try (see `tries.tries`)."""
        return tries(self.settings, self.stop, patience_s, at_once=at_once)

    def patiently(
        self, attempt: Callable[[], T], patience_s: float | None = None, most: int = sys.maxsize
    ) -> T:
        """Call `attempt` until it succeeds or fails for good; return its result.

        Args:
            attempt: raises HttpError if it fails.
            patience_s: no try begins later than this; None: `give_up_s` of the settings.
            most: largest number of tries.

        Raises:
            HttpError: the last failure.

        """
        failure = self.error("was interrupted")
        patience_s = self.settings.give_up_s if patience_s is None else patience_s
        for number, _ in enumerate(self.tries(patience_s, at_once=True), 1):
            try:
                return attempt()
            except HttpError as error:
                failure = error
            if number == most or not failure.transient:
                break
        raise failure

    def close(self) -> None:
        """Close every connection."""
        if self._made is not None:
            self._made.close()

    def _client(self) -> httpx2.Client:
        import httpx2

        if self._made is None:
            settings = self.settings
            self._made = httpx2.Client(
                timeout=httpx2.Timeout(settings.connect_s, read=settings.stall_s),
                follow_redirects=True,
                max_redirects=settings.redirects,
                # a compressed body cannot be resumed
                headers={"user-agent": "abhinaya", "accept-encoding": "identity"},
                # no proxy for servers on this machine
                mounts=dict.fromkeys(_THIS_MACHINE),
                event_hooks={"response": [self._check_redirect]},
            )
        return self._made

    def _check_redirect(self, answer: httpx2.Response) -> None:
        """Check where an answer redirects to, before that is followed.

        Raises:
            HttpError: to an address that is neither http nor https, or not an address.

        """
        if answer.has_redirect_location:
            target = join(str(answer.url), answer.headers["location"].strip())
            try:
                check_address(target, WEB)
            except SourceError as error:
                reason = f"redirects to {shown(target)}, which {error.reason}"
                raise self.error(reason, "give the address of the audio") from error

    def _too_slow(self) -> HttpError:
        return self.error("answers too slowly", "is the server overloaded?", transient=True)

    def _fault(self, error: Exception) -> HttpError:
        """Translate an error of httpx2."""
        import httpx2

        settings = self.settings
        if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
            reason = f"does not answer within {settings.connect_s:g} s"
            return self.error(reason, _CHECK + " and the network", transient=True)
        if isinstance(error, httpx2.TimeoutException):
            reason = f"sent nothing for {settings.stall_s:g} s"
            return self.error(reason, "is the server overloaded?", transient=True)
        if isinstance(error, httpx2.TooManyRedirects):
            reason = f"redirects more than {settings.redirects} times"
            return self.error(reason, "give the address that it should lead to")
        if isinstance(error, httpx2.ConnectError):
            return self._no_connection(str(error))
        if isinstance(error, httpx2.RemoteProtocolError) and "ICY " in str(error):
            reason = "answers in the protocol of Shoutcast 1 (ICY), which is not HTTP"
            return self.error(reason, "pipe it: ffmpeg -i ADDRESS -f wav - | abhinaya-stream -")
        if isinstance(error, httpx2.RemoteProtocolError) and not re.search("connect", str(error)):
            return self.error("does not answer in valid HTTP", _CHECK, transient=True)
        if isinstance(error, httpx2.UnsupportedProtocol):
            reason = "leads to an address that is neither http nor https"
            return self.error(reason, "give the address of the audio")
        if isinstance(error, httpx2.HTTPError):
            return self.error("the connection was cut", "try again", transient=True)
        return self.error("is not a valid address, or leads to one that is not", _CHECK)

    def _refusal(self, status: int) -> HttpError:
        if status in (401, 403, 407):
            remedy = "does it need a password? write https://USER:PASSWORD@HOST/..."
            return self.error(f"refuses access (HTTP {status})", remedy)
        if status in (404, 410):
            return self.error(f"does not exist (HTTP {status})", _CHECK)
        transient = status in _TRANSIENT
        remedy = "try again later" if transient else _CHECK
        return self.error(f"answers with HTTP {status}", remedy, transient=transient)

    def _no_connection(self, text: str) -> HttpError:
        if "CERTIFICATE" in text.upper():
            why = re.search(r"certificate verify failed: ([^(]*)", text)
            reason = f"its certificate cannot be trusted ({why[1].strip() if why else text})"
            remedy = "set SSL_CERT_FILE to its authority's certificate if you trust it"
            return self.error(reason, remedy)
        if "SSL" in text or "TLS" in text:
            return self.error(f"has no working TLS ({text})", _CHECK)
        why = re.search(r"\[Errno -?\d+\] (.*)", text)
        reason = f"cannot be reached ({why[1] if why else text})"
        return self.error(reason, _CHECK + " and the network", transient=True)
