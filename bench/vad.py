"""How well speech is found and cut, against the reference turns of recordings (RTTM).

    abhinaya bench vad --data ../shared/data/e2e

The reference is of two kinds. AMI's turns were marked by people, word gaps included; those of the
synthetic podcasts run from one voice to the next without a break, so that every breath between
two sentences counts as reference speech and hardly anything is reference non-speech.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from abhinaya.bench.machine import facts, line
from abhinaya.stream.clock import SAMPLE_RATE, to_samples, to_seconds
from abhinaya.stream.config import VadConfig
from abhinaya.stream.errors import AbhinayaError, SourceError
from abhinaya.stream.segmenter import Piece, Segmenter
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.vad import FRAME_SAMPLES, SileroVad, VadState

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

MIN_SILENCES_S: Final = (0.2, 0.4, 0.6)
_GRID: Final = SAMPLE_RATE // 100
_AROUND_CUT: Final = to_samples(0.08)
_QUIET_DB: Final = -25.0


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording with its reference, and what the network says about it."""

    name: str
    corpus: str
    samples: FloatArray
    """[n]"""
    speech: BoolArray
    """[n // 160] whether the reference has speech, every 10 ms."""
    probabilities: FloatArray
    """[n // 512] speech probability of each frame."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of speech and non-speech under one setting."""

    corpus: str
    min_silence_s: float
    recordings: int
    audio_s: float
    reference_speech: float
    """Share of the audio that the reference calls speech."""
    speech_covered: float
    """Share of reference speech that lies in a piece."""
    nonspeech_passed: float | None
    """Share of reference non-speech that lies in a piece; None if there is under 1 s of it."""
    pieces: int
    mean_piece_s: float
    under_1_s: float
    """Share of pieces shorter than 1 s, which tell a voter little."""
    wait_s: float
    """From the end of speech to the end of the pause that is waited for."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where pieces that reach the limit are cut."""

    corpus: str
    method: str
    cuts: int
    in_nonspeech: float
    """Share of cuts in reference non-speech (few in the podcasts, see above)."""
    in_pause: float
    """Share of cuts in a frame under the end threshold."""
    quiet: float
    """Share of cuts where the 160 ms around are 25 dB below the piece."""
    level_db: float
    """Median level of those 160 ms, relative to the piece."""
    mean_piece_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """All figures, and the machine they are from."""

    machine: dict[str, Any]
    found: tuple[Found, ...]
    cuts: tuple[Cuts, ...]


def measure(
    data: Path, config: VadConfig | None = None, seconds: float = 240.0, per_corpus: int = 99
) -> Result:
    """Measure on every recording under `data` that has reference turns beside it.

    Args:
        data: a folder; each folder in it with RTTM files is a corpus.
        config: the settings to measure; min_silence_s is varied as well.
        seconds: how much of each recording, from its start.
        per_corpus: how many recordings of each corpus, in order of their names.

    Raises:
        SourceError: there is no such recording.

    """
    config = config or VadConfig()
    recordings = list(_load(data, seconds, per_corpus))
    if not recordings:
        raise SourceError(str(data), "holds no audio with RTTM beside it", "see --data")
    silences = sorted({*MIN_SILENCES_S, config.min_silence_s})
    corpora = {
        name: [recording for recording in recordings if recording.corpus == name]
        for name in sorted({recording.corpus for recording in recordings})
    }
    hard = replace(config, cut_search_s=0.0)
    return Result(
        machine=facts(),
        found=tuple(
            find(name, corpus, replace(config, min_silence_s=silence))
            for name, corpus in corpora.items()
            for silence in silences
        ),
        cuts=tuple(
            cut(name, method, corpus, setting)
            for name, corpus in corpora.items()
            for method, setting in (("deepest pause", config), ("at the limit", hard))
        ),
    )


