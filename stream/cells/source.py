"""Where the map of cells is from, and how a newer one is found while a run goes on.

`open_source` reads a file again when it has changed, or asks a gateway in a thread of its own. A
map that cannot be used, or that is gone, changes nothing: the last good one stays.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from abhinaya.models.text import clean
from abhinaya.stream.cells.map import LARGEST, Cell, CellMap, decode
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.sockets import check_client, is_loopback

if TYPE_CHECKING:
    import httpx2

LOOK_S: Final = 0.5
"""How often a file is looked at."""
ASK_S: Final = 2.0
"""How often a gateway is asked."""
ANSWER_S: Final = 5.0
"""Time for its answer."""
TOKEN: Final = "ABHINAYA_TOKEN"  # noqa: S105 - the name of a variable
_BEARER: Final = re.compile(r"[\x21-\x7e]*")
PATH: Final = "/v1/cells"
_AT_START: Final = "check the address; `abhinaya cluster` and the gateway write the map"


class CellSource(Protocol):
    """The map of cells, and its changes."""

    @property
    def current(self) -> CellMap:
        """The map in use."""
        ...

    @property
    def fault(self) -> str:
        """Why the last look failed; empty if it did not."""
        ...

    def look(self, now: float) -> CellMap | None:
        """Return a newer map if there is one; call it often."""
        ...

    def close(self) -> None:
        """Look no more; a second call does nothing."""
        ...


class FixedCells:
    """One hub that somebody else runs, as a map of one cell whose name is empty."""

    fault = ""

    def __init__(self, endpoint: str) -> None:
        self.current = CellMap(epoch=1, cells=(Cell(name="", endpoint=endpoint),))

    def look(self, now: float) -> CellMap | None:
        """Return None: it never changes."""
        return None

    def close(self) -> None:
        """Do nothing."""


class _Latest:
    """The newest good map of a place, and why the last look failed."""

    def __init__(self, where: str, data: bytes) -> None:
        self._where = where
        self.current = decode(data, where)
        self.fault = ""

    def take(self, data: bytes) -> CellMap | None:
        """Return the map in `data` if it is newer."""
        try:
            found = decode(data, self._where)
            newer = found.succeed(self.current, self._where)
        except NetworkError as error:
            self.fault = str(error)
            return None
        self.fault = ""
        if newer:
            self.current = found
        return found if newer else None


class FileCells:
    """A map in a file. A program that changes it writes a new file and renames it.

    Raises:
        NetworkError: the file cannot be read, or is not a map.

    """

    def __init__(self, path: Path) -> None:
        self._path, self._next = path, 0.0
        self._seen: tuple[int, ...] = ()
        try:
            self._seen = self._mark()
            self._latest = _Latest(str(path), self._read())
        except OSError as error:
            raise NetworkError(
                f"map of cells {path}", f"cannot be read: {error.strerror}", _AT_START
            ) from error

    @property
    def current(self) -> CellMap:
        """The map in use."""
        return self._latest.current

    @property
    def fault(self) -> str:
        """Why the last look failed; empty if it did not."""
        return self._latest.fault

    def look(self, now: float) -> CellMap | None:
        """Return a newer map if the file has one."""
        if now < self._next:
            return None
        self._next = now + LOOK_S
        try:
            if (mark := self._mark()) == self._seen:
                return None
            data, self._seen = self._read(), mark
        except OSError as error:
            self._seen = ()
            self._latest.fault = f"map of cells {self._path}: cannot be read: {error.strerror}"
            return None
        return self._latest.take(data)

    def close(self) -> None:
        """Do nothing."""

    def _mark(self) -> tuple[int, ...]:
        facts = self._path.stat()
        return facts.st_mtime_ns, facts.st_ino, facts.st_size

    def _read(self) -> bytes:
        # a pipe under the name of the map must not stop the reader
        with open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is not a file")
            return file.read(LARGEST + 1)


class GatewayCells:
    """The map that a gateway serves.

    Args:
        url: of the map.
        token: for the gateway; empty if it wants none.

    Raises:
        NetworkError: the gateway cannot be reached, or does not serve a map.

    """

    def __init__(self, url: str, token: str) -> None:
        import httpx2

        from abhinaya.models.timed_http import TimedClient

        # certificates are checked, and no proxy gets the token
        self._http = TimedClient(trust_env=False, follow_redirects=False)
        self._url, self._where = url, clean(url)
        if not _BEARER.fullmatch(token):
            remedy = f"put the token of the gateway into ${TOKEN}, without spaces and line breaks"
            raise NetworkError(f"${TOKEN}", "has characters that no token has", remedy)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._errors = (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL)
        self._etag = self._unreachable = ""
        self._news: bytes | None = None
        self._closing = threading.Event()
        self._latest = _Latest(self._where, self._ask() or b"")
        threading.Thread(target=self._run, name="cells", daemon=True).start()

    @property
    def current(self) -> CellMap:
        """The map in use."""
        return self._latest.current

    @property
    def fault(self) -> str:
        """Why the last look failed; empty if it did not."""
        return self._unreachable or self._latest.fault

    def look(self, now: float) -> CellMap | None:
        """Return a newer map if the gateway has sent one."""
        news, self._news = self._news, None
        return None if news is None else self._latest.take(news)

    def close(self) -> None:
        """Ask no more."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(ASK_S):
            try:
                self._news = self._ask() or self._news
                self._unreachable = ""
            except NetworkError as error:
                self._unreachable = str(error)
        self._http.close()

    def _ask(self) -> bytes | None:
        """Return the map; None if it is the same as before.

        Raises:
            NetworkError: the gateway cannot be reached, or refuses.

        """
        unless = {"If-None-Match": self._etag} if self._etag else {}
        try:
            with self._http.stream(
                "GET", self._url, ANSWER_S, headers=self._headers | unless
            ) as answer:
                if answer.status_code == 304 and self._etag:
                    return None
                if answer.status_code != 200:
                    raise self._refused(answer)
                data = b""
                for part in answer.iter_bytes():
                    data += part
                    if len(data) > LARGEST:
                        break
        except self._errors as error:
            reason = f"cannot be reached: {error}"
            raise NetworkError(f"map of cells {self._where}", reason, _AT_START) from error
        tag = answer.headers.get("etag", "")
        self._etag = tag if tag.isascii() else ""
        return data

    def _refused(self, answer: httpx2.Response) -> NetworkError:
        reason = f"answers with status {answer.status_code}"
        remedy = _AT_START
        if answer.status_code in (401, 403):
            remedy = f"put a token of the gateway into ${TOKEN} (`abhinaya serve token`)"
        return NetworkError(f"map of cells {self._where}", reason, remedy)


