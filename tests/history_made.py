"""Events of long calls, as the monitor writes them: words with times, votes with all shares."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from abhinaya.models.labels import LABELS
from abhinaya.stream.sinks.events import SCHEMA, wall_time

WORDS = (
    "where is my car the invoice was wrong again please refund account number yes no okay thank"
    " you order delivery week manager and to of that it for I have been waiting since monday"
)
SEGMENT_S = 6.0
BEGAN = 1_764_489_600.0
"""A Sunday morning: 32 streams begin."""


def stream_name(number: int) -> str:
    return f"call-{number // 2}/{('agent', 'customer')[number % 2]}"


def events(streams: int, hours: float, seed: int = 1) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield (time, event): every stream speaks every 6 s."""
    made = random.Random(seed)
    for number in range(streams):
        begun = {"schema": SCHEMA, "type": "stream_started", "stream": stream_name(number)}
        begun |= {"run": "made", "source": "push", "live": True, "wall_time": wall_time(BEGAN)}
        yield BEGAN, begun
    for segment in range(round(3600 * hours / SEGMENT_S)):
        for number in range(streams):
            now = BEGAN + SEGMENT_S * (segment + 1) + number / streams
            yield now, verdict(made, stream_name(number), segment)
            if made.random() < 0.002:
                yield now, alert(made, stream_name(number), segment)


def verdict(made: random.Random, stream: str, segment: int, words: str = "") -> dict[str, Any]:
    start = SEGMENT_S * segment
    said = words.split() or made.choices(WORDS.split(), k=made.randint(4, 18))
    label = made.choices(LABELS, (2, 1, 1, 1, 3, 12, 2, 1))[0]
    return {
        "schema": SCHEMA,
        "type": "verdict",
        "stream": stream,
        "segment": segment,
        "start_s": start,
        "end_s": start + made.randint(800, 5000) / 1000,
        "wall_time": wall_time(BEGAN + start),
        "label": label,
        "leading": label,
        "confidence": round(made.random(), 4),
        "agreement": 0.6667,
        "margin": 0.3333,
        "revision": 0,
        "final": True,
        "part": 0,
        "reason": "",
        "refinement": None,
        "votes": [_vote(made, voter) for voter in ("S1", "T2", "ST1")],
        "missing": [],
        "transcript": {
            "text": " ".join(said),
            "translation": "",
            "confidence": round(made.random(), 4),
            "language": "en",
            "language_probability": None,
            "reason": "",
            "final": True,
            "stable_words": len(said),
            "words": [
                {
                    "text": word,
                    "start_s": round(start + 0.3 * i, 3),
                    "end_s": round(start + 0.3 * i + 0.25, 3),
                    "confidence": round(made.random(), 4),
                }
                for i, word in enumerate(said)
            ],
        },
        "latency_ms": {
            "capture": 12.0, "segment": 400.0, "queue": 3.0, "asr": 180.0, "voters": 60.0,
            "vote": 1.0, "emit": 2.0, "total": round(made.uniform(600, 900), 1),
        },
    }  # fmt: skip


def alert(made: random.Random, stream: str, segment: int) -> dict[str, Any]:
    start = SEGMENT_S * segment
    return {
        "schema": SCHEMA,
        "type": "alert",
        "stream": stream,
        "rule": "angry customer",
        "label": "angry",
        "segment": segment,
        "first_segment": segment,
        "segments": 1,
        "start_s": start,
        "end_s": start + 3.0,
        "speech_s": 3.0,
        "wall_time": wall_time(BEGAN + start),
        "confidence": round(made.random(), 4),
        "text": "where is my car",
    }


def _vote(made: random.Random, voter: str) -> dict[str, Any]:
    shares = [made.random() for _ in LABELS]
    return {
        "voter": voter,
        "label": made.choice(LABELS),
        "probabilities": {
            label: round(share / sum(shares), 4)
            for label, share in zip(LABELS, shares, strict=True)
        },
        "model": "tiny-speech",
        "version": "1.2",
        "queue_ms": round(made.uniform(0, 20), 1),
        "run_ms": round(made.uniform(20, 120), 1),
        "batch_size": made.randint(1, 8),
    }
