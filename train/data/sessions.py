"""Clips rendered to log-mel features, in sessions that share a speaker and a channel.

A session is what a stream is to the monitor: one voice through one channel. Its other clips are
what was 'heard' when one of its clips is learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import speech_frames
from abhinaya.models.compact.manner import Spoken, spoken
from abhinaya.models.compact.measure import SEEN
from abhinaya.models.compact.moments import Sums
from abhinaya.models.compact.voice import MEL, N_VALUES, frame_values
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.channels import Channel, Surroundings, draw_channel, send_through
from abhinaya.train.data.clips import Clip

CLIPS_PER_SESSION = 24
RENDERING_VERSION = 4
"""Raise it when features or channels change: caches of another version are not used."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Features of many clips, one after the other, and where each begins.

    N clips, F frames of them all, D values of a frame (`models/compact/voice.py`), V of them SEEN
    by the sound network, R functionals. The same clip occurs once in every rendering.
    """

    clips: tuple[Clip, ...]
    session: npt.NDArray[np.int64]
    """[N] number of the session."""
    ends: npt.NDArray[np.int64]
    """[N] end of each clip in `frames`; it begins at the end of the one before."""
    frames: npt.NDArray[np.float16]
    """[F, V] of the frames."""
    weights: npt.NDArray[np.float64]
    """[N, 2] speech frames of each clip, with `firsts` and `seconds` [N, 2, D]: its `Sums`.

    First as the beginning of a stream, the running peak fresh; then within one, the peak carried on
    from the other clips of the session, as a stream carries it. They differ by the quiet frames
    before the clip's first word, which count as speech only where nothing louder was heard yet.
    """
    firsts: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    functionals: FloatArray
    """[N, R] of each clip (`models/compact/functionals.py`)."""

    def seen(self, i: int) -> FloatArray:
        """Frames [T, V] of clip i."""
        start = int(self.ends[i - 1]) if i else 0
        return self.frames[start : int(self.ends[i])].astype(np.float32)

    def spoken(self, i: int) -> Spoken:
        """Tell what of clip i does not depend on what was heard before it."""
        return Spoken(self.functionals[i], round(float(self.weights[i, 0])))

    def sums(self, chosen: Sequence[int] | npt.NDArray[np.int64]) -> Sums:
        """Add up several clips in the order of a stream: the first begins it."""
        within = np.minimum(np.arange(len(chosen)), 1)
        return Sums(
            float(self.weights[chosen, within].sum()),
            self.firsts[chosen, within].sum(axis=0),
            self.seconds[chosen, within].sum(axis=0),
        )


def render(
    clips: Sequence[Clip], data: Path, cache: Path, renderings: int, seed: int, workers: int = 2
) -> Sessions:
    """Render clips as they are once, and `renderings` times more through drawn channels.

    The result is kept in the folder `cache` and used again for the same arguments.
    """
    path = cache / f"sessions-{_key(clips, renderings, seed)}.npz"
    jobs = [
        (members, channel, number)
        for number, (members, channel) in enumerate(_plan(clips, data, renderings, seed))
    ]
    ordered = tuple(clip for members, _, _ in jobs for clip in members)
    if not path.is_file():
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_render_session, jobs, chunksize=4))
        cache.mkdir(parents=True, exist_ok=True)
        _store(path, parts)
    with np.load(path) as stored:
        return Sessions(clips=ordered, **{name: stored[name] for name in stored.files})


def _plan(
    clips: Sequence[Clip], data: Path, renderings: int, seed: int
) -> Iterator[tuple[list[Clip], Channel]]:
    """Divide the clips of each speaker into sessions at random, once for each rendering."""
    rng = np.random.default_rng(seed)
    around = Surroundings.find(data)
    speakers: dict[str, list[Clip]] = {}
    for clip in clips:
        speakers.setdefault(clip.speaker, []).append(clip)
    for rendering in range(renderings + 1):
        for of_speaker in speakers.values():
            order = rng.permutation(len(of_speaker))
            for start in range(0, len(order), CLIPS_PER_SESSION):
                members = [of_speaker[i] for i in order[start : start + CLIPS_PER_SESSION]]
                yield members, draw_channel(rng, around) if rendering else Channel()


@dataclass(frozen=True, slots=True)
class _Rendered:
    """One clip of a session. Fields as those of `Sessions`."""

    frames: npt.NDArray[np.float16]
    sums: tuple[Sums, Sums]
    functionals: FloatArray


def _render_session(job: tuple[list[Clip], Channel, int]) -> tuple[int, list[_Rendered]]:
    members, channel, number = job
    rng = np.random.default_rng(number)
    values = [frame_values(send_through(read_clip(Path(), c), channel, rng)) for c in members]
    return number, [
        _Rendered(of[:, SEEN].astype(np.float16), both, spoken(of).functionals)
        for of, both in zip(values, sums_in_turn(values), strict=True)
    ]


def sums_in_turn(session: Sequence[FloatArray]) -> list[tuple[Sums, Sums]]:
    """Sum each clip's frames [T, D], as one that begins a stream and as one within it.

    Within the stream each clip follows the one before it, and the first one the last, so that none
    lacks a running peak.
    """
    found = []
    peak = speech_frames(session[-1][:, MEL])[1]
    for values in session:
        alone, _ = speech_frames(values[:, MEL])
        speech, peak = speech_frames(values[:, MEL], peak)
        found.append((Sums.of(values[alone]), Sums.of(values[speech])))
    return found


def _store(path: Path, parts: Sequence[tuple[int, list[_Rendered]]]) -> None:
    clips = [(number, clip) for number, of in parts for clip in of]
    half = path.with_suffix(".half.npz")
    np.savez(
        half,
        session=np.array([number for number, _ in clips]),
        ends=np.cumsum([len(clip.frames) for _, clip in clips]),
        frames=np.concatenate([clip.frames for _, clip in clips]),
        weights=np.array([[s.weight for s in clip.sums] for _, clip in clips]),
        firsts=np.array([[s.first for s in clip.sums] for _, clip in clips]),
        seconds=np.array([[s.second for s in clip.sums] for _, clip in clips]),
        functionals=np.stack([clip.functionals for _, clip in clips]),
    )
    half.replace(path)  # a run that was killed leaves no broken cache


def _key(clips: Sequence[Clip], renderings: int, seed: int) -> str:
    named = "\n".join(f"{c.id} {c.speaker} {c.kind} {c.label}" for c in clips)
    said = f"{RENDERING_VERSION} {CLIPS_PER_SESSION} {N_VALUES} {renderings} {seed} {named}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]