def find(corpus: str, recordings: Sequence[Recording], config: VadConfig) -> Found:
    """Count what of the reference lies in pieces."""
    covered = passed = speech = total = 0
    pieces: list[Piece] = []
    for recording in recordings:
        mine = pieces_of(recording, config)
        heard = np.zeros(len(recording.speech), bool)
        for piece in mine:
            heard[piece.start // _GRID : -(-piece.end // _GRID)] = True
        covered += int((heard & recording.speech).sum())
        passed += int((heard & ~recording.speech).sum())
        speech += int(recording.speech.sum())
        total += len(recording.speech)
        pieces += mine
    lengths = [to_seconds(piece.end - piece.start) for piece in pieces]
    silent_frames = -(-to_samples(config.min_silence_s) // FRAME_SAMPLES)
    return Found(
        corpus=corpus,
        min_silence_s=config.min_silence_s,
        recordings=len(recordings),
        audio_s=to_seconds(total * _GRID),
        reference_speech=speech / max(1, total),
        speech_covered=covered / max(1, speech),
        nonspeech_passed=passed / (total - speech) if total - speech >= 100 else None,
        pieces=len(pieces),
        mean_piece_s=float(np.mean(lengths)) if lengths else 0.0,
        under_1_s=float(np.mean([length < 1 for length in lengths])) if lengths else 0.0,
        wait_s=to_seconds(silent_frames * FRAME_SAMPLES),
    )


def cut(corpus: str, method: str, recordings: Iterable[Recording], config: VadConfig) -> Cuts:
    """Look at each place where the limit cut."""
    nonspeech: list[bool] = []
    pause: list[bool] = []
    levels: list[float] = []
    lengths: list[float] = []
    for recording in recordings:
        for piece in pieces_of(recording, config):
            if piece.cut != "limit":
                continue
            grid = min(piece.end // _GRID, len(recording.speech) - 1)
            frame = min(piece.end // FRAME_SAMPLES, len(recording.probabilities) - 1)
            around = recording.samples[max(0, piece.end - _AROUND_CUT) : piece.end + _AROUND_CUT]
            nonspeech.append(not recording.speech[grid])
            pause.append(bool(recording.probabilities[frame] < config.end_threshold))
            levels.append(_level_db(around) - _level_db(piece.samples))
            lengths.append(to_seconds(len(piece.samples)))
    if not levels:
        return Cuts(corpus, method, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return Cuts(
        corpus=corpus,
        method=method,
        cuts=len(levels),
        in_nonspeech=float(np.mean(nonspeech)),
        in_pause=float(np.mean(pause)),
        quiet=float(np.mean([level < _QUIET_DB for level in levels])),
        level_db=float(np.median(levels)),
        mean_piece_s=float(np.mean(lengths)),
    )


def pieces_of(recording: Recording, config: VadConfig) -> list[Piece]:
    """Cut a recording whose probabilities are known."""
    segmenter = Segmenter(config)
    frames = recording.samples[: len(recording.probabilities) * FRAME_SAMPLES]
    pieces: list[Piece] = []
    for frame, probability in zip(
        frames.reshape(-1, FRAME_SAMPLES), recording.probabilities, strict=True
    ):
        pieces += segmenter.push(frame, float(probability))
    return pieces + segmenter.flush()


def read_rttm(paths: Iterable[Path]) -> dict[str, list[tuple[float, float]]]:
    """Return the turns (start, end) in seconds of each recording that the files name."""
    turns: dict[str, list[tuple[float, float]]] = {}
    for path in paths:
        for text in path.read_text(encoding="utf-8").splitlines():
            fields = text.split()
            if len(fields) >= 5 and fields[0] == "SPEAKER":
                start = float(fields[3])
                turns.setdefault(fields[1], []).append((start, start + float(fields[4])))
    return turns


def _load(data: Path, seconds: float, per_corpus: int) -> Iterator[Recording]:
    vad = SileroVad()
    for folder in sorted({path.parent for path in data.rglob("*.rttm")}):
        turns = read_rttm(sorted(folder.glob("*.rttm")))
        audio = [path for path in sorted(folder.iterdir()) if path.suffix in (".opus", ".wav")]
        named = [
            (path, turns.get(path.stem) or turns.get(path.stem.split("_")[0])) for path in audio
        ]
        with_turns = [(path, spans) for path, spans in named if spans]
        for path, spans in with_turns[:per_corpus]:
            samples = _read(path, to_samples(seconds))
            speech = np.zeros(len(samples) // _GRID, bool)
            for start, end in spans:
                speech[round(100 * start) : round(100 * end)] = True
            state = VadState.fresh(1)
            frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
            probabilities = np.array(
                [
                    vad.probabilities(frame[None], state)[0]
                    for frame in frames.reshape(-1, FRAME_SAMPLES)
                ],
                np.float32,
            )
            yield Recording(path.stem, folder.name, samples, speech, probabilities)


def _read(path: Path, limit: int) -> FloatArray:
    source = open_source(InputConfig(str(path)))
    parts: list[FloatArray] = []
    count = 0
    for chunk in source.chunks():
        parts.append(chunk.samples[:, 0])
        count += len(chunk.samples)
        if count >= limit:
            break
    source.close()
    return np.concatenate(parts)[:limit]


def _level_db(samples: FloatArray) -> float:
    return 10 * float(np.log10(np.mean(np.square(samples)) + 1e-10))


def show(result: Result, console: Console) -> None:
    """Print two tables."""
    found = Table(title="Speech found")
    for name in (
        "corpus", "min silence", "waits", "audio", "ref. speech", "covered", "non-speech passed",
        "pieces", "mean", "< 1 s",
    ):  # fmt: skip
        found.add_column(name, justify="left" if name == "corpus" else "right")
    for row in result.found:
        passed = "-" if row.nonspeech_passed is None else f"{row.nonspeech_passed:.1%}"
        found.add_row(
            row.corpus,
            f"{row.min_silence_s:.2f} s",
            f"{row.wait_s:.3f} s",
            f"{row.audio_s:.0f} s",
            f"{row.reference_speech:.1%}",
            f"{row.speech_covered:.1%}",
            passed,
            str(row.pieces),
            f"{row.mean_piece_s:.1f} s",
            f"{row.under_1_s:.0%}",
        )
    cuts = Table(title="Cuts of the length limit")
    for name in (
        "corpus", "cut", "cuts", "in ref. non-speech", "p < end threshold", "25 dB down",
        "median level", "mean piece",
    ):  # fmt: skip
        cuts.add_column(name, justify="left" if name in ("corpus", "cut") else "right")
    for place in result.cuts:
        cuts.add_row(
            place.corpus,
            place.method,
            str(place.cuts),
            f"{place.in_nonspeech:.1%}",
            f"{place.in_pause:.1%}",
            f"{place.quiet:.1%}",
            f"{place.level_db:.1f} dB",
            f"{place.mean_piece_s:.1f} s",
        )
    console.print(found)
    console.print(cuts)
    console.print(line(result.machine))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; `--json` prints the figures for machines."""
    parser = argparse.ArgumentParser(prog="abhinaya bench vad", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/e2e"))
    parser.add_argument("--seconds", type=float, default=240.0, help="of each recording")
    parser.add_argument("--per-corpus", type=int, default=99, help="recordings of each corpus")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(argv)
    try:
        result = measure(options.data, None, options.seconds, options.per_corpus)
    except AbhinayaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())
    else:
        show(result, Console())
    return 0
