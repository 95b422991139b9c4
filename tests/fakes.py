"""Builders of messages and stand-ins for processes, shared by all tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from abhinaya.models.labels import LABELS
from abhinaya.stream.config import Config, DeadlineConfig, FlowConfig, SuperviseConfig, WorkerConfig
from abhinaya.stream.messages import (
    Failed,
    Payload,
    Ready,
    Segment,
    StreamInfo,
    Task,
    Transcript,
    Vote,
)

SECOND = 16_000


def config(**changes: Any) -> Config:
    """A line-up of one audio voter, one text voter, one of both, and a transcriber."""
    worker = WorkerConfig(model="fake")
    settings: dict[str, Any] = {
        "profile": "test",
        "asr": worker,
        "voters": {"S1": worker, "T2": worker, "ST1": worker},
        "flow": FlowConfig(file_window=4, live_backlog=3),
        "deadlines": DeadlineConfig(live_s=2.0, file_s=60.0, revise_s=5.0, task_s=10.0),
        "supervise": SuperviseConfig(silent_s=3.0),
    }
    return Config(**(settings | changes))


NEEDS: dict[str, tuple[Any, ...]] = {
    "asr": ("audio",),
    "S1": ("audio",),
    "T2": ("transcript",),
    "ST1": ("audio", "transcript"),
}


def ready(service: str, node: str = "", **changes: Any) -> Ready:
    gives = "transcript" if service == "asr" else "vote"
    fields: dict[str, Any] = {
        "node": node or f"{service}-0",
        "incarnation": "1",
        "service": service,
        "needs": NEEDS[service],
        "gives": gives,
        "labels": LABELS if gives == "vote" else (),
        "model": "fake",
        "version": "1",
        "licence": "Apache-2.0",
        "credits": 2,
    }
    return Ready(**(fields | changes))


def info(stream: str = "call", live: bool = False, front: str = "front-0") -> StreamInfo:
    return StreamInfo(
        stream=stream, front=front, source="call.wav", live=live, start_unix_s=1_000_000.0
    )


def segment(sequence: int, stream: str = "call", length: int = 16, **changes: Any) -> Segment:
    """Segment `sequence` covers the second of the same number, of which `length` samples travel."""
    start = sequence * SECOND
    fields: dict[str, Any] = {
        "stream": stream,
        "sequence": sequence,
        "start": start,
        "end": start + length,
        "samples": Payload.of(np.full(length, sequence, np.int16)),
        "cut": "pause",
        "captured_unix_s": 1_000_000.0,
        "capture_ms": 0.0,
        "sent_unix_s": 1_000_000.5,
    }
    return Segment(**(fields | changes))


def answer(task: Task, service: str, label: str = "happy") -> Vote | Transcript:
    if service == "asr":
        return Transcript(
            stream=task.stream,
            sequence=task.sequence,
            text=f"words of {task.sequence}",
            confidence=0.9,
            model="fake",
            queue_ms=1.0,
            run_ms=2.0,
            batch_size=1,
        )
    return vote(task.sequence, service, label, task.stream)


def vote(sequence: int, voter: str, label: str = "happy", stream: str = "call") -> Vote:
    return Vote(
        stream=stream,
        sequence=sequence,
        voter=voter,
        label=label,
        probabilities=tuple(0.65 if name == label else 0.05 for name in LABELS),
        model="fake",
        version="1",
        queue_ms=1.0,
        run_ms=2.0,
        batch_size=1,
    )


def failed(task: Task, service: str, retry: bool, reason: str = "broke") -> Failed:
    return Failed(
        stream=task.stream,
        sequence=task.sequence,
        service=service,
        reason=reason,
        retry=retry,
    )
