from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA

from abhinaya.stream.front.listener import Listener, feed_together
from abhinaya.stream.front.segmenter import Piece
from abhinaya.stream.front.vad import FRAME_SAMPLES, VadState
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources import InputConfig, open_source

E2E = DATA / "e2e"
CONFIG = VadConfig(max_segment_s=2.0, cut_search_s=0.7)


class LevelVad:
    """Loud is speech; what it heard a frame ago counts as well, so that a lost state shows."""

    def probabilities(self, frames: Any, state: VadState) -> Any:
        loud = np.abs(frames).max(axis=1)
        result = np.clip(0.8 * loud + 0.2 * np.abs(state.context).max(axis=1), 0, 1)
        state.context = frames[:, -64:]
        return result.astype(np.float32)


def talk(seed: int, seconds: float, channels: int = 1) -> Any:
    """Noise that swells and fades: [n, channels]."""
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.choice([0.0, 0.1, 0.5, 1.0], (round(seconds * 8), channels)), 2000, 0)
    return (level * rng.uniform(-1, 1, level.shape)).astype(np.float32)


def listen(samples: Any, points: list[int], vad: Any = None) -> list[tuple[int, Piece]]:
    listener = Listener(CONFIG, samples.shape[1], vad or LevelVad())
    pieces = []
    for part in np.split(samples, sorted(point % (len(samples) + 1) for point in points)):
        pieces += listener.feed(part)
    pieces += listener.finish()
    assert listener.position == len(samples)
    return pieces


def same(first: list[tuple[int, Piece]], second: list[tuple[int, Piece]]) -> bool:
    return len(first) == len(second) and all(
        (a, p.start, p.end, p.cut, p.speech_end) == (b, q.start, q.end, q.cut, q.speech_end)
        and np.array_equal(p.samples, q.samples)
        for (a, p), (b, q) in zip(first, second, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 99), st.integers(1, 3), st.lists(st.integers(0, 10**6), max_size=40))
def test_fed_in_pieces_equals_fed_whole(seed: int, channels: int, points: list[int]) -> None:
    samples = talk(seed, 6.1, channels)[: 97_000 + seed]
    whole = listen(samples, [])
    assert same(listen(samples, points), whole)
    for channel, piece in whole:
        assert np.array_equal(piece.samples, samples[piece.start : piece.end, channel])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 3)), min_size=1, max_size=4),
    st.lists(st.lists(st.integers(0, 9000), min_size=4, max_size=4), min_size=1, max_size=20),
)
def test_fed_together_equals_fed_alone(
    inputs: list[tuple[int, int]], rounds: list[list[int]]
) -> None:
    """In each round every input is fed as much as it happens to have, nothing perhaps."""
    vad = LevelVad()
    talks = [talk(seed, 4, channels) for seed, channels in inputs]
    listeners = [Listener(CONFIG, samples.shape[1], vad) for samples in talks]
    found: list[list[tuple[int, Piece]]] = [[] for _ in talks]
    position = [0] * len(talks)
    for lengths in [*rounds, [10**6] * 4]:
        fed = []
        for i, samples in enumerate(talks):
            fed.append((listeners[i], samples[position[i] : position[i] + lengths[i]]))
            position[i] = min(len(samples), position[i] + lengths[i])
        for pieces, new in zip(found, feed_together(fed), strict=True):
            pieces += new
    for listener, pieces, samples in zip(listeners, found, talks, strict=True):
        assert same(pieces + listener.finish(), listen(samples, []))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 60_000), st.integers(0, 100_000))
def test_after_a_loss_all_goes_on_as_from_the_start_but_later(
    seed: int, before: int, lost: int
) -> None:
    samples = talk(seed, 8)
    listener = Listener(CONFIG, 1, LevelVad())
    first = listener.feed(samples[:before]) + listener.skip(lost)
    assert listener.position == before + lost
    second = listener.feed(samples[before:]) + listener.finish()
    assert same(first, listen(samples[:before], []))
    expected = listen(samples[before:], [])
    assert [(p.start - before - lost, p.end - before - lost) for _, p in second] == [
        (p.start, p.end) for _, p in expected
    ]
    assert all(
        np.array_equal(a.samples, b.samples)
        for (_, a), (_, b) in zip(second, expected, strict=True)
    )


def test_speech_that_a_loss_interrupts_is_given_up_to_it() -> None:
    listener = Listener(CONFIG, 1, LevelVad())
    assert listener.feed(np.ones((10_000, 1), np.float32)) == []
    ((_, piece),) = listener.skip(500)
    assert (piece.start, piece.end, piece.cut) == (0, 10_000, "end")


def test_the_chunk_may_be_reused_by_the_caller() -> None:
    samples = talk(3, 8)
    expected = listen(samples, [])
    listener = Listener(CONFIG, 1, LevelVad())
    buffer = np.zeros((700, 1), np.float32)
    pieces = []
    for start in range(0, len(samples), 700):
        part = samples[start : start + 700]
        buffer[: len(part)] = part
        pieces += listener.feed(buffer[: len(part)])
        buffer[:] = 9.0
    assert same(pieces + listener.finish(), expected)


@pytest.mark.parametrize("name", ["jfk.flac", "ami/trn00_n-tilde.opus", "katiesteve.opus"])
def test_real_speech_in_pieces_equals_whole(name: str) -> None:
    path = E2E / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    source = open_source(InputConfig(str(path)))
    samples = np.concatenate([chunk.samples for chunk in source.chunks()])[:480_000]
    results = []
    for step in (len(samples), FRAME_SAMPLES, 317):
        listener = Listener(VadConfig(), 1)
        pieces = []
        for start in range(0, len(samples), step):
            pieces += listener.feed(samples[start : start + step])
        results.append(pieces + listener.finish())
    assert len(results[0]) >= 1
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    assert all(len(piece.samples) <= 160_000 for _, piece in results[0])
