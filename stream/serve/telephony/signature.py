"""Twilio's signatures of requests: base64 of an HMAC-SHA1 of the address and the form's fields."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterator, Sequence
from hashlib import sha1

HEADER = "X-Twilio-Signature"


def signature(token: str, address: str, fields: Sequence[tuple[str, str]] = ()) -> str:
    """Return the signature of a request to an address with these form fields."""
    signed = address + "".join(name + value for name, value in sorted(set(fields)))
    return base64.b64encode(hmac.digest(token.encode(), signed.encode(), sha1)).decode()


def is_signed(
    token: str, host: str, path: str, given: str, fields: Sequence[tuple[str, str]] = ()
) -> bool:
    """Return whether this is the signature of a request that came to a host and path.

    Twilio signs the address that its user typed: the scheme, the port and a last slash may differ
    from what arrives here behind a proxy.
    """
    expected = (signature(token, address, fields) for address in _addresses(host, path))
    return any(hmac.compare_digest(one.encode(), given.encode()) for one in expected)


def _addresses(host: str, path: str) -> Iterator[str]:
    bare = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdecimal() else host
    place, mark, query = path.partition("?")
    for scheme, port in (("wss", 443), ("https", 443), ("ws", 80), ("http", 80)):
        for at in dict.fromkeys((host, bare, f"{bare}:{port}")):
            for end in ("", "/"):
                yield f"{scheme}://{at}{place}{end}{mark}{query}"
