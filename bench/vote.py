"""Whether the vote beats its voters, and how late a change is seen, on constructed conversations.

    abhinaya bench vote --data ../shared/data [--set vote.method=mean]

Acted clips of RAVDESS actors that no voter was trained or tuned on, one after the other with gaps
and an office under them, one stream for each actor; cut, transcribed, voted on and decided as the
monitor does it (`tests/test_streaming_equals_offline.py` holds the two together). A segment's true
label is that of the clip that most of it lies in.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from abhinaya.bench.machine import facts, line
from abhinaya.bench.monitored import add_profile, profile_of
from abhinaya.models import registry
from abhinaya.models.base import Ballot, FloatArray, Voter
from abhinaya.models.compact.heard import Measured
from abhinaya.models.compact.running import SpeechStatistics
from abhinaya.models.ensemble import Rule, decide
from abhinaya.models.errors import ModelError as UnusableModel
from abhinaya.models.labels import LABELS
from abhinaya.stream import config as configuration
from abhinaya.stream.asr.base import Hearing, Transcriber
from abhinaya.stream.asr.load import load_transcriber
from abhinaya.stream.clock import SAMPLE_RATE, to_samples, to_seconds
from abhinaya.stream.config import VadConfig
from abhinaya.stream.errors import AbhinayaError, ConfigError, ModelError
from abhinaya.stream.listener import Listener
from abhinaya.stream.segmenter import Piece
from abhinaya.stream.transcribe import as_received
from abhinaya.stream.vad import SileroVad
from abhinaya.stream.voting import load_combiner, rule_of

NOISE: Final = "office-ambience-24000-mono.opus"
VOTE: Final = "vote"
NOBODY: Final = len(LABELS)
"""In the place of a label: the voter abstained, or the vote is unknown."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How conversations are put together."""

    gaps_s: tuple[float, float] = (0.4, 1.5)
    snr_db: float = 20.0
    neutral_turns: int = 4
    angry_turns: int = 3
    changes: int = 6
    """Conversations with a change from neutral to angry, for each actor."""
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One clip's place in its conversation, in samples."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """What is heard, and what is true."""

    samples: FloatArray
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Decided:
    """One segment: what is true of it, and what each voter and the vote said."""

    start: int
    end: int
    truth: str
    said: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Score:
    """Macro-F1 of one voter or of the vote."""

    who: str
    macro_f1: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Result:
    """All figures, and the machine they are from."""

    machine: dict[str, Any]
    segments: int
    scores: tuple[Score, ...]
    best: str
    difference: Score
    """The vote minus its best member, on the same resamples."""
    p: float
    delays_s: tuple[float, ...]
    """From the change to the end of the first segment labelled angry, where there was one."""
    changes: int


def compose(
    clips: Sequence[tuple[FloatArray, str]],
    noise: FloatArray,
    setting: Setting,
    rng: np.random.Generator,
) -> Conversation:
    """Put clips (samples [n], label) in a row with gaps, over noise [m] that repeats."""
    parts: list[FloatArray] = []
    turns: list[Turn] = []
    position = 0
    for samples, label in clips:
        gap = to_samples(float(rng.uniform(*setting.gaps_s)))
        parts += [np.zeros(gap, np.float32), samples]
        turns.append(Turn(position + gap, position + gap + len(samples), label))
        position += gap + len(samples)
    speech = np.concatenate([*parts, np.zeros(SAMPLE_RATE, np.float32)])
    power = float(np.mean(np.concatenate([samples for samples, _ in clips]) ** 2))
    under = np.resize(np.roll(noise, -int(rng.integers(len(noise)))), len(speech))
    scale = np.sqrt(power / 10.0 ** (setting.snr_db / 10.0) / (np.mean(under**2) + 1e-12))
    return Conversation(np.clip(speech + scale * under, -1.0, 1.0).astype(np.float32), tuple(turns))


