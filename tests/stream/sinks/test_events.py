"""docs/events.md and the code say the same: every field, and an example of each event."""

from __future__ import annotations

import json
import math
import re

import output_fakes
import pytest
from fakes import info, rated, vote
from live_scenes import alerted, nodes, speaks, status
from msgspec.structs import replace
from output_fakes import gap, said
from places import ROOT

from abhinaya.models.labels import LABELS, Attributes
from abhinaya.stream.sinks.events import SCHEMA, alert_event, summary_event, to_dict
from abhinaya.stream.sinks.summary import Summary
from abhinaya.stream.wire.messages import (
    FrontDown,
    NodeDown,
    Remark,
    StreamEnded,
    StreamStarted,
    Word,
)

DOC = ROOT / "docs" / "events.md"
NOW = 1_000_000.9
WHERE = Word(text="where", start=160_000, end=163_200, confidence=0.9)


STAGES_MS = {
    "capture": 12.0, "segment": 400.0, "queue": 3.04, "asr": 180.0, "voters": 60.0, "vote": 1.0,
}  # fmt: skip


def verdict(**changes):
    fields = {
        "end": 200_007,
        "start_unix_s": 1_000_000.0,
        "agreement": 2 / 3,
        "leading": "angry",
        "margin": 1 / 3,
        "attributes": Attributes(4.25, 2.125, 5.0),
        "votes": (rated(vote(7, "S1", "angry"), 4.25, 2.125, 5.0), vote(7, "T2", "neutral")),
        "transcript": replace(said("where is my car", 7, "call"), words=(WHERE,), stable=4),
        "stages_ms": STAGES_MS,
    }
    return output_fakes.verdict(7, 10, 12.5, "angry", "call", **(fields | changes))


def summary():
    accumulated = Summary()
    accumulated.add(verdict(), NOW)
    accumulated.add(gap(8, 0, 1, "call"), NOW)
    return summary_event(accumulated.as_dict())


PLANTED = (
    verdict(),
    gap(3, 0.5, 1, "call"),
    StreamStarted(
        info=replace(
            info("call"), judged=False, heard=False, notice="a machine hears", consent="no"
        )
    ),
    StreamEnded(stream="call", sequence=9, position=1_600_000),
    next(nodes()),
    NodeDown(node="S1-0", incarnation="1", service="S1", reason="killed"),
    FrontDown(front="front-0", incarnation="1", reason="silent"),
    speaks("call", 10),
    Remark(source="mic", text="the input clips"),
    status(2, 3, refused={"too large": 1}),
)
EVENTS = {
    event["type"]: event
    for event in (
        *(to_dict(event, NOW) for event in PLANTED),
        alert_event(alerted("angry customer", "call")),
        summary(),
    )
}

FREE_KEYS = {
    "probabilities", "refused", "emotions_s", "gap_reasons", "streams", "oldest_s", "left_out",
    "queued",
}  # fmt: skip
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


@pytest.mark.parametrize("kind", {**EVENTS, **sections()})
def test_every_event_is_documented_says_what_it_is_and_survives_json(kind):
    event, (names, example) = EVENTS[kind], sections()[kind]
    assert names | COMMON == fields(event)
    assert fields(example) == fields(event), "the example is not one"
    assert (event["schema"], event["type"]) == (example["schema"], kind) == (SCHEMA, kind)
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


def test_latency_adds_up_and_is_never_negative_when_clocks_disagree():
    latency = EVENTS["verdict"]["latency_ms"]
    assert latency["total"] == 900.0
    assert latency["emit"] == pytest.approx(900 - 656, abs=0.1)
    stages = [ms for stage, ms in latency.items() if stage != "total"]
    assert math.fsum(stages) == pytest.approx(latency["total"], abs=0.5)
    latency = to_dict(verdict(), 999_999.0)["latency_ms"]
    assert (latency["emit"], latency["total"]) == (0.0, 0.0)


def test_what_is_missing_or_not_a_number_is_null():
    bare = replace(vote(7, "T1", "sad", "call"), probabilities=None)
    event = to_dict(verdict(votes=(bare,), transcript=None, confidence=math.nan), NOW)
    assert event["votes"][0]["probabilities"] is None
    assert (event["transcript"], event["confidence"]) == (None, None)
    json.dumps(event, allow_nan=False)
    event = to_dict(verdict(confidence=None, reason="1 vote of 2"), NOW)
    assert (event["confidence"], event["reason"]) == (None, "1 vote of 2")
