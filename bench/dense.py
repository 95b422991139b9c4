"""Dense read speech: utterances with known words, one after another, speaking most of the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.bench.clips import Clip, read
from abhinaya.bench.words_live import Placed
from abhinaya.models.asr import Audio
from abhinaya.stream.clock import to_samples
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.vad import FRAME_SAMPLES, SileroVad, VadState

SPOKEN: Final = 0.8
"""Share of the time that somebody speaks."""
SHORTEST_GAP_S: Final = 0.9
"""Between two utterances; the monitor waits for .4 s of silence before it ends a segment."""
LEAD_S: Final = 1.0
_SPEECH: Final = 0.5
_MARGIN: Final = to_samples(0.25)
"""Kept around the speech of a clip: a first word begins before anything is sure of it."""
_LEVEL: Final = 10 ** (-23 / 20)
"""Root mean square of every utterance: some recordings are 40 dB below the others."""
_FLOOR: Final = 10 ** (-66 / 20)
"""Of the noise under a stream: no room is digitally silent."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A clip from shortly before its first speech to shortly after its last."""

    name: str
    samples: Audio
    text: str
    start: int = 0
    """Its first sample of speech."""
    end: int | None = None
    """One past the last; None for the end of the samples."""


def utterances(clips: Sequence[Clip]) -> list[Utterance]:
    """Read clips, cut off the silence around their speech and make them equally loud.

    Raises:
        SourceError: no clip holds speech.

    """
    vad = SileroVad()
    found = []
    for clip in clips:
        samples = read(clip.path)
        if spoken := _spoken(samples, vad):
            first = max(0, spoken[0] - _MARGIN)
            kept = samples[first : spoken[1] + _MARGIN]
            bounds = (spoken[0] - first, spoken[1] - first)
            level = float(np.sqrt(np.mean(np.square(kept)))) + 1e-9
            kept = np.clip(kept * (_LEVEL / level), -1.0, 1.0).astype(np.float32)
            found.append(Utterance(clip.path.name, kept, clip.text, *bounds))
    if not found:
        raise SourceError("the clips", "hold no speech", "give others with --data")
    return found


def lay(
    choice: Sequence[Utterance], seconds: float, seed: int, spoken: float = SPOKEN
) -> tuple[Audio, list[Placed]]:
    """Put utterances in a drawn order until `seconds` are full; they come round again if short.

    After each there is as much silence as keeps the share of speech at `spoken`. The last one is
    whole: the stream ends after it, at `seconds` or earlier.
    """
    rng = np.random.default_rng(seed)
    stream = rng.standard_normal(to_samples(seconds)).astype(np.float32) * np.float32(_FLOOR)
    placed: list[Placed] = []
    order = [int(i) for i in rng.permutation(len(choice))]
    start = to_samples(LEAD_S)
    while True:
        said = choice[order[len(placed) % len(order)]]
        speech = (len(said.samples) if said.end is None else said.end) - said.start
        gap = max(to_samples(SHORTEST_GAP_S), round(speech * (1 - spoken) / spoken))
        if start + speech + gap > len(stream):
            return stream[:start], placed
        first = start - said.start
        stream[first : first + len(said.samples)] += said.samples
        placed.append(Placed(start, start + speech, said.name, said.text))
        start += speech + gap


def _spoken(samples: Audio, vad: SileroVad) -> tuple[int, int] | None:
    """Find the first and last sample (exclusive) of speech."""
    state = VadState.fresh(1)
    speech = [
        start
        for start in range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
        if float(vad.probabilities(samples[None, start : start + FRAME_SAMPLES], state)[0])
        >= _SPEECH
    ]
    return (speech[0], speech[-1] + FRAME_SAMPLES) if speech else None
