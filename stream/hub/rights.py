"""What each role may send to the hub and read there: allowed, or the reason why not. Pure."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from abhinaya.stream.hub.runs import Runs
from abhinaya.stream.wire.keys import LOCAL, ROLES, Key
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
    Died,
    End,
    Failed,
    Gap,
    Hello,
    Known,
    Message,
    Ready,
    Refused,
    Remark,
    Seen,
    Segment,
    Subscribe,
    Transcript,
    Vote,
)

REASONS: Final = 64
"""Maximum number of reasons that are counted separately: a peer may invent them."""

LONGEST_COUNTED: Final = 200
"""Maximum characters of a reason: it may quote what a peer has sent."""

_LOG = logging.getLogger("abhinaya.hub")

_Kinds = frozenset[type[Message]]

FRONT: Final[_Kinds] = frozenset((Hello, Known, Segment, Gap, End, Remark, Activity, Beat))
NODE: Final[_Kinds] = frozenset((Ready, Transcript, Vote, Failed, Beat))
RECORDER: Final[_Kinds] = frozenset((Subscribe, Seen, Died))

MAY_SEND: Final[Mapping[str, _Kinds]] = {
    "input": FRONT | RECORDER,
    "node": NODE,
    "reader": frozenset((Subscribe,)),
    "operator": FRONT | NODE | RECORDER,
}


REVOKED: Final = Refused(
    reason="its key was removed from the hub's directory, or has another role now",
    remedy="ask whoever runs the hub",
    rights=True,
)


def refusal(key: Key, message: Message, run: str, owner: Key | None) -> str:
    """Return why a message is refused; empty if it is allowed.

    Args:
        key: that of the sender.
        message: the message.
        run: id of the run that the message is about; empty for none or all.
        owner: the key that opened this run; None if the run is new.

    """
    kind = type(message).__name__
    if key.role not in ROLES:
        return f"key {key.name!r} has no role"
    if type(message) not in MAY_SEND[key.role]:
        return f"the role {key.role} may not send {kind}"
    if key.role == "operator":
        return ""
    if isinstance(message, Subscribe) and key.role == "reader":
        return "the role reader may not record a run" if message.confirm else ""
    if type(message) in (Hello, Subscribe, Died) and not (run and owner in (None, key)):
        return f"the role {key.role} may send {kind} only for its own run"
    if isinstance(message, Died) and message.services:
        return f"the role {key.role} may not give up services"
    return ""


def may_read(key: Key, owner: Key | None) -> bool:
    """Whether a key may receive the events of a run of `owner`."""
    return key.role in ("reader", "operator") or owner == key


def refused(key: Key, reason: str) -> Refused:
    """Return the answer to a message that its key does not allow."""
    remedy = f"on the hub's machine: `abhinaya keys DIRECTORY {key.name} --role {'|'.join(ROLES)}`"
    return Refused(reason=reason, remedy=remedy, rights=True)


class Refusals:
    """Refused messages since the start of the hub."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, reason: str) -> None:
        """Count a message that could not be read or is not allowed."""
        reason = reason[:LONGEST_COUNTED]
        if reason not in self._counts and len(self._counts) >= REASONS:
            reason = "other"
        if reason not in self._counts:
            _LOG.warning("a message was refused: %s (further ones are only counted)", reason)
        self._counts[reason] += 1

    def counts(self) -> dict[str, int]:
        """Return the number of refused messages by reason."""
        return dict(self._counts)


class Gate:
    """The keys of the peers that have introduced themselves; without keys, it is always open."""

    def __init__(self, runs: Runs, refusals: Refusals) -> None:
        self._runs = runs
        self._refusals = refusals
        self._keys: dict[bytes, Key] = {}

    def refuses(self, peer: bytes, key: Key, message: Message, run: str) -> Refused | bool:
        """Return whether a message about a run must be ignored, or the reply if it needs one."""
        known = self._runs.get(run)
        fault = refusal(key, message, run, known.owner if known else None)
        if self._keys.get(peer, key) != key:
            fault = fault or "another key has introduced this peer"
        if not fault:
            if key != LOCAL and isinstance(message, Hello | Ready | Subscribe):
                self._keys[peer] = key
            return False
        self._refusals.add(fault)
        # a recorder that reports a death is not to blame if a node took the name of its front
        blameless = isinstance(message, Died) and key.role in MAY_SEND
        return True if blameless else refused(key, fault)

    def may_read(self, peer: bytes, run: str) -> bool:
        """Whether a sink may receive the events of a run."""
        known = self._runs.get(run)
        return may_read(self._keys.get(peer, LOCAL), known.owner if known else None)

    def tidy(self, is_known: Callable[[bytes], bool]) -> None:
        """Forget the keys of peers that are gone."""
        self._keys = {peer: key for peer, key in self._keys.items() if is_known(peer)}

    def revoked(self, current: Callable[[str], Key | None]) -> Iterator[tuple[bytes, Key]]:
        """Yield and forget the peers whose public key has been removed or has another role."""
        for peer, key in list(self._keys.items()):
            if current(key.public) != key:
                del self._keys[peer]
                yield peer, key
