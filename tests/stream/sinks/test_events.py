"""docs/events.md and the code say the same: every field, and an example of each event."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime

import pytest
from fakes import info, vote
from places import ROOT

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import SCHEMA, alert_event, summary_event, to_dict, wall_time
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.wire.messages import (
    Activity,
    FrontDown,
    Gap,
    Missing,
    NodeDown,
    NodeLoad,
    NodeUp,
    Remark,
    Status,
    StreamEnded,
    StreamStarted,
    Transcript,
    Verdict,
    Vote,
    Word,
)

DOC = ROOT / "docs" / "events.md"
NOW = 1_000_000.9


def transcript():
    return Transcript(
        stream="call",
        sequence=7,
        text="where is my car",
        confidence=0.81234567,
        language="en",
        words=(Word(text="where", start=160_000, end=163_200, confidence=0.9),),
        stable=4,
        model="faster-whisper",
        queue_ms=1.0,
        run_ms=180.0,
        batch_size=1,
    )


def verdict(**changes):
    fields = {
        "stream": "call",
        "sequence": 7,
        "start": 160_000,
        "end": 200_007,
        "start_unix_s": 1_000_000.0,
        "label": "angry",
        "confidence": 0.65,
        "agreement": 2 / 3,
        "leading": "angry",
        "margin": 1 / 3,
        "votes": (vote(7, "S1", "angry"), vote(7, "T2", "neutral")),
        "missing": (Missing(voter="ST1", reason="no answer within 4 s"),),
        "transcript": transcript(),
        "captured_unix_s": 1_000_000.0,
        "stages_ms": {
            "capture": 12.0,
            "segment": 400.0,
            "queue": 3.04,
            "asr": 180.0,
            "voters": 60.0,
            "vote": 1.0,
        },
    }
    return Verdict(**(fields | changes))


def summary():
    accumulated = Summary()
    accumulated.add(verdict(), NOW)
    accumulated.add(Gap(stream="call", sequence=8, start=0, end=16_000, reason="full"), NOW)
    return summary_event(accumulated.as_dict())


EVENTS = {
    event["type"]: event
    for event in (
        to_dict(verdict(), NOW),
        to_dict(Gap(stream="call", sequence=3, start=8_000, end=16_000, reason="full"), NOW),
        to_dict(StreamStarted(info=info("call")), NOW),
        to_dict(StreamEnded(stream="call", sequence=9, position=1_600_000), NOW),
        to_dict(
            NodeUp(
                node="S1-0",
                service="S1",
                gives="vote",
                model="tiny-speech",
                version="1",
                licence="CC BY-NC-SA 4.0",
                noncommercial=True,
            ),
            NOW,
        ),
        to_dict(NodeDown(node="S1-0", incarnation="1", service="S1", reason="killed"), NOW),
        to_dict(FrontDown(front="front-0", incarnation="1", reason="silent"), NOW),
        to_dict(Activity(stream="call", position=160_000, speaking=True), NOW),
        to_dict(Remark(source="mic", text="the input clips"), NOW),
        to_dict(
            Status(
                hub="1",
                waiting=2,
                open_segments=3,
                nodes=(NodeLoad(node="S1-0", service="S1", held=1, done=4),),
                fronts=("front-0",),
                refused={"too large": 1},
                doubles=0,
            ),
            NOW,
        ),
        alert_event(
            Alert(
                rule="angry customer",
                stream="call",
                label="angry",
                sequence=7,
                first_sequence=6,
                start=128_000,
                end=200_007,
                start_unix_s=1_000_000.0,
                speech=64_000,
                segments=2,
                confidence=0.65,
                text="where is my car",
            )
        ),
        summary(),
    )
}

FREE_KEYS = {"probabilities", "refused", "emotions_s", "gap_reasons", "streams"}
"""Objects whose keys are data: labels, reasons, names."""


def fields(value, path=""):
    """Give the dotted names of all fields of an event; [] stands for the entries of a list."""
    names = set()
    for key, inner in value.items():
        name = f"{path}{key}"
        names.add(name)
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            names |= fields(inner[0], f"{name}[].")
        elif key == "streams":
            names |= fields(next(iter(inner.values())), f"{name}{{}}.")
        elif isinstance(inner, dict) and key not in FREE_KEYS:
            names |= fields(inner, f"{name}.")
    return names


def sections():
    """Give the documented fields and the example of each event, by type."""
    found = {}
    for part in DOC.read_text("utf-8").split("\n## ")[1:]:
        kind = re.match(r"`(\w+)`", part)
        if kind:
            example = re.search(r"```json\n(.*?)```", part, re.DOTALL)
            names = set(re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE))
            found[kind[1]] = (names, json.loads(example[1]))
    return found


COMMON = {"schema", "type", "stream"}


def test_every_event_is_documented():
    assert set(sections()) == set(EVENTS)


@pytest.mark.parametrize("kind", EVENTS)
def test_the_documented_fields_are_the_ones_that_come(kind):
    names, example = sections()[kind]
    assert names | COMMON == fields(EVENTS[kind])
    assert fields(example) == fields(EVENTS[kind]), "the example is not one"
    assert example["schema"] == SCHEMA


@pytest.mark.parametrize("kind", EVENTS)
def test_every_event_says_what_it_is_and_survives_json(kind):
    event = EVENTS[kind]
    assert (event["schema"], event["type"]) == (SCHEMA, kind)
    of_stream = kind in ("verdict", "gap", "alert", "stream_started", "stream_ended", "activity")
    assert event["stream"] == ("call" if of_stream else None)
    assert json.loads(json.dumps(event, allow_nan=False)) == event


def test_a_verdict_in_seconds_and_names():
    event = EVENTS["verdict"]
    assert (event["start_s"], event["end_s"]) == (10.0, 12.5)  # 200 007 samples, to the millisecond
    assert event["wall_time"] == "1970-01-12T13:46:40.000Z"
    assert event["agreement"] == 0.6667
    assert event["votes"][0]["probabilities"]["angry"] == 0.65
    assert list(event["votes"][0]["probabilities"]) == list(LABELS)
    assert event["missing"] == [{"voter": "ST1", "reason": "no answer within 4 s"}]
    assert event["transcript"]["words"] == [
        {"text": "where", "start_s": 10.0, "end_s": 10.2, "confidence": 0.9}
    ]


def test_latency_adds_up():
    latency = EVENTS["verdict"]["latency_ms"]
    assert latency["total"] == 900.0
    assert latency["emit"] == pytest.approx(900 - 656, abs=0.1)
    stages = [ms for stage, ms in latency.items() if stage != "total"]
    assert math.fsum(stages) == pytest.approx(latency["total"], abs=0.5)


def test_latency_is_never_negative_when_clocks_disagree():
    latency = to_dict(verdict(), 999_999.0)["latency_ms"]
    assert (latency["emit"], latency["total"]) == (0.0, 0.0)


def test_what_a_voter_does_not_give_is_null():
    bare = Vote(
        stream="call",
        sequence=7,
        voter="T1",
        label="sad",
        model="m",
        version="1",
        queue_ms=0,
        run_ms=0,
        batch_size=1,
    )
    event = to_dict(
        verdict(
            votes=(bare,), transcript=None, confidence=None, label=UNKNOWN, reason="1 vote of 2"
        ),
        NOW,
    )
    assert event["votes"][0]["probabilities"] is None
    assert (event["transcript"], event["confidence"]) == (None, None)
    assert (event["label"], event["reason"]) == ("unknown", "1 vote of 2")


def test_what_is_no_number_does_not_reach_json():
    event = to_dict(verdict(confidence=math.nan), NOW)
    assert event["confidence"] is None
    json.dumps(event, allow_nan=False)


def test_wall_time_is_iso_8601_in_utc():
    text = wall_time(1_763_700_000.1234)
    assert datetime.fromisoformat(text).timestamp() == pytest.approx(1_763_700_000.123)
    assert text.endswith("Z")