def truth_of(start: int, end: int, turns: Sequence[Turn]) -> str | None:
    """Label of the turn that most of [start, end) lies in; None if no turn is touched."""
    shared = [min(end, turn.end) - max(start, turn.start) for turn in turns]
    best = int(np.argmax(shared))
    return turns[best].label if shared[best] > 0 else None


def delay(decided: Sequence[Decided], change: int, label: str = "angry") -> float | None:
    """Seconds from `change` to the end of the first segment after it that the vote calls `label`.

    None if there is none. A segment that begins before the change counts if it ends after it.
    """
    for one in decided:
        if one.end > change and one.said[VOTE] == label:
            return to_seconds(one.end - change)
    return None


class LineUp:
    """A profile's voters and its vote, in this process.

    Raises:
        ConfigError: nobody transcribes, or the combiner cannot be read.
        UnusableModel: a model cannot be loaded.

    """

    def __init__(self, config: configuration.Config) -> None:
        if config.asr is None:
            raise ConfigError(
                f"profile {config.profile!r}", "has nobody who transcribes", "add [asr]"
            )
        self._vad: VadConfig = config.vad
        self._silero = SileroVad()
        self._transcriber: Transcriber = load_transcriber(config.asr.model, config.asr.options)
        self._voters: dict[str, Voter] = {
            name: registry.load(voter.model, voter.options) for name, voter in config.voters.items()
        }
        self._rule: Rule = rule_of(config.vote, load_combiner(config.vote))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the voters."""
        return tuple(self._voters)

    def decide(self, conversation: Conversation) -> Iterator[Decided]:
        """Give each segment that lies in a turn, in order."""
        heard = SpeechStatistics()
        for piece in self._pieces(conversation.samples):
            heard.update(piece.samples)
            truth = truth_of(piece.start, piece.end, conversation.turns)
            if truth is None:
                continue
            received = as_received(piece.samples)
            (text,) = self._transcriber.transcribe([Hearing(received)])
            utterance = Measured(received, heard=heard.heard(), transcript=text.text)
            ballots: dict[str, Ballot] = {}
            for name, voter in self._voters.items():
                (answer,) = voter.vote([utterance])
                if isinstance(answer, Ballot):
                    ballots[name] = answer
            said = {name: ballot.label for name, ballot in ballots.items()}
            said[VOTE] = decide(ballots, self._rule).label
            yield Decided(piece.start, piece.end, truth, said)

    def _pieces(self, samples: FloatArray) -> Iterator[Piece]:
        listener = Listener(self._vad, 1, self._silero)
        for start in range(0, len(samples), SAMPLE_RATE):
            yield from (
                piece for _, piece in listener.feed(samples[start : start + SAMPLE_RATE, None])
            )
        yield from (piece for _, piece in listener.finish())


def measure(data: Path, config: configuration.Config, setting: Setting | None = None) -> Result:
    """Measure a profile on the RAVDESS actors of the split `dev` below `data`.

    Raises:
        ConfigError: there is no such data, or nobody transcribes.

    """
    # the training half reads corpora; whoever runs another bench does not need its torch
    from abhinaya.train.data.audio import read_audio
    from abhinaya.train.data.clips import DataError, read_clips

    setting = setting or Setting()
    rng = np.random.default_rng(setting.seed)
    try:
        clips = [clip for clip in read_clips(data, ["ravdess"]) if clip.split == "dev"]
        noise = read_audio(data / "noise" / NOISE)
        voices = {
            who: [(read_audio(Path(c.path)), str(c.label)) for c in clips if c.speaker == who]
            for who in sorted({clip.speaker for clip in clips})
        }
    except DataError as error:
        raise ConfigError(str(data), str(error), "give the folder with --data") from error
    line_up = LineUp(config)
    decided: list[Decided] = []
    delays: list[float | None] = []
    for of_one in voices.values():
        order = [of_one[i] for i in rng.permutation(len(of_one))]
        decided += line_up.decide(compose(order, noise, setting, rng))
        for _ in range(setting.changes):
            turns = [
                *_drawn(of_one, "neutral", setting.neutral_turns, rng),
                *_drawn(of_one, "angry", setting.angry_turns, rng),
            ]
            conversation = compose(turns, noise, setting, rng)
            change = conversation.turns[setting.neutral_turns].start
            delays.append(delay(list(line_up.decide(conversation)), change))
    return result_of(decided, line_up.names, delays)


def result_of(
    decided: Sequence[Decided], names: Sequence[str], delays: Sequence[float | None]
) -> Result:
    """Score every voter and the vote on the same segments."""
    from abhinaya.train.eval_intervals import bootstrap, macro_f1_of, paired_bootstrap

    truth = np.array([LABELS.index(one.truth) for one in decided], np.int64)
    classes = sorted({int(c) for c in truth})
    figures, scores = {}, []
    for who in (*names, VOTE):
        guess = [one.said.get(who, "") for one in decided]
        places = [LABELS.index(label) if label in LABELS else NOBODY for label in guess]
        figures[who] = macro_f1_of(truth, np.array(places, np.int64), classes)
        found = bootstrap(figures[who], len(truth))
        scores.append(Score(who, found.value, found.low, found.high))
    best = max(scores[:-1], key=lambda score: score.macro_f1).who
    compared = paired_bootstrap(figures[VOTE], figures[best], len(truth))
    apart = compared.difference
    return Result(
        machine=facts(),
        segments=len(truth),
        scores=tuple(scores),
        best=best,
        difference=Score(f"{VOTE} - {best}", apart.value, apart.low, apart.high),
        p=compared.p,
        delays_s=tuple(seconds for seconds in delays if seconds is not None),
        changes=len(delays),
    )


def _drawn(
    clips: Sequence[tuple[FloatArray, str]], label: str, count: int, rng: np.random.Generator
) -> list[tuple[FloatArray, str]]:
    mine = [clip for clip in clips if clip[1] == label]
    return [mine[i] for i in rng.permutation(len(mine))[:count]]


def show(result: Result, console: Console) -> None:
    """Print the figures for people."""
    table = Table(title=f"Constructed conversations: {result.segments} segments of unseen actors")
    for name in ("who", "macro-F1", "95 % over segments"):
        table.add_column(name)
    for score in (*result.scores, result.difference):
        table.add_row(score.who, f"{score.macro_f1:.3f}", f"[{score.low:.3f}, {score.high:.3f}]")
    console.print(table)
    console.print(f"vote against {result.best}: p = {result.p:.3f}")
    if result.delays_s:
        median = statistics.median(result.delays_s)
        console.print(
            f"neutral to angry: seen in {len(result.delays_s)} of {result.changes} conversations, "
            f"median {median:.1f} s from the change to the end of the first segment labelled angry"
        )
    else:
        console.print(f"neutral to angry: never seen in {result.changes} conversations")
    console.print(line(result.machine))


def main(arguments: Sequence[str]) -> int:
    """Run it; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="abhinaya bench vote", description="Vote against voters, and detection delay."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with speech.csv, noise/")
    default = Setting()
    parser.add_argument("--snr", type=float, default=default.snr_db, help="speech over noise, dB")
    parser.add_argument("--changes", type=int, default=default.changes, help="for each actor")
    parser.add_argument("--seed", type=int, default=default.seed)
    add_profile(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    setting = Setting(snr_db=options.snr, changes=options.changes, seed=options.seed)
    try:
        result = measure(options.data, profile_of(options), setting)
    except AbhinayaError as error:
        print(f"abhinaya bench: {error}", file=sys.stderr)
        return error.exit_code
    except UnusableModel as error:
        print(f"abhinaya bench: {error}", file=sys.stderr)
        return ModelError.exit_code
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(asdict(result)), indent=2).decode())
    else:
        show(result, Console())
    return 0
