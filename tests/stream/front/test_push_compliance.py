"""Calls that are pushed have the marks of the compliance mode too."""

from __future__ import annotations

import queue
from typing import Any

import pytest

from abhinaya.stream.front.assignment import Assignment
from abhinaya.stream.front.push import _Intake
from abhinaya.stream.front.reader import Feed
from abhinaya.stream.settings.compliance import ComplianceConfig
from abhinaya.stream.wire.push import OpenCall, Track


@pytest.mark.parametrize(
    ("tracks", "consent", "judged", "remark"),
    [
        (("agent", "caller"), "yes", [False, True], ""),
        (("agent", "caller"), "no", [False, False], "its consent is 'no'"),
        (("1", "2"), "", [False, False], "none of its channels (1, 2)"),
        (("",), "", [False], "without the name of a channel"),
    ],
)
def test_only_the_named_track_of_a_call_is_judged(
    tracks: tuple[str, ...], consent: str, judged: list[bool], remark: str
) -> None:
    feeds: list[Feed] = []

    class Front:
        """Takes the feeds."""

        def add(self, added: list[Feed]) -> None:
            feeds.extend(added)

    law = ComplianceConfig(mode="eu", others="drop")
    assignment = Assignment(front="push", run="run", inputs=())
    remarks: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    front: Any = Front()
    name = "twilio:CA1"
    opening = OpenCall(
        call=1,
        name=name,
        source="twilio",
        start_unix_s=1e9,
        encoding="mulaw",
        rate=8000,
        tracks=tuple(Track(stream=f"{name}/{t}" if t else name) for t in tracks),
        facts={"consent": consent} if consent else {},
    )
    _Intake(assignment, law, front, remarks)._open(opening)
    infos = [info for feed in feeds for info in feed.infos]
    assert [(i.judged, i.heard) for i in infos] == [(j, j) for j in judged]
    assert {(i.consent, i.notice) for i in infos} == {(consent, law.notice)}
    said = "" if remarks.empty() else remarks.get()[1]
    assert remark in said
    assert bool(remark) == bool(said)
