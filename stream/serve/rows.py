"""The row of a stream on the wall, and what an event changes in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

DISTRESS: Final = {
    "angry": 1.0,
    "fear": 0.85,
    "disgust": 0.7,
    "contempt": 0.7,
    "sad": 0.55,
    "surprise": 0.25,
}
"""How much a label asks for attention; 0 for all others."""
KEEPS: Final = 0.6
"""Share of the level before that stays at each new segment."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stream as the wall shows it. Times are Unix milliseconds, as JavaScript has them."""

    id: int
    name: str
    run: str
    call: str
    party: str
    input: str
    source: str = ""
    live: bool = True
    started: float = 0.0
    since: float = 0.0
    """When the label changed."""
    label: str = ""
    confidence: float | None = None
    attributes: dict[str, float] | None = None
    words: str = ""
    level: float = 0.0
    """How much the stream asks for attention, from 0 to 1."""
    speaking: bool = False
    segment: int = -1
    revision: int = -1
    number: int = 0
    """Number of the last event."""
    ended: bool = False
    reason: str = ""
    judged: bool = True
    heard: bool = True
    notice: str = ""
    consent: str = ""


def new_row(stream: int, name: str, run: str, now_ms: float) -> Row:
    """Return the row of a stream of which nothing is known yet."""
    call, slash, party = name.rpartition("/")
    call, party = (call, party) if slash else (name, "")
    return Row(stream, name, run, call, party, input=call, started=now_ms, since=now_ms)


def row_after(row: Row, body: dict[str, Any], now_ms: float) -> Row:
    """Return a row after an event in its JSON form. Pure."""
    match body["type"]:
        case "stream_started":
            return replace(
                row,
                input=body.get("call") or body["stream"],
                source=body["source"],
                live=body["live"],
                judged=body.get("judged", True),
                heard=body.get("heard", True),
                notice=body.get("notice", ""),
                consent=body.get("consent", ""),
                started=unix_ms(body["wall_time"]),
                ended=False,
                reason="",
            )
        case "stream_ended":
            return replace(row, ended=True, speaking=False, reason=body["reason"] or body["sound"])
        case "activity":
            return replace(row, speaking=body["speaking"])
        case "verdict" if _is_newer(body, row):
            label, confidence = body["label"], body["confidence"]
            level = row.level
            if body["segment"] > row.segment:
                level = level_after(level, label, confidence)
            said = body["transcript"] or {"translation": "", "text": ""}
            return replace(
                row,
                label=label,
                confidence=confidence,
                attributes=body.get("attributes"),
                words=said["translation"] or said["text"] or row.words,
                since=row.since if label == row.label else now_ms,
                level=level,
                segment=body["segment"],
                revision=body["revision"],
            )
        case _:
            return row


def _is_newer(verdict: dict[str, Any], row: Row) -> bool:
    place = (verdict["segment"], verdict["revision"])
    return bool(verdict["final"] and place > (row.segment, row.revision))


def unix_ms(wall_time: str) -> float:
    """Return a time of an event in Unix milliseconds."""
    return 1000.0 * datetime.fromisoformat(wall_time).timestamp()


def level_after(level: float, label: str, confidence: float | None) -> float:
    """Return the level after a segment: a calm one lowers it, a distressed one raises it."""
    sure = 0.4 + 0.6 * (0.5 if confidence is None else confidence)
    now = DISTRESS.get(label, 0.0) * sure
    return round(min(1.0, KEEPS * level + (1 - KEEPS) * 1.6 * now), 4)
