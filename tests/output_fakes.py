"""Events for tests of outputs: a call of two channels with what makes formats stumble."""

from __future__ import annotations

from fakes import SECOND, info, vote

from abhinaya.stream.wire.messages import (
    Gap,
    Missing,
    NodeDown,
    Remark,
    StreamEnded,
    StreamStarted,
    Transcript,
    Verdict,
)

NOW = 1_000_000.75
NASTY = 'he said "no" & <b>left</b> --> then,\n\n12\tcame\u2028back, Grüße 漢字'
"""Quotes, markup, an arrow, a blank line, a tab, a line separator, letters beyond ASCII."""
FLAT = 'he said "no" & <b>left</b> --> then, 12 came back, Grüße 漢字'
"""The same on one line."""
AGENT, CUSTOMER = "my call/agent", "my call/customer"


def said(text, sequence=0, stream=AGENT, reason=""):
    return Transcript(
        stream=stream,
        sequence=sequence,
        text=text,
        confidence=0.9,
        language="en",
        reason=reason,
        model="fake",
        queue_ms=1,
        run_ms=2,
        batch_size=1,
    )


def verdict(sequence, start_s, end_s, label="happy", stream=AGENT, text="some words", **changes):
    fields = {
        "stream": stream,
        "sequence": sequence,
        "start": round(start_s * SECOND),
        "end": round(end_s * SECOND),
        "start_unix_s": 1_000_000.0 + start_s,
        "label": label,
        "confidence": 0.65,
        "agreement": 1.0,
        "votes": (
            vote(sequence, "S1", "happy" if label == "unknown" else label, stream),
            vote(sequence, "T2", "neutral", stream),
        ),
        "missing": (Missing(voter="ST1", reason="no answer within 4 s"),),
        "transcript": said(text, sequence, stream),
        "captured_unix_s": 1_000_000.0,
        "stages_ms": {"queue": 1.0},
    }
    return Verdict(**(fields | changes))


def gap(sequence, start_s, end_s, stream=AGENT, reason="the backlog was full"):
    return Gap(
        stream=stream,
        sequence=sequence,
        start=round(start_s * SECOND),
        end=round(end_s * SECOND),
        reason=reason,
    )


CALL = (
    StreamStarted(info=info(AGENT)),
    StreamStarted(info=info(CUSTOMER)),
    verdict(0, 0.5, 2.0, "happy"),
    verdict(1, 2.0, 12.0, "neutral", text=NASTY),
    verdict(0, 1.25, 4.0, "angry", CUSTOMER),  # another channel, later told but earlier heard
    gap(2, 20.0, 21.5),
    verdict(3, 3700.0, 3702.0, "sad", text=""),
    verdict(1, 2.0, 12.0, "surprise", text=NASTY, revision=1),
    NodeDown(node="S1-0", incarnation="1", service="S1", reason="killed"),
    Remark(source="call.wav", text="has 3 damaged packets"),
    StreamEnded(stream=AGENT, sequence=4, position=4000 * SECOND),
    StreamEnded(stream=CUSTOMER, sequence=1, position=4000 * SECOND),
)
SPOKEN = [
    (AGENT, 0.5, 2.0, "happy"),
    (CUSTOMER, 1.25, 4.0, "angry"),
    (AGENT, 2.0, 12.0, "surprise"),
    (AGENT, 20.0, 21.5, "gap"),
    (AGENT, 3700.0, 3702.0, "sad"),
]
"""What a reader must find of CALL, in order: stream, start and end in seconds, label."""
