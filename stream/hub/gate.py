"""Lets messages of peers pass by the rights of their keys, and remembers the keys. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from abhinaya.stream.hub import rights
from abhinaya.stream.hub.refusals import Refusals
from abhinaya.stream.hub.runs import Runs
from abhinaya.stream.wire.keys import LOCAL, Key
from abhinaya.stream.wire.messages import Died, Hello, Message, Ready, Refused, Subscribe


class Gate:
    """The keys of the peers that have introduced themselves; without keys, it is always open."""

    def __init__(self, runs: Runs, refusals: Refusals) -> None:
        self._runs = runs
        self._refusals = refusals
        self._keys: dict[bytes, Key] = {}

    def refuses(self, peer: bytes, key: Key, message: Message, run: str) -> Refused | bool:
        """Return whether a message about a run must be ignored, or the reply if it needs one."""
        known = self._runs.get(run)
        fault = rights.refusal(key, message, run, known.owner if known else None)
        if self._keys.get(peer, key) != key:
            fault = fault or "another key has introduced this peer"
        if not fault:
            if key != LOCAL and isinstance(message, Hello | Ready | Subscribe):
                self._keys[peer] = key
            return False
        self._refusals.add(fault)
        # a recorder that reports a death is not to blame if a node took the name of its front
        blameless = isinstance(message, Died) and key.role in rights.MAY_SEND
        return True if blameless else rights.refused(key, fault)

    def may_read(self, peer: bytes, run: str) -> bool:
        """Whether a sink may receive the events of a run."""
        known = self._runs.get(run)
        return rights.may_read(self._keys.get(peer, LOCAL), known.owner if known else None)

    def tidy(self, is_known: Callable[[bytes], bool]) -> None:
        """Forget the keys of peers that are gone."""
        self._keys = {peer: key for peer, key in self._keys.items() if is_known(peer)}

    def revoked(self, current: Callable[[str], Key | None]) -> Iterator[tuple[bytes, Key]]:
        """Yield and forget the peers whose public key has been removed or has another role."""
        for peer, key in list(self._keys.items()):
            if current(key.public) != key:
                del self._keys[peer]
                yield peer, key
