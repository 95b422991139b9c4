from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from abhinaya.models.compact.features import (
    SAMPLE_RATE,
)
from abhinaya.models.compact.heard import Heard, heard_of
from abhinaya.models.compact.measure import N_FEATURES, SEEN, normalised
from abhinaya.models.compact.moments import fixed_statistics
from abhinaya.models.compact.running import SpeechStatistics
from abhinaya.models.compact.voice import MEL, frame_values
from abhinaya.train.compact_recordings import Cuts, Recordings, normalisations, streamed, stretches
from abhinaya.train.compact_speech import SPEECH_LABELS, smoothed
from abhinaya.train.data.clips import read_clips
from abhinaya.train.data.sessions import render
from abhinaya.train.speech_batches import BatchPlan, SpeechBatches, joined
from abhinaya.train.towers import FirstColumns, SpeechTower


def tone(hz: float, seconds: float) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def test_bursts_and_speech_learn_apart() -> None:
    speech = len(SPEECH_LABELS)
    targets = torch.eye(speech + 8)[[2, speech + 1]]
    logits = torch.randn(2, speech + 8, requires_grad=True)
    apart, soft = smoothed(logits, targets, speech, 0.1)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(2))
    assert soft[0, speech:].sum() == 0.0
    assert soft[1, :speech].sum() == 0.0
    loss = torch.nn.functional.cross_entropy(apart, soft)
    (slopes,) = torch.autograd.grad(loss, logits)
    assert slopes[0, speech:].abs().sum() == 0.0
    assert slopes[1, :speech].abs().sum() == 0.0
    assert slopes[0, 2] < 0.0 < slopes[1, speech]


def test_without_bursts_nothing_is_hidden() -> None:
    logits, targets = torch.randn(3, 7), torch.eye(7)[:3]
    apart, soft = smoothed(logits, targets, 7, 0.07)
    assert torch.equal(apart, logits)
    assert soft[0, 0].item() == pytest.approx(0.94)
    assert soft[0, 1].item() == pytest.approx(0.01)


def test_first_columns_are_those_of_the_whole_tower() -> None:
    tower = SpeechTower(15, (4, 4, 4, 4), 8, 0.0).eval()
    inputs, mask = torch.randn(2, 40, N_FEATURES), torch.ones(2, 40)
    with torch.no_grad():
        assert torch.equal(FirstColumns(tower, 7)(inputs, mask), tower(inputs, mask)[:, :7])


def test_joined_sessions_hold_both_and_only_what_may_be_learnt_is_drawn(
    tiny: Path, tmp_path: Path
) -> None:
    speech, bursts = (
        render(read_clips(tiny, [corpus]), tiny, tmp_path, 0, 3, workers=1)
        for corpus in ("ravdess", "emogator")
    )
    both, n = joined(speech, bursts), len(speech.clips)
    np.testing.assert_array_equal(both.seen(n - 1), speech.seen(n - 1))
    np.testing.assert_array_equal(both.seen(n), bursts.seen(0))
    np.testing.assert_array_equal(both.sums([n + 1]).first, bursts.sums([1]).first)
    assert not set(both.session[:n]) & set(both.session[n:])

    learn = np.array([c.label in ("angry", "happy") for c in both.clips])
    plan = BatchPlan(size=300, shares={"ravdess": 0.5, "emogator": 0.5})
    _, _, targets = SpeechBatches(both, SPEECH_LABELS, plan, 0, learn).draw()
    drawn = np.flatnonzero(targets.sum(dim=0).numpy())
    assert drawn.tolist() == [0, 3, 7 + 0, 7 + 4]  # angry and happy of speech, and of bursts


def test_fixed_statistics_let_the_gain_through_and_running_ones_do_not(
    tiny: Path,
) -> None:
    clips = [c for c in read_clips(tiny, ["ravdess"]) if c.speaker == "ravdess_01"]
    recordings = Recordings(clips)
    ways = normalisations((0, 5))
    assert list(ways) == [
        "none (fixed statistics)",
        "own clip alone",
        "running, 5 s heard before",
    ]
    fixed, own, later = (way(recordings)[0] for way in ways.values())

    def level(heard: Heard | None) -> float:
        assert heard is not None
        return float(heard.mean[MEL].mean())

    assert level(fixed.heard) == pytest.approx(level(fixed_statistics()))
    # the same clips through the front's own statistics, in the same order
    order = [i for i in np.random.default_rng(0).permutation(len(clips)) if i != 0]
    streamed, left = SpeechStatistics(), 5.0
    for i in order:
        if left > 0.0:
            streamed.update(recordings.after(0)[i].samples)
            left -= len(recordings.after(0)[i].samples) / SAMPLE_RATE
    streamed.update(own.samples)
    assert later.heard is not None
    assert later.heard.frames == pytest.approx(streamed.heard().frames, rel=0.05)
    apart = (later.heard.mean - streamed.heard().mean) / streamed.heard().std
    np.testing.assert_allclose(apart, 0.0, atol=0.1)
    clip = frame_values(own.samples)[:, SEEN]
    assert heard_of(own) is None
    statistics = SpeechStatistics()
    statistics.update(own.samples)
    assert later.heard is not None
    assert later.heard.frames > 3 * statistics.heard().frames
    quiet = clip.copy()
    quiet[:, MEL] -= 3.0
    apart = normalised(quiet, fixed_statistics()) - normalised(clip, fixed_statistics())
    assert apart[:, MEL].mean() < -0.5


def test_speech_is_cut_at_pauses_and_at_the_longest(tmp_path: Path) -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    samples = np.concatenate([silence, tone(300, 2.0), silence, tone(300, 0.3), silence])
    (only,) = stretches(samples, Cuts())
    assert only == (pytest.approx(16_000, abs=400), pytest.approx(48_000, abs=400))
    assert len(stretches(samples, Cuts(shortest_frames=10))) == 2
    assert len(stretches(samples, Cuts(longest_frames=100))) == 2
    assert stretches(silence, Cuts()) == []
    assert streamed(tmp_path) == []
