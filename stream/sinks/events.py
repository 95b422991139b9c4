"""Converts events to the JSON values of docs/events.md; pure functions.

Positions in samples become seconds; Unix times become ISO 8601 text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from abhinaya.models.labels import LABELS
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    FrontDown,
    Gap,
    NodeDown,
    NodeUp,
    Remark,
    Status,
    StreamEnded,
    StreamStarted,
    Transcript,
    Verdict,
    Vote,
)

SCHEMA: Final = "abhinaya.event/1"
"""The number changes if a field is removed or gets another meaning, not if a field is added."""

WITHOUT_STREAM: Final[dict[type[Event], tuple[str, tuple[str, ...]]]] = {
    NodeUp: (
        "node_up",
        ("node", "service", "gives", "model", "version", "licence", "noncommercial"),
    ),
    NodeDown: ("node_down", ("node", "service", "reason")),
    FrontDown: ("front_down", ("front", "reason")),
    Remark: ("remark", ("source", "text")),
}
"""Events without a stream: their JSON type, and the fields that are copied unchanged."""


def to_dict(event: Event | Activity, now_unix_s: float) -> dict[str, Any]:
    """Return an event as JSON values; `now_unix_s` is the time of writing."""
    match event:
        case Verdict():
            return verdict(event, now_unix_s)
        case Gap():
            return _head("gap", event.stream) | {
                "segment": event.sequence,
                "start_s": _seconds(event.start),
                "end_s": _seconds(event.end),
                "reason": event.reason,
            }
        case StreamStarted(info=info):
            return _head("stream_started", info.stream) | {
                **({"run": info.run} if info.run else {}),
                "source": info.source,
                "live": info.live,
                "wall_time": wall_time(info.start_unix_s),
                **{mark: False for mark in ("judged", "heard") if not getattr(info, mark)},
                **({"notice": info.notice} if info.notice else {}),
                **({"consent": info.consent} if info.consent else {}),
            }
        case StreamEnded():
            return _head("stream_ended", event.stream) | {
                "segments": event.sequence,
                "duration_s": _seconds(event.position),
                "reason": event.reason,
                "sound": event.sound,
            }
        case Activity():
            return _head("activity", event.stream) | {
                "position_s": _seconds(event.position),
                "speaking": event.speaking,
            }
        case Status():
            return _head("status") | {
                "waiting": event.waiting,
                "open_segments": event.open_segments,
                "nodes": [
                    {"node": n.node, "service": n.service, "held": n.held, "done": n.done}
                    | ({} if n.checked_s is None else {"checked_s": round(n.checked_s, 3)})
                    for n in event.nodes
                ],
                "fronts": list(event.fronts),
                "refused": dict(event.refused),
                "doubles": event.doubles,
                "oldest_s": {name: round(age, 3) for name, age in event.oldest_s.items()},
                "left_out": dict(event.left_out),
                "queued": dict(event.queued),
            }
        case _:
            kind, names = WITHOUT_STREAM[type(event)]
            return _head(kind) | {name: getattr(event, name) for name in names}


def verdict(event: Verdict, now_unix_s: float) -> dict[str, Any]:
    """Return a verdict as JSON values."""
    return _head("verdict", event.stream) | {
        "segment": event.sequence,
        "start_s": _seconds(event.start),
        "end_s": _seconds(event.end),
        "wall_time": wall_time(event.start_unix_s),
        "label": event.label,
        "leading": event.leading or None,
        "confidence": _share(event.confidence),
        "agreement": _share(event.agreement),
        "margin": _share(event.margin),
        **_attributes(event),
        "revision": event.revision,
        "final": event.final,
        "part": event.part,
        "reason": event.reason,
        "refinement": _vote(event.refinement) if event.refinement else None,
        "votes": [_vote(vote) for vote in event.votes],
        "missing": [{"voter": m.voter, "reason": m.reason} for m in event.missing],
        "transcript": _transcript(event.transcript) if event.transcript else None,
        "latency_ms": latency_ms(event, now_unix_s),
    }


def latency_ms(event: Verdict, now_unix_s: float) -> dict[str, float]:
    """Return the latency from the end of speech until now, by stage and in total, in milliseconds.

    The hub measures its stages with its own clock; the total is the difference of two wall clocks.
    `emit` is the rest, never below 0.
    """
    stages = {stage: max(0.0, ms) for stage, ms in event.stages_ms.items()}
    spent = math.fsum(stages.values())
    total = max(0.0, 1000.0 * (now_unix_s - event.captured_unix_s))
    stages["emit"] = max(0.0, total - spent)
    stages["total"] = total
    return {stage: round(ms, 1) for stage, ms in stages.items()}


def wall_time(unix_s: float) -> str:
    """Return a Unix time as ISO 8601 text in UTC, with milliseconds."""
    moment = datetime.fromtimestamp(unix_s, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def summary_event(streams: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of a run as JSON values."""
    return _head("summary") | {"streams": {name: dict(s) for name, s in streams.items()}}


def alert_event(alert: Alert) -> dict[str, Any]:
    """Return an alert as JSON values."""
    return _head("alert", alert.stream) | {
        "rule": alert.rule,
        "label": alert.label,
        "segment": alert.sequence,
        "first_segment": alert.first_sequence,
        "segments": alert.segments,
        "start_s": _seconds(alert.start),
        "end_s": _seconds(alert.end),
        "speech_s": _seconds(alert.speech),
        "wall_time": wall_time(alert.start_unix_s),
        "confidence": _share(alert.confidence),
        "text": alert.text,
    }


def _head(kind: str, stream: str | None = None) -> dict[str, Any]:
    return {"schema": SCHEMA, "type": kind, "stream": stream}


def _vote(vote: Vote) -> dict[str, Any]:
    probabilities = None
    if vote.probabilities is not None:
        probabilities = {
            label: _share(p) for label, p in zip(LABELS, vote.probabilities, strict=True)
        }
    return {
        "voter": vote.voter,
        "label": vote.label,
        "probabilities": probabilities,
        **_attributes(vote),
        "model": vote.model,
        "version": vote.version,
        "queue_ms": round(vote.queue_ms, 1),
        "run_ms": round(vote.run_ms, 1),
        "batch_size": vote.batch_size,
    }


def _attributes(of: Verdict | Vote) -> dict[str, Any]:
    """Return the field `attributes`; nothing without them."""
    rated = of.attributes
    if rated is None:
        return {}
    return {"attributes": {name: round(value, 4) for name, value in rated._asdict().items()}}


def _transcript(transcript: Transcript) -> dict[str, Any]:
    return {
        "text": transcript.text,
        "translation": transcript.translation,
        "confidence": _share(transcript.confidence),
        "language": transcript.language,
        "language_probability": _share(transcript.language_probability),
        "reason": transcript.reason,
        "final": transcript.final,
        "stable_words": transcript.stable,
        "words": [
            {
                "text": word.text,
                "start_s": _seconds(word.start),
                "end_s": _seconds(word.end),
                "confidence": _share(word.confidence),
            }
            for word in transcript.words
        ],
    }


def _seconds(samples: int) -> float:
    return round(to_seconds(samples), 3)


def _share(value: float | None) -> float | None:
    """Return a value rounded to four places; None if it is not finite."""
    return round(value, 4) if value is not None and math.isfinite(value) else None
