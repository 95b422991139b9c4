"""Planted streams that speak in turns, event by event: for what must keep pace with many."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, NamedTuple

from abhinaya.models.labels import LABELS
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.messages import (
    Activity,
    Event,
    NodeLoad,
    NodeUp,
    Status,
    StreamInfo,
    StreamStarted,
    Transcript,
    Verdict,
    Vote,
)

VOTERS: Final = ("S1", "T2", "ST1")
TURN_S: Final = 6.5
"""From one segment to the next."""
SPEECH_S: Final = 5.0
PART_EVERY_S: Final = 1.0
DECIDED_AFTER_S: Final = 0.9
BEAT_S: Final = 0.5
WORDS: Final = "i have been waiting for an answer since monday and nobody called me back"


class Timed(NamedTuple):
    """An event, and when it reaches a sink."""

    at_s: float
    order: int
    event: Event | Activity


def conversation(streams: int, seconds: float, start_unix_s: float) -> Iterator[Timed]:
    """Yield what live streams tell in so many seconds, in the order of time.

    Each speaks for 5 s of every 6.5 s and has a provisional verdict every second meanwhile.
    """
    names = [f"desk {number + 1:02}" for number in range(streams)]
    tracks = [_track(name, i, seconds, start_unix_s) for i, name in enumerate(names)]
    yield from heapq.merge(_processes(seconds), *tracks, key=lambda timed: timed[:2])


def _processes(seconds: float) -> Iterator[Timed]:
    for service in ("asr", *VOTERS):
        yield Timed(0.0, 0, _node(service))
    for beat in range(int(seconds / BEAT_S)):
        loads = tuple(NodeLoad(node=f"{v}-0", service=v, held=1, done=beat) for v in VOTERS)
        status = Status(
            hub="planted",
            waiting=beat % 3,
            open_segments=beat % 5,
            nodes=loads,
            fronts=("front-0",),
            refused={},
            doubles=0,
        )
        yield Timed(beat * BEAT_S, 2, status)


def _track(name: str, number: int, seconds: float, start_unix_s: float) -> Iterator[Timed]:
    info = StreamInfo(
        stream=name, front="front-0", source="planted", live=True, start_unix_s=start_unix_s
    )
    yield Timed(0.0, 1, StreamStarted(info=info))
    # streams that begin to speak at different times do not move in step
    start_s, sequence = 1.0 + TURN_S * (number * 0.618 % 1), 0
    while start_s + TURN_S < seconds:
        label = LABELS[(number + sequence // 3) % len(LABELS)]
        yield Timed(start_s, 3, Activity(stream=name, position=_at(start_s), speaking=True))
        for part in range(1, int(SPEECH_S / PART_EVERY_S)):
            end_s = start_s + part * PART_EVERY_S
            event = _verdict(name, sequence, start_s, end_s, label, start_unix_s, part)
            yield Timed(end_s + 0.3, 3, event)
        end_s = start_s + SPEECH_S
        yield Timed(end_s, 3, Activity(stream=name, position=_at(end_s), speaking=False))
        whole = _verdict(name, sequence, start_s, end_s, label, start_unix_s, 0)
        yield Timed(end_s + DECIDED_AFTER_S, 3, whole)
        start_s, sequence = start_s + TURN_S, sequence + 1


def _verdict(
    name: str,
    sequence: int,
    start_s: float,
    end_s: float,
    label: str,
    start_unix_s: float,
    part: int,
) -> Verdict:
    words = WORDS.split()
    count = len(words) * part * int(PART_EVERY_S) // int(SPEECH_S) if part else len(words)
    share = 0.5 + 0.05 * part
    rest = (1 - share) / (len(LABELS) - 1)
    votes = tuple(
        Vote(
            stream=name,
            sequence=sequence,
            voter=voter,
            label=label,
            probabilities=tuple(share if other == label else rest for other in LABELS),
            part=part,
            model="planted",
            version="1",
            queue_ms=1.0,
            run_ms=2.0,
            batch_size=1,
        )
        for voter in (VOTERS[:2] if part else VOTERS)
    )
    transcript = Transcript(
        stream=name,
        sequence=sequence,
        text=" ".join(words[:count]),
        part=part,
        stable=max(0, count - 3),
        model="planted",
        queue_ms=1.0,
        run_ms=2.0,
        batch_size=1,
    )
    return Verdict(
        stream=name,
        sequence=sequence,
        start=_at(start_s),
        end=_at(end_s),
        start_unix_s=start_unix_s + start_s,
        label=label,
        confidence=share,
        agreement=1.0,
        part=part,
        votes=votes,
        transcript=transcript,
        captured_unix_s=start_unix_s + end_s,
        stages_ms={},
    )


def _node(service: str) -> NodeUp:
    return NodeUp(
        node=f"{service}-0",
        service=service,
        gives="transcript" if service == "asr" else "vote",
        model="planted",
        version="1",
        licence="Apache-2.0",
        noncommercial=False,
    )


def _at(seconds: float) -> int:
    return int(seconds * SAMPLE_RATE)
