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
from abhinaya.models.compact.features import N_MELS, Sums, log_mel, speech_frames
from abhinaya.train.data.audio import read_audio
from abhinaya.train.data.channels import Channel, Surroundings, draw_channel, send_through
from abhinaya.train.data.clips import Clip

CLIPS_PER_SESSION = 24
RENDERING_VERSION = 1
"""Raise it when features or channels change: caches of another version are not used."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Features of many clips, one after the other, and where each begins.

    N clips, F frames of them all, M mel bins. The same clip occurs once in every rendering.
    """

    clips: tuple[Clip, ...]
    session: npt.NDArray[np.int64]
    """[N] number of the session."""
    ends: npt.NDArray[np.int64]
    """[N] end of each clip in `frames`; it begins at the end of the one before."""
    frames: npt.NDArray[np.float16]
    """[F, M] log-mel energies."""
    weights: npt.NDArray[np.float64]
    """[N] speech frames of each clip, with `firsts` and `seconds` [N, M]: its `Sums`."""
    firsts: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]

    def energies(self, i: int) -> FloatArray:
        """Log-mel energies [T, M] of clip i."""
        start = int(self.ends[i - 1]) if i else 0
        return self.frames[start : int(self.ends[i])].astype(np.float32)

    def sums(self, chosen: Sequence[int] | npt.NDArray[np.int64]) -> Sums:
        """Add up several clips."""
        return Sums(
            float(self.weights[chosen].sum()),
            self.firsts[chosen].sum(axis=0),
            self.seconds[chosen].sum(axis=0),
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


def _render_session(
    job: tuple[list[Clip], Channel, int],
) -> tuple[int, list[FloatArray]]:
    members, channel, number = job
    rng = np.random.default_rng(number)
    rendered = [log_mel(send_through(read_audio(c.path), channel, rng)) for c in members]
    return number, rendered


def _store(path: Path, parts: Sequence[tuple[int, list[FloatArray]]]) -> None:
    rendered = [(number, energies) for number, of in parts for energies in of]
    sums = [Sums.of(energies[speech_frames(energies)[0]]) for _, energies in rendered]
    half = path.with_suffix(".half.npz")
    np.savez(
        half,
        session=np.array([number for number, _ in rendered]),
        ends=np.cumsum([len(energies) for _, energies in rendered]),
        frames=np.concatenate([energies for _, energies in rendered]).astype(np.float16),
        weights=np.array([s.weight for s in sums]),
        firsts=np.stack([s.first for s in sums]),
        seconds=np.stack([s.second for s in sums]),
    )
    half.replace(path)  # a run that was killed leaves no broken cache


def _key(clips: Sequence[Clip], renderings: int, seed: int) -> str:
    named = "\n".join(str(clip) for clip in clips)
    said = f"{RENDERING_VERSION} {CLIPS_PER_SESSION} {N_MELS} {renderings} {seed} {named}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]