def open_source(where: str, environment: Mapping[str, str]) -> CellSource:
    """Open the map in a file, or at the http(s) address of a gateway.

    The token of a gateway is in ABHINAYA_TOKEN. The map says which key a hub has, so it must not
    come over plain http from another machine.

    Raises:
        NetworkError: there is no map, or it cannot be used.

    """
    scheme, separator, _ = where.partition("://")
    if not separator:
        return FileCells(Path(where))
    subject = f"map of cells {scheme[:20]}://…"
    try:
        parts = urlsplit(where)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if scheme not in ("http", "https") or not host:
        remedy = "give a FILE, or https://HOST:PORT of a gateway"
        raise NetworkError(subject, "is not an address of a map", remedy)
    if "@" in parts.netloc or parts.query or parts.fragment:
        reason = "has more than host, port and path"
        raise NetworkError(subject, reason, f"put the token into ${TOKEN}")
    if scheme == "http" and not is_loopback(host):
        reason = "would come over http, where anybody on the way can put another hub into it"
        raise NetworkError(f"map of cells {clean(where)}", reason, "use https")
    path = parts.path if parts.path not in ("", "/") else PATH
    return GatewayCells(parts._replace(path=path).geturl(), environment.get(TOKEN, ""))


def check_cells(cells: CellMap, keys: Keys | None) -> None:
    """Check that a process can connect to the cells of a map, without connecting.

    Raises:
        NetworkError: an endpoint is malformed, or a key is missing.

    """
    for cell in cells.cells:
        if cell.state != "gone":
            check_client(cell.endpoint, cell.keys(keys))
