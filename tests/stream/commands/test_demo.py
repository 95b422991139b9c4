from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from abhinaya.bench.clips import distance, words_of
from abhinaya.bench.demo import CALL
from abhinaya.bench.demo.make_call import RATE, SCRIPT, FloatArray, Turn, mix, write
from abhinaya.bench.quality.sessions import Cutter
from abhinaya.models.asr import Hearing
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.node.worker import transcriber_of
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.settings.profile import load
from abhinaya.stream.sources import InputConfig, open_source


def read(path: Path) -> FloatArray:
    source = open_source(InputConfig(str(path), channels="split"))
    return np.concatenate([chunk.samples for chunk in source.chunks()])


def test_the_call_is_short_small_and_stereo() -> None:
    call = read(CALL)
    assert 60 <= len(call) / SAMPLE_RATE <= 80
    assert call.shape[1] == 2
    assert CALL.stat().st_size < 400_000


def test_each_turn_is_heard_on_its_own_channel() -> None:
    listener = Listener(VadConfig(), 2)
    pieces = listener.feed(read(CALL)) + listener.finish()
    pieces.sort(key=lambda entry: entry[1].start)
    turns = [channel for channel, _ in groupby(channel for channel, _ in pieces)]
    assert turns == [0 if turn.who == "agent" else 1 for turn in SCRIPT]


def test_the_words_of_the_call_are_heard_right() -> None:
    asr = load("embedded").asr
    assert asr is not None
    transcriber = transcriber_of(asr)
    errors = words = 0
    for channel, who in enumerate(("agent", "customer")):
        pieces = Cutter().pieces(read(CALL)[:, channel])
        said = transcriber.transcribe([Hearing(piece.samples) for piece in pieces])
        reference = words_of(" ".join(turn.text for turn in SCRIPT if turn.who == who))
        errors += distance(reference, words_of(" ".join(each.text for each in said)))
        words += len(reference)
    assert errors / words < 0.05


def test_the_turns_are_laid_one_after_another_each_on_its_side(tmp_path: Path) -> None:
    script = (
        Turn("agent", "one", 0.5),
        Turn("customer", "two", 0.25, gain_db=6),
    )
    tone = (0.5 * np.sin(np.arange(RATE) / 9)).astype(np.float32)
    made = mix(script, lambda turn: tone)
    assert made.shape == (round(3.25 * RATE), 2)
    loud = np.abs(made).reshape(13, RATE // 4, 2).mean(axis=1) > 0.1
    assert loud[:, 0].tolist() == [False] * 2 + [True] * 4 + [False] * 7
    assert loud[:, 1].tolist() == [False] * 7 + [True] * 4 + [False] * 2
    write(made, tmp_path / "a.opus")
    write(made, tmp_path / "b.opus")
    assert (tmp_path / "a.opus").read_bytes() == (tmp_path / "b.opus").read_bytes()
    assert len(read(tmp_path / "a.opus")) / SAMPLE_RATE == 3.25
