"""`abhinaya bench latency` with dense read speech: delay and errors of the words, delay of labels.

    abhinaya bench asr --data ../shared/data
    abhinaya bench asr --streams 1 4 --set asr.options.model=base

Each stream is read speech with known words that fills 80 % of the time, played in real time.
*final*: delay from the end of an utterance to the message with its last final word. *first*: delay
from the start of an utterance to the first message with one of its words. *whole*: errors of the
same weights on the same utterances, each transcribed alone and uncut.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from abhinaya.bench.clips import Clip, clips_in, distance, read, words_of, write
from abhinaya.bench.latency import Streams, options_of, run
from abhinaya.bench.monitored import profile_of
from abhinaya.bench.word_times import Placed
from abhinaya.models.asr import Audio, Hearing, Transcriber
from abhinaya.stream.clock import to_samples
from abhinaya.stream.errors import ConfigError, SourceError
from abhinaya.stream.front.vad import FRAME_SAMPLES, SileroVad, VadState
from abhinaya.stream.node.worker import transcriber_of
from abhinaya.stream.settings.config import Config

LONGEST_S: Final = 9.5
"""Maximum length of an utterance: the monitor would cut longer ones, at 10 s."""
SPOKEN: Final = 0.8
"""Share of a stream that is speech."""
SHORTEST_GAP_S: Final = 0.9
"""Minimum silence between two utterances; the monitor ends a segment after 0.4 s of silence."""
LEAD_S: Final = 1.0
_SPEECH: Final = 0.5
_MARGIN: Final = to_samples(0.25)
"""Samples kept around the speech of a clip: the VAD may find a first word too late."""
_LEVEL: Final = 10 ** (-23 / 20)
"""Root mean square of every utterance: some recordings are 40 dB below the others."""
_FLOOR: Final = 10 ** (-66 / 20)
"""Root mean square of the noise under a stream: real rooms are not digitally silent."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A clip, cut shortly before its first and shortly after its last speech."""

    name: str
    samples: Audio
    text: str
    start: int = 0
    """Index of the first sample of speech."""
    end: int | None = None
    """Index after the last sample of speech; None: the end of the samples."""


def utterances(clips: Sequence[Clip]) -> list[Utterance]:
    """Return clips without the silence around their speech, equally loud.

    Raises SourceError: no clip contains speech.
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


def make_stream(
    choice: Sequence[Utterance], seconds: float, seed: int, spoken: float = SPOKEN
) -> tuple[Audio, list[Placed]]:
    """Return a stream of utterances in random order, repeated if there are too few.

    The silence after each utterance keeps the share of speech at `spoken`. The stream ends after
    the last complete utterance, at `seconds` or earlier.
    """
    rng = np.random.default_rng(seed)
    stream = rng.standard_normal(to_samples(seconds)).astype(np.float32) * np.float32(_FLOOR)
    placed: list[Placed] = []
    order = [int(i) for i in rng.permutation(len(choice))]
    start = to_samples(LEAD_S)
    while True:
        one = choice[order[len(placed) % len(order)]]
        speech = (len(one.samples) if one.end is None else one.end) - one.start
        gap = max(to_samples(SHORTEST_GAP_S), round(speech * (1 - spoken) / spoken))
        if start + speech + gap > len(stream):
            return stream[:start], placed
        first = start - one.start
        stream[first : first + len(one.samples)] += one.samples
        placed.append(Placed(start, start + speech, one.name, one.text))
        start += speech + gap


def _spoken(samples: Audio, vad: SileroVad) -> tuple[int, int] | None:
    """Return the first and last sample (exclusive) of speech."""
    state = VadState.fresh(1)
    speech = [
        start
        for start in range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
        if float(vad.probabilities(samples[None, start : start + FRAME_SAMPLES], state)[0])
        >= _SPEECH
    ]
    return (speech[0], speech[-1] + FRAME_SAMPLES) if speech else None


def dense(config: Config, data: Path, seconds: float, streams: int, folder: Path) -> Streams:
    """Write streams of about `seconds`; transcribe each of their utterances alone and uncut."""
    if config.asr is None:
        raise ConfigError(f"profile {config.profile!r}", "has no transcriber", "add [asr]")
    found = utterances(clips_in(data / "e2e"))
    choice = [one for one in found if len(one.samples) <= to_samples(LONGEST_S)]
    recordings, placed = {}, {}
    for number in range(streams):
        name = f"stream-{number}"
        samples, placed[name] = make_stream(choice, seconds, number)
        recordings[name] = folder / f"{number}.wav"
        write(samples, recordings[name])
    return Streams(recordings, placed, errors_on_whole(transcriber_of(config.asr), choice))


def errors_on_whole(transcriber: Transcriber, choice: Sequence[Utterance]) -> dict[str, int]:
    """Return the word errors of each utterance, transcribed alone and uncut, by its name."""
    found = {}
    for one in choice:
        (result,) = transcriber.transcribe([Hearing(one.samples)])
        found[one.name] = distance(words_of(one.text), words_of(result.text))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit with 1 if an utterance or a segment was lost."""
    made = options_of("asr", __doc__, streams=[1, 2, 4, 8], seconds=65.0)
    made.add_argument("--data", type=Path, default=Path("../shared/data"), help="(%(default)s)")
    options = made.parse_args(argv)
    config = profile_of(options)

    def prepare(streams: int, folder: Path) -> Streams:
        # in a child process, so that its memory does not count
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(dense, (config, options.data, options.seconds, streams, folder))

    return run("asr", options, prepare)
