"""What the monitor says of a recording is what its models say of it without any process or socket.

Offline here means: one process, one segment at a time, nothing batched, nothing sent. What it does
by hand is what a stream must come to: the cut, what each model knows of the voice, the transcript,
each vote, the decision. Only the rounding to 16 bits, as which samples travel, is taken over: a
recogniser may hear another word for less.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from places import DATA as SHARED

from abhinaya.bench.demo import CALL
from abhinaya.models import registry
from abhinaya.models.base import Ballot, Utterance
from abhinaya.models.vote.ensemble import decide, defers
from abhinaya.stream import Monitor
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.commands import transcribe
from abhinaya.stream.front.vad import SileroVad
from abhinaya.stream.node.worker import transcriber_of
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.settings.vote import load_combiner, rule_of
from abhinaya.stream.wire.messages import Verdict

CLIPS = 6


@dataclass(frozen=True)
class Offline:
    start_s: float
    end_s: float
    text: str
    votes: dict[str, Ballot]
    label: str


def offline(paths: list[Path], cascade: tuple[str, ...]) -> dict[str, list[Offline]]:
    config = profile_files.load("embedded", {"vote.cascade": list(cascade)})
    assert config.asr is not None
    transcriber = transcriber_of(config.asr)
    voters = {n: registry.load(w.model, w.options) for n, w in config.voters.items()}
    rule = rule_of(config.vote, load_combiner(config.vote))
    found: dict[str, list[Offline]] = {}
    for path in paths:
        states: dict[str, bytes] = {}
        request = transcribe.Request(path.stem, str(path))
        for text in transcribe.transcribe(request, transcriber, config.vad, SileroVad(), 1):
            said = text.transcription.text
            samples = transcribe.as_received(text.piece.samples)
            votes: dict[str, Ballot] = {}
            for name in sorted(voters, key=lambda name: name in cascade):
                if not said and "transcript" in voters[name].card.needs:
                    continue
                if name in cascade and not defers(votes, rule):
                    continue
                (answer,) = voters[name].vote([Utterance(samples, states.get(name, b""), said)])
                states |= {name: answer.state} if answer.state else {}
                votes |= {name: answer} if isinstance(answer, Ballot) else {}
            found.setdefault(path.stem, []).append(
                Offline(
                    to_seconds(text.piece.start),
                    to_seconds(text.piece.end),
                    said,
                    votes,
                    decide(votes, rule).label,
                )
            )
    return found


def monitored(paths: list[Path], cascade: tuple[str, ...]) -> dict[str, list[Verdict]]:
    """In this process; `stream/test_api.py` holds that against the real processes."""
    found: dict[str, list[Verdict]] = {}
    with Monitor(vote__cascade=list(cascade)) as monitor:
        for verdict in monitor.label_files(paths):
            found.setdefault(verdict.stream, []).append(verdict)
    return found


def compare(paths: list[Path], cascade: tuple[str, ...] = ()) -> int:
    """Hold every verdict against its offline twin; return how many there were."""
    expected, came = offline(paths, cascade), monitored(paths, cascade)
    assert came.keys() == expected.keys()
    for stream, twins in expected.items():
        assert len(came[stream]) == len(twins)
        for verdict, twin in zip(came[stream], twins, strict=True):
            at = f"{stream} at {twin.start_s:.1f} s"
            assert verdict.start_s == pytest.approx(twin.start_s, abs=1e-3), at
            assert verdict.end_s == pytest.approx(twin.end_s, abs=1e-3), at
            assert verdict.text == twin.text, at
            assert {vote.voter for vote in verdict.votes} == twin.votes.keys(), at
            for vote in verdict.votes:
                ballot = twin.votes[vote.voter]
                assert vote.label == ballot.label, at
                np.testing.assert_allclose(
                    vote.probabilities, ballot.probabilities, atol=1e-4, err_msg=at
                )
            assert verdict.label == twin.label, at
    return sum(map(len, expected.values()))


def test_the_demo_call_gets_the_same_labels() -> None:
    assert compare([CALL]) >= 8


@pytest.mark.slow
def test_a_cascade_is_asked_about_the_same_segments() -> None:
    assert compare([CALL], ("ST1", "S1")) >= 8


def test_acted_clips_get_the_same_labels() -> None:
    index = SHARED / "speech.csv"
    if not index.exists():
        pytest.skip(f"needs the corpora of {SHARED}")
    with index.open(newline="", encoding="utf-8") as rows:
        dev = [
            row
            for row in csv.DictReader(rows)
            if row["corpus"] == "ravdess" and row["suggested_split"] == "dev"
        ]
    chosen = [SHARED / row["path"] for row in dev[:: len(dev) // CLIPS][:CLIPS]]
    assert compare(chosen) >= CLIPS
