"""Builders of messages and stand-ins for processes, shared by all tests."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
from hypothesis import HealthCheck, settings
from msgspec.structs import replace

from abhinaya.models.labels import LABELS, Attributes
from abhinaya.stream.settings.config import (
    Config,
    DeadlineConfig,
    FlowConfig,
    SuperviseConfig,
    WorkerConfig,
)
from abhinaya.stream.wire import messages as m

SECOND = 16_000

RUN = "run"

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For hypothesis on a machine that others use too."""


def config(**changes: Any) -> Config:
    """A line-up of one audio voter, one text voter, one of both, and a transcriber."""
    worker = WorkerConfig(model="fake")
    settings: dict[str, Any] = {
        "profile": "test",
        "asr": worker,
        "voters": {"S1": worker, "T2": worker, "ST1": worker},
        "flow": FlowConfig(file_window=4, live_backlog=3),
        "deadlines": DeadlineConfig(live_s=2.0, file_s=60.0, revise_s=5.0, task_s=10.0),
        "supervise": SuperviseConfig(silent_s=3.0, canary_s=0.0),
    }
    return Config(**(settings | changes))


NEEDS: dict[str, tuple[Any, ...]] = {
    "asr": ("audio",),
    "S1": ("audio",),
    "T2": ("transcript",),
    "ST1": ("audio", "transcript"),
    "refiner": ("audio", "transcript"),
}


def service(name: str, **changes: Any) -> m.Service:
    kind = "transcript" if name == "asr" else "vote"
    fields: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "needs": NEEDS[name],
        "labels": LABELS if kind == "vote" else (),
        "model": "fake",
        "version": "1",
        "licence": "Apache-2.0",
    }
    return m.Service(**(fields | changes))


def ready(
    services: str, node: str = "", incarnation: str = "1", credits: int = 2, **changes: Any
) -> m.Ready:
    """A node that gives these services, with spaces between them; the first names it."""
    names = services.split()
    gives = tuple(service(name, **changes) for name in names)
    return m.Ready(
        node=node or f"{names[0]}-0", incarnation=incarnation, gives=gives, credits=credits
    )


def info(
    stream: str = "call",
    live: bool = False,
    front: str = "front-0",
    of_input: str = "",
    run: str = RUN,
) -> m.StreamInfo:
    return m.StreamInfo(
        stream=stream,
        front=front,
        source="call.wav",
        live=live,
        start_unix_s=1_000_000.0,
        input=of_input or stream,
        run=run,
    )


def segment(sequence: int, stream: str = "call", length: int = 16, **changes: Any) -> m.Segment:
    """Segment `sequence` covers the second of the same number, of which `length` samples travel."""
    start = sequence * SECOND
    fields: dict[str, Any] = {
        "stream": stream,
        "sequence": sequence,
        "start": start,
        "end": start + length,
        "samples": m.Payload.of(np.full(length, sequence, np.int16)),
        "cut": "pause",
        "captured_unix_s": 1_000_000.0,
        "capture_ms": 0.0,
        "sent_unix_s": 1_000_000.5,
    }
    return m.Segment(**(fields | changes))


def answer(task: m.Task, service: str, label: str = "happy") -> m.Vote | m.Transcript:
    """What a node says of a task."""
    if service == "asr":
        return m.Transcript(
            stream=task.stream,
            sequence=task.sequence,
            part=task.part,
            text=f"words of {task.sequence}",
            confidence=0.9,
            model="fake",
            queue_ms=1.0,
            run_ms=2.0,
            batch_size=1,
        )
    return vote(task.sequence, service, label, task.stream, task.part)


def vote(
    sequence: int, voter: str, label: str = "happy", stream: str = "call", part: int = 0
) -> m.Vote:
    return m.Vote(
        stream=stream,
        sequence=sequence,
        part=part,
        voter=voter,
        label=label,
        probabilities=tuple(0.65 if name == label else 0.05 for name in LABELS),
        model="fake",
        version="1",
        queue_ms=1.0,
        run_ms=2.0,
        batch_size=1,
    )


def rated(vote: m.Vote, *values: float, **changes: Any) -> m.Vote:
    """A vote with attributes."""
    return replace(vote, attributes=Attributes(*values), **changes)


def failed(task: m.Task, service: str, retry: bool, reason: str = "broke") -> m.Failed:
    return m.Failed(
        stream=task.stream,
        sequence=task.sequence,
        service=service,
        part=task.part,
        reason=reason,
        retry=retry,
    )


def key(sequence: int, stream: str = "call") -> tuple[str, int]:
    """The key of a segment in the hub."""
    return f"{RUN}:{stream}", sequence


def partial(sequence: int, part: int = 1, stream: str = "call", **changes: Any) -> m.Segment:
    """Part `part` of the segment that `segment` would give, as far as it has come."""
    return segment(sequence, stream, **({"part": part, "cut": ""} | changes))


def is_partial(item: object) -> TypeGuard[m.Segment]:
    """Whether something is a segment that is not over."""
    return isinstance(item, m.Segment) and not item.final


def is_whole(item: object) -> TypeGuard[m.Segment]:
    """Whether something is a whole segment."""
    return isinstance(item, m.Segment) and item.final


