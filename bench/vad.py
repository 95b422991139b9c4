"""Compares the speech found in recordings with their reference turns (RTTM).

    abhinaya bench vad --data ../shared/data/e2e

AMI's reference turns were marked by people and include the gaps between words. The turns of the
synthetic podcasts have no gaps at all: pauses between sentences count as speech, and almost no
audio is reference non-speech.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from abhinaya.bench.clips import read
from abhinaya.bench.report import Column, Report, parser, publish, settings_of, table_of
from abhinaya.models.asr import Audio
from abhinaya.stream.clock import SAMPLE_RATE, to_samples, to_seconds
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.segmenter import Piece, Segmenter
from abhinaya.stream.front.vad import FRAME_SAMPLES, SileroVad, VadState
from abhinaya.stream.settings.config import VadConfig

MIN_SILENCES_S: Final = (0.2, 0.4, 0.6)
_GRID: Final = SAMPLE_RATE // 100


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording with its reference and its speech probabilities."""

    corpus: str
    frames: npt.NDArray[np.float32]
    """[F, 512]"""
    probabilities: npt.NDArray[np.float32]
    """[F] speech probability of each frame."""
    speech: npt.NDArray[np.bool_]
    """[n // 160] whether the reference has speech, every 10 ms."""


def find(corpus: str, recordings: Sequence[Recording], config: VadConfig) -> dict[str, Any]:
    """Return the figures of the recordings of a corpus.

    `speech_covered` and `nonspeech_passed` are the shares of reference speech and non-speech that
    lie in a piece; the latter is None for less than 1 s of it.
    """
    covered = passed = speech = total = 0
    lengths: list[float] = []
    for recording in recordings:
        found = np.zeros(len(recording.speech), bool)
        for piece in pieces_of(recording, config):
            found[piece.start // _GRID : -(-piece.end // _GRID)] = True
            lengths.append(to_seconds(piece.end - piece.start))
        covered += int((found & recording.speech).sum())
        passed += int((found & ~recording.speech).sum())
        speech += int(recording.speech.sum())
        total += len(recording.speech)
    return {
        "corpus": corpus,
        "min_silence_s": config.min_silence_s,
        "recordings": len(recordings),
        "audio_s": to_seconds(total * _GRID),
        "reference_speech": speech / max(1, total),
        "speech_covered": covered / max(1, speech),
        "nonspeech_passed": passed / (total - speech) if total - speech >= 100 else None,
        "pieces": len(lengths),
        "mean_piece_s": float(np.mean(lengths)) if lengths else 0.0,
    }


def pieces_of(recording: Recording, config: VadConfig) -> list[Piece]:
    """Return the pieces into which the segmenter cuts a recording."""
    segmenter = Segmenter(config)
    pieces: list[Piece] = []
    for frame, probability in zip(recording.frames, recording.probabilities, strict=True):
        pieces += segmenter.push(frame, float(probability))
    return pieces + segmenter.flush()


def read_rttm(paths: Iterable[Path], key: int = 1) -> dict[str, list[tuple[float, float]]]:
    """Return the turns (start, end) in seconds of each recording, or (key 7) of each voice."""
    turns: dict[str, list[tuple[float, float]]] = {}
    for path in paths:
        for text in path.read_text(encoding="utf-8").splitlines():
            fields = text.split()
            if fields[:1] == ["SPEAKER"]:
                start = float(fields[3])
                turns.setdefault(fields[key], []).append((start, start + float(fields[4])))
    return turns


def recordings_in(data: Path, seconds: float) -> Iterator[Recording]:
    """Yield the first seconds of every recording under `data` with an RTTM file in its folder."""
    vad = SileroVad()
    for folder in sorted({path.parent for path in data.rglob("*.rttm")}):
        turns = read_rttm(sorted(folder.glob("*.rttm")))
        for path in sorted(folder.iterdir()):
            own = turns.get(path.stem) or turns.get(path.stem.split("_")[0])
            if path.suffix in (".opus", ".wav") and own:
                samples = read(path)[: to_samples(seconds)]
                yield _recording(folder.name, samples, own, vad)


def _recording(
    corpus: str, samples: Audio, turns: Sequence[tuple[float, float]], vad: SileroVad
) -> Recording:
    speech = np.zeros(len(samples) // _GRID, bool)
    for start, end in turns:
        speech[round(100 * start) : round(100 * end)] = True
    frames = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    state = VadState.fresh(1)
    found = [vad.probabilities(frame[None], state)[0] for frame in frames]
    return Recording(corpus, frames, np.array(found, np.float32), speech)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    made = parser("vad", __doc__)
    made.add_argument("--data", type=Path, default=Path("../shared/data/e2e"), help="(%(default)s)")
    made.add_argument("--seconds", type=float, default=240.0, help="of each recording (240)")
    options = made.parse_args(argv)
    recordings = list(recordings_in(options.data, options.seconds))
    if not recordings:
        raise SourceError(str(options.data), "holds no audio with RTTM beside it", "see --data")
    config = VadConfig()
    found = [
        find(corpus, [one for one in recordings if one.corpus == corpus], setting)
        for corpus in sorted({one.corpus for one in recordings})
        for silence in sorted({*MIN_SILENCES_S, config.min_silence_s})
        for setting in [replace(config, min_silence_s=silence)]
    ]
    columns: dict[str, Column] = {
        "corpus": "{0[corpus]}",
        "min silence": "{0[min_silence_s]:.2f} s",
        "audio s": "{0[audio_s]:.0f}",
        "ref. speech": "{0[reference_speech]:.1%}",
        "covered": "{0[speech_covered]:.1%}",
        "passed": lambda f: "-" if (p := f["nonspeech_passed"]) is None else f"{p:.1%}",
        "pieces": "{0[pieces]}",
        "mean s": "{0[mean_piece_s]:.1f}",
    }
    title = "Reference speech (covered) and non-speech (passed) in pieces"
    report = Report("vad", settings_of(options), {"rows": found})
    publish(report, [table_of(title, columns, found)], options.json)
    return 0
