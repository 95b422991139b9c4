"""What each role may send to the hub and read there: allowed, or the reason why not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from abhinaya.stream.wire.keys import ROLES, Key
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
