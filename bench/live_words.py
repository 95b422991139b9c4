"""`abhinaya bench latency` with dense read speech: words and labels, how soon, how right.

    abhinaya bench live-words --data ../shared/data
    abhinaya bench live-words --streams 1 4 --set asr.options.model=base

Each stream is read speech with known words that fills 80 % of the time, at the pace of real time.
*final* is from the end of an utterance to the message in which its last word is settled, *first*
from the start of an utterance to the first message with a word of it. *whole* are the errors that
the same weights make on the same utterances, each heard whole and alone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from abhinaya.bench.clips import clips_in, distance, words_of
from abhinaya.bench.dense import Utterance, lay, utterances
from abhinaya.bench.latency import options_of, run
from abhinaya.bench.live import Streams
from abhinaya.bench.monitored import profile_of
from abhinaya.bench.recording import write
from abhinaya.models.asr import Hearing, Transcriber
from abhinaya.stream.clock import to_samples
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.node.worker import transcriber_of
from abhinaya.stream.settings.config import Config

LONGEST_S: Final = 9.5
"""Of an utterance: the monitor cuts at 10 s, and a cut is another measure."""


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
    made = options_of("live-words", __doc__, streams=[1, 2, 4, 8], seconds=65.0)
    made.add_argument("--data", type=Path, default=Path("../shared/data"), help="(%(default)s)")
    options = made.parse_args(argv)
    config = profile_of(options)

    def prepare(streams: int, folder: Path) -> Streams:
        # in a child: what it loads must not count as memory of the run
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(dense, (config, options.data, options.seconds, streams, folder))

    return run("live-words", options, prepare)
