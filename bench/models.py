"""`abhinaya bench models`: how fast the voters are, by batch and by length of the segments.

    abhinaya bench models                                     reduced sizes, on any machine
    abhinaya bench models --scale real --voters S1            WavLM-large: two CPU cores will do
    abhinaya bench models --scale real --voters S1,S2,T2,ST1,S2+ST1+T2 --dtype bfloat16

Weights are random, so nothing is downloaded. S2+ST1+T2 runs the three one after the other on the
same segments, with one run of the encoders that S2 and ST1 share. T1 is served elsewhere.
`mixed` is sixteen segments of half a second to two: together, and one by one; its stages say where
the time goes, and where a batch gains nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from abhinaya.bench.model_stages import StageTime, measure_stages, padding_share
from abhinaya.bench.model_subjects import Subject, Workshop, waves
from abhinaya.models.inference import Place, place

VOTERS: Final = ("S1", "S2", "T2", "ST1", "S2+ST1+T2")
BATCHES: Final = (1, 4, 16, 64)
LENGTHS_S: Final = (1.0, 3.0, 5.0, 10.0)
MIXED_S: Final = tuple(float(s) for s in np.linspace(0.5, 2.0, 16))


@dataclass(frozen=True, slots=True)
class Speed:
    """One voter at one length and batch size."""

    voter: str
    length_s: float
    batch: int
    p50_ms: float
    p95_ms: float
    """Of a whole batch."""
    segments_a_second: float


@dataclass(frozen=True, slots=True)
class Mixed:
    """Short segments of mixed lengths, together and one by one: the best time of each."""

    voter: str
    together_ms: float
    one_by_one_ms: float
    padding: float
    """Share of the work of the batch that is on padding."""
    padding_alone: float
    """The same of segments one by one."""


Figure = Speed | Mixed | StageTime


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON if asked."""
    asked = _parser().parse_args(argv)
    where = place(asked.device, asked.dtype)
    workshop = Workshop(asked.scale, where, asked.merge, asked.trim)
    figures: list[Figure] = []
    for name in asked.voters:
        for figure in measure(workshop.build(name), asked, where):
            figures.append(figure)
            if asked.lines:
                print(json.dumps({type(figure).__name__.lower(): asdict(figure)}), flush=True)
    if not asked.lines:
        _report(figures, asked, where)
    return 0


def measure(subject: Subject, asked: argparse.Namespace, where: Place) -> Iterator[Figure]:
    """Measure a voter at every length and batch size, with mixed lengths, and stage by stage."""
    for length_s in asked.lengths:
        for batch in asked.batches:
            _time(subject, [length_s] * batch, 10**6, where)  # what is paid once
            times = [_time(subject, [length_s] * batch, n, where) for n in range(asked.repeats)]
            p50, p95 = (float(value) for value in np.percentile(times, [50, 95]))
            yield Speed(subject.name, length_s, batch, 1000 * p50, 1000 * p95, batch / p50)
    yield measure_mixed(subject, asked.repeats, where)
    yield from measure_stages(subject, MIXED_S, asked.repeats, where)


def measure_mixed(subject: Subject, repeats: int, where: Place) -> Mixed:
    """Measure sixteen short segments of mixed lengths, together and one by one, by turns."""
    for seconds in MIXED_S:
        _time(subject, [seconds], 0, where)
    together, apart = [], []
    for seed in range(1, repeats + 1):
        together.append(_time(subject, MIXED_S, 2 * seed, where))
        apart.append(sum(_time(subject, [s], 2 * seed + 1, where) for s in MIXED_S))
    return Mixed(
        voter=subject.name,
        together_ms=1000 * min(together),
        one_by_one_ms=1000 * min(apart),
        padding=padding_share(subject, MIXED_S),
        padding_alone=float(np.mean([padding_share(subject, [s]) for s in MIXED_S])),
    )


def _time(subject: Subject, lengths_s: Sequence[float], seed: int, where: Place) -> float:
    """Return the seconds that a batch takes, what it left to the GPU included."""
    batch = waves(lengths_s, seed)
    with torch.inference_mode():
        begun = _now(where)
        subject.run(batch)
        return _now(where) - begun


def _now(where: Place) -> float:
    if where.device.type == "cuda":
        torch.cuda.synchronize(where.device)
    return time.perf_counter()


def _report(figures: Sequence[Figure], asked: argparse.Namespace, where: Place) -> None:
    # It needs packages that a GPU machine may lack.
    from abhinaya.bench.report import Report, ms, publish, table

    speeds = [f for f in figures if isinstance(f, Speed)]
    mixed = [f for f in figures if isinstance(f, Mixed)]
    stages = [f for f in figures if isinstance(f, StageTime)]
    settings = {
        "scale": asked.scale,
        "device": str(where.device),
        "dtype": str(where.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "merge": asked.merge,
        "trim": asked.trim,
        "repeats": asked.repeats,
    }

    def pair(one: Mixed | StageTime) -> tuple[str, str, str]:
        gain = one.one_by_one_ms / one.together_ms if one.together_ms else float("inf")
        return ms(one.together_ms), ms(one.one_by_one_ms), f"{gain:.1f} x"

    gain = ("together ms", "one by one ms", "gain")
    tables = [
        table(
            f"{asked.scale} sizes, {settings['dtype']} on {where.device}",
            ("voter", "length", "batch", "p50 ms", "p95 ms", "seg/s"),
            [
                (s.voter, f"{s.length_s:g} s", str(s.batch), ms(s.p50_ms), ms(s.p95_ms),
                 f"{s.segments_a_second:.1f}")
                for s in speeds
            ],
        ),
        table(
            f"{len(MIXED_S)} segments of mixed lengths, 0.5 to 2 s",
            ("voter", *gain, "padding", "alone"),
            [(m.voter, *pair(m), f"{m.padding:.0%}", f"{m.padding_alone:.0%}") for m in mixed],
        ),
        table(
            "the same, stage by stage",
            ("voter", "stage", *gain),
            [(s.voter, s.stage, *pair(s)) for s in stages],
        ),
    ]  # fmt: skip
    made = Report("models", settings, {"speeds": speeds, "mixed": mixed, "stages": stages})
    publish(made, tables, asked.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="abhinaya bench models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and machine here")
    parser.add_argument(
        "--lines", action="store_true", help="each figure as a line of JSON, no tables"
    )
    parser.add_argument("--scale", choices=("tiny", "real"), default="tiny")
    parser.add_argument("--voters", type=_listed(_voter), default=VOTERS, help="with commas")
    parser.add_argument("--batches", type=_listed(_positive), default=BATCHES)
    parser.add_argument("--lengths", type=_listed(_seconds), default=LENGTHS_S, help="in seconds")
    parser.add_argument("--repeats", type=_positive, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--trim", action="store_true", help="S2, ST1: no tokens of padding")
    parser.add_argument("--merge", action="store_true", help="LoRA added to the weights below it")
    return parser


def _listed(one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def read(text: str) -> tuple[Any, ...]:
        return tuple(one(part) for part in text.split(","))

    return read


def _voter(text: str) -> str:
    if not set(text.split("+")) <= {"S1", "S2", "T2", "ST1"}:
        raise argparse.ArgumentTypeError(f"{text!r} is none of S1, S2, T2, ST1, nor some with +")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    if not 0.2 <= (value := float(text)) <= 30:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0.2 and 30 seconds")
    return value


if __name__ == "__main__":  # for machines without the command line's packages
    sys.exit(main())
