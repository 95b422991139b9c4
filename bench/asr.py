"""`abhinaya bench latency` with dense read speech: words and labels, how soon, how right.

    abhinaya bench asr --data ../shared/data
    abhinaya bench asr --streams 1 4 --set asr.options.model=base

Each stream is read speech with known words that fills 80 % of the time, at the pace of real time.
*final* is from the end of an utterance to the message in which its last word is settled, *first*
from the start of an utterance to the first message with a word of it. *whole* are the errors that
the same weights make on the same utterances, each heard whole and alone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.clips import Clip, clips_in, distance, read, words_of
from abhinaya.bench.live import Streams, options_of, run
from abhinaya.bench.monitored import profile_of
from abhinaya.bench.recording import write
from abhinaya.bench.word_times import Placed
from abhinaya.models.asr import Audio, Hearing, Transcriber
from abhinaya.stream.clock import to_samples
from abhinaya.stream.errors import ConfigError, SourceError
from abhinaya.stream.front.vad import FRAME_SAMPLES, SileroVad, VadState
from abhinaya.stream.node.worker import transcriber_of
from abhinaya.stream.settings.config import Config

LONGEST_S: Final = 9.5
"""Of an utterance: the monitor cuts at 10 s, and a cut is another measure."""
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


def dense(config: Config, data: Path, seconds: float, streams: int, folder: Path) -> Streams:
    """Write streams of about `seconds`, and hear their utterances whole.

    Raises:
        AbhinayaError: there are no utterances, or the transcriber cannot be loaded.

    """
    if config.asr is None:
        raise ConfigError(f"profile {config.profile!r}", "has no transcriber", "add [asr]")
    found = utterances(clips_in(data / "e2e"))
    choice = [one for one in found if len(one.samples) <= to_samples(LONGEST_S)]
    recordings, placed = {}, {}
    for number in range(streams):
        name = f"stream-{number}"
        samples, placed[name] = lay(choice, seconds, number)
        recordings[name] = folder / f"{number}.wav"
        write(samples, recordings[name])
    return Streams(recordings, placed, errors_on_whole(transcriber_of(config.asr), choice))


def errors_on_whole(transcriber: Transcriber, choice: Sequence[Utterance]) -> dict[str, int]:
    """Count the word errors on each utterance, heard whole and alone, by its name."""
    found = {}
    for one in choice:
        (said,) = transcriber.transcribe([Hearing(one.samples)])
        found[one.name] = distance(words_of(one.text), words_of(said.text))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit with 1 if an utterance or a segment was lost."""
    made = options_of("asr", __doc__, streams=[1, 2, 4, 8], seconds=65.0)
    made.add_argument("--data", type=Path, default=Path("../shared/data"), help="(%(default)s)")
    options = made.parse_args(argv)
    config = profile_of(options)

    def prepare(streams: int, folder: Path) -> Streams:
        # in a child: what it loads must not count as memory of the run
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(dense, (config, options.data, options.seconds, streams, folder))

    return run("asr", options, prepare)
