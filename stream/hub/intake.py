"""Takes what fronts send: checks each item, and acknowledges what is written. Pure."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from abhinaya.stream.hub.coordinator import Coordinator
from abhinaya.stream.hub.publisher import Publisher
from abhinaya.stream.hub.segments import Stream
from abhinaya.stream.hub.streams import Streams
from abhinaya.stream.hub.validation import LONGEST_REASON, LONGEST_STATE, fault_of_item, in_place_of
from abhinaya.stream.wire.messages import (
    Activity,
    Beat,
    End,
    Gap,
    Known,
    Message,
    Refused,
    Remark,
    Segment,
)


class Intake:
    """What comes from fronts that have introduced themselves.

    `send` sends a message to a front; `refuse` counts a message that cannot be used.
    """

    def __init__(
        self,
        streams: Streams,
        coordinator: Coordinator,
        publisher: Publisher,
        send: Callable[[bytes, Message], None],
        refuse: Callable[[str], None],
    ) -> None:
        self._streams, self._coordinator, self._publisher = streams, coordinator, publisher
        self._send, self._count = send, refuse
        self._acknowledge: dict[str, Stream] = {}
        """Streams whose front needs a new `Credit`."""
        self.doubles = 0
        """Number of items that came twice."""

    def take(self, now: float, peer: bytes, message: Message) -> None:
        """Handle a message."""
        self._streams.received(now, peer)
        if isinstance(message, Remark):
            remark = replace(message, text=message.text[:LONGEST_REASON])
            self._publisher.publish(remark, self._streams[peer].run.id)
        elif isinstance(message, Segment | Gap | End | Known | Activity):
            stream = self._streams.of(peer, message)
            if stream is None:
                self._without_stream(peer, message)
            elif isinstance(message, Known):
                self._known(stream, message)
            elif isinstance(message, Activity) or (isinstance(message, Segment) and message.part):
                self._transient(now, stream, message)
            else:
                self._item(now, peer, stream, message)
        elif not isinstance(message, Beat):
            self._refuse(peer, f"a front may not send {type(message).__name__}")

    def acknowledge(self, stream: Stream) -> None:
        """Send a `Credit` for a stream with the next `send_credits`."""
        self._acknowledge[stream.id] = stream

    def send_credits(self) -> None:
        """Send the credits that are due."""
        for stream in self._acknowledge.values():
            self._send(stream.front, self._streams.credit(stream))
        self._acknowledge.clear()

    def _known(self, stream: Stream, known: Known) -> None:
        """Restore a state that an earlier hub gave to the front."""
        if known.service not in self._coordinator.services or len(known.state) > LONGEST_STATE:
            self._count("a state of an unknown service, or too large")
        elif not stream.ended:
            stream.restore_state(known.service, known.state)

    def _item(self, now: float, peer: bytes, stream: Stream, item: Segment | Gap | End) -> None:
        if item.sequence < stream.next_sequence:
            self.doubles += 1
            self.acknowledge(stream)
        elif stream.ended:
            self._refuse(peer, f"stream {item.stream!r} has ended")
        elif not self._streams.is_in_turn(stream, item):
            self._send_again(peer, "out of turn")
        elif (full := self._coordinator.fault_of_room(stream, item)) and not stream.info.live:
            self._send_again(peer, full)
        else:
            fault = "" if isinstance(item, End) else fault_of_item(stream.position, item) or full
            if fault and not isinstance(item, End):
                self._count(fault)
                item = in_place_of(item, stream.position, fault)
            self._coordinator.item(now, stream, item)
            self._streams.windows.changed |= isinstance(item, End)

    def _transient(self, now: float, stream: Stream, item: Segment | Activity) -> None:
        """Handle a partial or activity; one that is out of turn is dropped."""
        if isinstance(item, Activity):
            self._publisher.publish_unnumbered(item, stream.info.run)
        elif item.sequence == stream.next_sequence and not stream.ended:
            fault = fault_of_item(stream.position, item)
            if fault := fault or self._coordinator.fault_of_room(stream, item):
                self._count(fault)
            else:
                self._coordinator.partial(now, stream, item)

    def _without_stream(self, peer: bytes, item: Segment | Gap | End | Known | Activity) -> None:
        """Handle an item of a stream that is over, or that is not the front's."""
        credit = self._streams.credit_of_over(peer, item.stream)
        if credit is None:
            self._refuse(peer, f"stream {item.stream!r} is not this front's")
        elif isinstance(item, Known | Activity) or (isinstance(item, Segment) and item.part):
            pass  # it comes too late, and may be lost
        elif item.sequence >= credit.acknowledged:
            self._refuse(peer, f"stream {item.stream!r} has ended")
        else:
            self.doubles += 1
            self._send(peer, credit)

    def _send_again(self, peer: bytes, reason: str) -> None:
        self._count(reason)
        self._streams.lost_item(peer)

    def _refuse(self, peer: bytes, reason: str) -> None:
        self._count(reason)
        self._send(peer, Refused(reason=reason[:LONGEST_REASON]))