def hello(
    *streams: m.StreamInfo, front: str = "front-0", first: int = 0, **changes: Any
) -> m.Hello:
    known = streams or (info(front=front),)
    fields: dict[str, Any] = {
        "front": front,
        "incarnation": "1",
        "run": known[0].run,
        "streams": known,
        "first_sequences": (first,) * len(known),
    }
    return m.Hello(**(fields | changes))


def task(sequence: int, stream: str = "call", length: int = 16, **changes: Any) -> m.Task:
    start = sequence * SECOND
    samples = m.Payload.of(np.full(length, sequence, np.int16))
    fields: dict[str, Any] = {
        "stream": stream,
        "sequence": sequence,
        "services": ("S1",),
        "start": start,
        "end": start + length,
        "samples": samples,
    }
    return m.Task(**(fields | changes))


def gap(sequence: int, stream: str = "call", **changes: Any) -> m.Gap:
    start = sequence * SECOND
    fields: dict[str, Any] = {
        "stream": stream,
        "sequence": sequence,
        "start": start,
        "end": start + 16,
        "reason": "lost",
    }
    return m.Gap(**(fields | changes))


def verdict(sequence: int, stream: str = "call", **changes: Any) -> m.Verdict:
    start = sequence * SECOND
    fields: dict[str, Any] = {
        "stream": stream,
        "sequence": sequence,
        "start": start,
        "end": start + 16,
        "start_unix_s": 1_000_000.0,
        "label": "happy",
        "confidence": 0.65,
        "agreement": 1.0,
        "votes": (vote(sequence, "S1", stream=stream),),
        "captured_unix_s": 1_000_000.0,
        "stages_ms": {"queue": 1.0},
    }
    return m.Verdict(**(fields | changes))


def node_up(node: str = "S1-0", service: str = "S1") -> m.NodeUp:
    return m.NodeUp(
        node=node,
        service=service,
        gives="vote",
        model="fake",
        version="1",
        licence="Apache-2.0",
        noncommercial=False,
    )


def one_of_each() -> list[m.Message]:
    """One message of every type that crosses a process boundary, every field filled."""
    words = (
        m.Word(text="hello", start=1, end=5, confidence=0.5),
        m.Word(text="you", start=6, end=9),
    )
    transcript = m.Transcript(
        stream="call",
        sequence=3,
        text="hello you",
        translation="bonjour",
        confidence=0.5,
        language="en",
        language_probability=0.75,
        words=words,
        reason="",
        part=2,
        stable=1,
        model="fake",
        queue_ms=1.0,
        run_ms=2.0,
        batch_size=3,
    )
    standing = m.Standing(
        stream="call",
        next_sequence=4,
        acknowledged=2,
        position=99,
        start_unix_s=1_000_000.0,
        window=8,
    )
    down = {"incarnation": "1", "reason": "has been silent for 4.0 s"}
    status = m.Status(
        hub="h",
        waiting=1,
        open_segments=2,
        nodes=(m.NodeLoad(node="S1-0", service="S1", held=1, done=9, checked_s=2.5),),
        fronts=("front-0",),
        refused={"malformed": 2},
        doubles=1,
        queued={"S1": 1},
    )
    return [
        hello(info("a"), info("b", live=True)),
        segment(3),
        gap(4),
        partial(4, part=2),
        m.Activity(stream="call", position=5 * SECOND, speaking=True),
        m.End(stream="call", sequence=5, position=5 * SECOND, reason="was unplugged"),
        m.Remark(source="call.wav", text="has 3 damaged packets"),
        m.Beat(name="S1-0", work_age_s=0.25),
        m.Welcome(hub="h", streams=(standing,)),
        m.Known(stream="call", service="S1", state=b"known"),
        m.Credit(stream="call", acknowledged=2, window=8, states={"S1": b"known"}),
        m.Introduce(),
        ready(
            "S1 T2",
            noncommercial=True,
            context_turns=3,
            stateful=True,
            trial_ms=1.5,
            incremental=True,
            attributes=True,
        ),
        transcript,
        rated(vote(3, "S1"), 1.0, 4.5, 7.0),
        failed(task(3), "S1", retry=True),
        task(
            3,
            part=2,
            transcript="hello you",
            language="en",
            previous=("ja",),
            context=("yes", "and then"),
            states={"S1": b"known"},
        ),
        m.Cancel(stream="call", sequence=3, part=2),
        m.Drain(),
        m.Refused(reason="its credits are 0, not at least 1"),
        m.Subscribe(sink="recorder", confirm=True, run=RUN),
        m.Seen(hub="h", number=7),
        m.Died(name="S1-0", reason="was killed", final=True, services=("S1", "T2")),
        m.StreamStarted(info=info()),
        verdict(
            3,
            part=2,
            attributes=Attributes(1.0, 4.5, 7.0),
            missing=(m.Missing(voter="T2", reason="late"),),
            transcript=transcript,
        ),
        m.StreamEnded(stream="call", sequence=5, position=5 * SECOND, reason="was unplugged"),
        node_up(),
        m.NodeDown(node="S1-0", service="S1", **down),
        m.FrontDown(front="front-0", **down),
        status,
        m.Notice(number=7, hub="h", event=status),
    ]
