from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from abhinaya.bench.demo import CALL
from abhinaya.bench.demo.make_call import RATE, SCRIPT, mix, write
from abhinaya.stream.config import VadConfig
from abhinaya.stream.listener import Listener
from abhinaya.stream.sources import InputConfig, open_source


def read(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    source = open_source(InputConfig(str(path), channels="split"))
    return np.concatenate([chunk.samples for chunk in source.chunks()])


def test_the_call_is_short_small_and_stereo() -> None:
    call = read(CALL)
    assert 40 <= len(call) / RATE <= 60
    assert call.shape[1] == 2
    assert CALL.stat().st_size < 400_000


def test_each_turn_is_heard_on_its_own_channel() -> None:
    listener = Listener(VadConfig(), 2)
    pieces = listener.feed(read(CALL)) + listener.finish()
    pieces.sort(key=lambda entry: entry[1].start)
    assert [channel for channel, _ in pieces] == [
        0 if turn.who == "agent" else 1 for turn in SCRIPT
    ]


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_the_script_makes_the_call(tmp_path: Path) -> None:
    made = mix(SCRIPT)
    write(made, tmp_path / "again.opus")
    again, kept = read(tmp_path / "again.opus"), read(CALL)
    assert again.shape == kept.shape
    # Another version of FFmpeg may round differently; the loudness over time stays.
    frames = len(kept) // RATE
    for sound in (again, kept):
        assert np.isfinite(sound).all()
    loud, expected = (
        np.abs(x[: frames * RATE]).reshape(frames, RATE, 2).mean(axis=1) for x in (again, kept)
    )
    np.testing.assert_allclose(loud, expected, atol=0.003)
