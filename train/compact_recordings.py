"""Recordings to measure on: clips after any amount of speech, voices by telephone, calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray, Utterance
from abhinaya.models.compact.features import HOP_SAMPLES, SAMPLE_RATE, log_mel, speech_frames
from abhinaya.models.compact.heard import Measured
from abhinaya.models.compact.moments import Sums, fixed_statistics, heard_from
from abhinaya.models.compact.running import Habits, SpeechStatistics
from abhinaya.models.compact.voice import MEL, frame_values
from abhinaya.train.data.audio import read_audio
from abhinaya.train.data.channels import Channel, send_through
from abhinaya.train.data.clips import Clip

LONGEST_SAMPLES: Final = 10 * SAMPLE_RATE
TELEPHONE: Final = Channel(low_hz=300.0, high_hz=3_400.0, telephone=True)


class Recordings:
    """Clips read once, as utterances after any amount of speech of the same speaker."""

    def __init__(self, clips: Sequence[Clip], channel: Channel | None = None) -> None:
        """`channel` is what all of them come through; as recorded unless given."""
        self.clips = tuple(clips)
        self._samples = [read_audio(clip.path)[:LONGEST_SAMPLES] for clip in clips]
        if channel is not None:
            rng = np.random.default_rng(0)
            self._samples = [send_through(samples, channel, rng) for samples in self._samples]
        speakers = np.array([clip.speaker for clip in clips])
        self._same = [np.flatnonzero(speakers == speaker) for speaker in speakers]
        self._values: dict[int, FloatArray] = {}

    def after(self, heard_s: float, seed: int = 0) -> list[Utterance]:
        """Each clip after at least `heard_s` seconds of its speaker's other clips.

        After 0 s the clip is alone, and normalised by its own statistics. What came before is heard
        as a stream hears it, the peak carried from clip to clip; only the frames across the seams
        and the slow forgetting are left out.
        """
        if heard_s <= 0.0:
            return [Utterance(samples) for samples in self._samples]
        rng = np.random.default_rng(seed)
        return [self._one(i, heard_s, rng) for i in range(len(self.clips))]

    def unnormalised(self) -> list[Utterance]:
        """Each clip with the fixed statistics of the training speech, whoever speaks."""
        return [Measured(samples, heard=fixed_statistics()) for samples in self._samples]

    def _one(self, i: int, heard_s: float, rng: np.random.Generator) -> Utterance:
        before, left = [], heard_s
        for other in rng.permutation(self._same[i]):
            if left <= 0.0:
                break
            if other != i:
                before.append(int(other))
                left -= len(self._samples[other]) / SAMPLE_RATE
        sums, peak, habits = Sums.none(), -np.inf, Habits.none()
        for clip in before:
            habits = habits.after(self._values_of(clip))
        for clip in [*before, i]:
            values = self._values_of(clip)
            speech, peak = speech_frames(values[:, MEL], peak)
            sums += Sums.of(values[speech])
        return Measured(self._samples[i], heard=habits.told(heard_from(sums)))

    def _values_of(self, i: int) -> FloatArray:
        if i not in self._values:
            self._values[i] = frame_values(self._samples[i])
        return self._values[i]


@dataclass(frozen=True)
class Cuts:
    """How a long recording is cut where nobody speaks. A stand-in for the monitor's segmenter."""

    pause_frames: int = 40
    shortest_frames: int = 60
    longest_frames: int = 800


def streamed(folder: Path, cuts: Cuts | None = None) -> list[Utterance]:
    """Stretches of speech of each recording in `folder`, each recording a stream of its own."""
    found: list[Utterance] = []
    for path in sorted(folder.glob("*.opus")):
        samples, statistics = read_audio(path), SpeechStatistics()
        for start, end in stretches(samples, cuts or Cuts()):
            piece = samples[start:end]
            statistics.update(piece)
            found.append(Measured(piece, heard=statistics.heard()))
    return found


def stretches(samples: FloatArray, cuts: Cuts) -> list[tuple[int, int]]:
    """First and last sample of each stretch of speech, by the level of its frames alone."""
    loud = np.flatnonzero(speech_frames(log_mel(samples))[0])
    if len(loud) == 0:
        return []
    breaks = np.flatnonzero(np.diff(loud) > cuts.pause_frames)
    found = []
    for first, last in zip(
        loud[np.append(0, breaks + 1)], loud[np.append(breaks, len(loud) - 1)], strict=True
    ):
        for start in range(int(first), int(last) + 1, cuts.longest_frames):
            end = min(start + cuts.longest_frames, int(last) + 1)
            if end - start >= cuts.shortest_frames:
                found.append((start * HOP_SAMPLES, end * HOP_SAMPLES))
    return found


Normalisations = dict[str, Callable[[Recordings], list[Utterance]]]


def normalisations(heard_s: Sequence[int]) -> Normalisations:
    """Name every way to normalise: none at all, by the clip alone, running after some seconds."""

    def after(seconds: int) -> Callable[[Recordings], list[Utterance]]:
        return lambda recordings: recordings.after(seconds)

    ways: Normalisations = {"none (fixed statistics)": Recordings.unnormalised}
    for seconds in heard_s:
        name = f"running, {seconds} s heard before" if seconds else "own clip alone"
        ways[name] = after(seconds)
    return ways
