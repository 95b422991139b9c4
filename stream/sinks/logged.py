"""Events as lines of the operators' log (`stream/log.py`)."""

from __future__ import annotations

import logging

from abhinaya.stream.clock import to_seconds
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.wire.messages import (
    Event,
    FrontDown,
    Gap,
    NodeDown,
    NodeUp,
    Remark,
    Status,
    StreamEnded,
    StreamStarted,
    Verdict,
)

_LOG = logging.getLogger("abhinaya.run")


class Logged:
    """A sink that logs events; verdicts at level debug, without transcripts."""

    def write(self, event: Event, now_unix_s: float) -> None:
        """Log one event."""
        match event:
            case Verdict():
                at, missing = to_seconds(event.start), [m.voter for m in event.missing]
                _LOG.debug("%s: %.1f s: %s, missing %s", event.stream, at, event.label, missing)
            case Gap():
                start, end = to_seconds(event.start), to_seconds(event.end)
                _LOG.warning("%s: gap, %.1f to %.1f s: %s", event.stream, start, end, event.reason)
            case StreamStarted(info=info):
                _LOG.info("%s: began: %s, front %s", info.stream, info.source, info.front)
            case StreamEnded(reason=""):
                why = f"; its sound: {event.sound}" if event.sound else ""
                _LOG.info("%s: ended, %.1f s%s", event.stream, to_seconds(event.position), why)
            case StreamEnded():
                _LOG.error("%s: broken off: %s", event.stream, event.reason)
            case NodeUp():
                _LOG.info("%s: ready: %s %s", event.node, event.model, event.version)
            case NodeDown():
                _LOG.warning("%s: down: %s", event.node, event.reason)
            case FrontDown():
                _LOG.warning("%s: down: %s", event.front, event.reason)
            case Remark():
                _LOG.warning("%s: %s", event.source, event.text)
            case Status(refused=refused) if refused:
                _LOG.debug("hub: refused so far: %s", dict(refused))
            case Status():
                pass

    def alert(self, alert: Alert, now_unix_s: float) -> None:
        """Log an alert."""
        _LOG.info("%s: alert %s: %s", alert.stream, alert.rule, alert.label)

    def close(self) -> None:
        """Do nothing: the log belongs to the process."""
