"""`abhinaya bench models`: how fast the voters are, by batch and by length of the segments.

    abhinaya bench models                                     reduced sizes, on any machine
    abhinaya bench models --scale real --voters S1            WavLM-large: two CPU cores will do
    abhinaya bench models --scale real --voters S1,S2,T2,ST1,S2+ST1+T2 --dtype bfloat16

Weights are random, so nothing is downloaded. S2+ST1+T2 runs the three one after the other on the
same segments, with one run of the encoders that S2 and ST1 share. T1 is served elsewhere. The share
of the peak is of what the largest matrix product reaches on this machine in this precision.
`mixed` is sixteen segments of half a second to two: together, and one by one; its stages say where
the time goes, and where a batch gains nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from abhinaya.bench.model_stages import StageTime, measure_stages, padding_share
from abhinaya.bench.model_subjects import Subject, Workshop, waves
from abhinaya.models.inference import Place, place
from abhinaya.models.serving import weigh

VOTERS: Final = ("S1", "S2", "T2", "ST1", "S2+ST1+T2")
BATCHES: Final = (1, 4, 16, 64)
LENGTHS_S: Final = (1.0, 3.0, 5.0, 10.0)
MIXED_S: Final = tuple(float(s) for s in np.linspace(0.5, 2.0, 16))
_PEAK_SIZES: Final = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192, 16384)}


@dataclass(frozen=True, slots=True)
class Speed:
    """One voter at one length and batch size."""

    voter: str
    length_s: float
    batch: int
    best_ms: float
    """Of a whole batch: the time that others' load has added least to."""
    p50_ms: float
    p95_ms: float
    ms_a_segment: float
    segments_a_second: float
    gflop_a_segment: float
    """Of matrix products and convolutions, padding included."""
    share_of_peak: float


@dataclass(frozen=True, slots=True)
class Mixed:
    """Short segments of mixed lengths, together and one by one: the best time of each."""

    voter: str
    together_ms: float
    one_by_one_ms: float
    together_cpu_ms: float
    """Of all threads of this process: others' load adds little to it."""
    one_by_one_cpu_ms: float

    padding: float
    """Share of the work of the batch that is on padding."""
    padding_alone: float
    """The same of segments one by one."""

    @property
    def gain(self) -> float:
        """How many times the throughput."""
        return self.one_by_one_ms / self.together_ms

    @property
    def cpu_gain(self) -> float:
        """How many times the segments for the same work of the processor."""
        return self.one_by_one_cpu_ms / self.together_cpu_ms


@dataclass(frozen=True, slots=True)
class Weight:
    """What a voter takes."""

    voter: str
    parameters: int
    weights_mb: float
    peak_mb: float | None
    """On a GPU, with what the largest batch needs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON if asked."""
    asked = _parser().parse_args(argv)
    where = place(asked.device, asked.dtype, asked.attention, asked.compile)
    peak = peak_flops(where)
    workshop = Workshop(asked.scale, where, asked.merge, asked.trim)
    speeds: list[Speed] = []
    mixed: list[Mixed] = []
    weights: list[Weight] = []
    stages: list[StageTime] = []
    for name in asked.voters:
        subject = workshop.build(name)
        for speed in measure(subject, asked.lengths, asked.batches, asked.repeats, where, peak):
            speeds.append(speed)
            _say(asked.lines, speed)
        mixed.append(measure_mixed(subject, asked.repeats, where))
        _say(asked.lines, mixed[-1])
        for stage in measure_stages(subject, MIXED_S, asked.repeats, where):
            stages.append(stage)
            _say(asked.lines, stage)
        weights.append(weight(subject, where))
        _say(asked.lines, weights[-1])
    if asked.lines:
        print(json.dumps({"peak_gflops": peak / 1e9, "torch": torch.__version__}))
        return 0
    # These need packages that a GPU machine may lack.
    from abhinaya.bench.model_tables import tables
    from abhinaya.bench.report import Report, publish

    report = Report(
        command="models",
        settings={
            "scale": asked.scale,
            "device": str(where.device),
            "dtype": str(where.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "merge": asked.merge,
            "trim": asked.trim,
            "attention": asked.attention,
            "compile": asked.compile,
            "repeats": asked.repeats,
        },
        figures={
            "peak_gflops": round(peak / 1e9, 1),
            "speeds": [_rounded(s) for s in speeds],
            "mixed": [_rounded(m) | _gains(m) for m in mixed],
            "stages": [_rounded(s) | {"gain": round(s.gain, 2)} for s in stages],
            "weights": [_rounded(w) for w in weights],
        },
    )
    heading = f"{asked.scale} sizes; matrix products reach {peak / 1e9:,.0f} GFLOP/s"
    publish(report, tables(heading, speeds, mixed, stages, weights), asked.json)
    return 0


def measure(
    subject: Subject,
    lengths_s: Sequence[float],
    batches: Sequence[int],
    repeats: int,
    where: Place,
    peak: float,
) -> Iterator[Speed]:
    """Measure a voter at every length and batch size."""
    for length_s in lengths_s:
        for batch in batches:
            flops = count_flops(subject, [length_s] * batch)
            times = [_time(subject, [length_s] * batch, seed, where) for seed in range(repeats)]
            middle = statistics.median(times)
            yield Speed(
                voter=subject.name,
                length_s=length_s,
                batch=batch,
                best_ms=1000 * min(times),
                p50_ms=1000 * middle,
                p95_ms=1000 * float(np.percentile(times, 95)),
                ms_a_segment=1000 * middle / batch,
                segments_a_second=batch / middle,
                gflop_a_segment=flops / batch / 1e9,
                share_of_peak=flops / middle / peak,
            )


def measure_mixed(subject: Subject, repeats: int, where: Place) -> Mixed:
    """Measure sixteen short segments of mixed lengths, together and one by one, by turns."""
    for seconds in MIXED_S:
        _time(subject, [seconds], 0, where)
    marks: list[tuple[float, float, float, float]] = []
    for seed in range(1, repeats + 1):
        begun = time.process_time()
        together = _time(subject, MIXED_S, 2 * seed, where)
        between = time.process_time()
        apart = sum(_time(subject, [s], 2 * seed + 1, where) for s in MIXED_S)
        marks.append((together, apart, between - begun, time.process_time() - between))
    together_ms, alone_ms, cpu_ms, cpu_alone_ms = (
        1000 * min(column) for column in zip(*marks, strict=True)
    )
    return Mixed(
        voter=subject.name,
        together_ms=together_ms,
        one_by_one_ms=alone_ms,
        together_cpu_ms=cpu_ms,
        one_by_one_cpu_ms=cpu_alone_ms,
        padding=padding_share(subject, MIXED_S),
        padding_alone=statistics.fmean(padding_share(subject, [s]) for s in MIXED_S),
    )


def weight(subject: Subject, where: Place) -> Weight:
    """Weigh a voter; on a GPU, ask for the largest room it has taken."""
    size = weigh(*subject.modules)
    on_gpu = where.device.type == "cuda"
    peak_mb = torch.cuda.max_memory_allocated(where.device) / 1e6 if on_gpu else None
    return Weight(subject.name, size.parameters, size.memory_mb, peak_mb)


def count_flops(subject: Subject, lengths_s: Sequence[float]) -> int:
    """Count the operations of one run, which also warms up."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        subject.run(waves(lengths_s, seed=10**6))
    return int(counter.get_total_flops())


def peak_flops(where: Place) -> float:
    """Return the operations a second of the best matrix product."""
    best = 0.0
    for size in _PEAK_SIZES[where.device.type]:
        a = torch.randn(size, size, device=where.device, dtype=where.dtype)
        fastest = min(_clock(lambda a=a: a @ a, where) for _ in range(8))  # type: ignore[misc]
        best = max(best, 2 * size**3 / fastest)
    return best


def _time(subject: Subject, lengths_s: Sequence[float], seed: int, where: Place) -> float:
    batch = waves(lengths_s, seed)
    with torch.inference_mode():
        return _clock(lambda: subject.run(batch), where)


def _clock(run: Callable[[], object], where: Place) -> float:
    """Return the seconds that `run` takes, what it left to the GPU included."""
    on_gpu = where.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(where.device)
    begun = time.perf_counter()
    run()
    if on_gpu:
        torch.cuda.synchronize(where.device)
    return time.perf_counter() - begun


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
    parser.add_argument("--attention", default="auto", help="auto, sdpa, eager, flash_attention_2")
    parser.add_argument("--compile", action="store_true", help="torch.compile, layer by layer")
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


def _say(lines: bool, figure: Speed | Mixed | Weight | StageTime) -> None:
    if lines:
        more = _gains(figure) if isinstance(figure, Mixed) else {}
        print(json.dumps({type(figure).__name__.lower(): _rounded(figure) | more}), flush=True)


def _rounded(figure: Speed | Mixed | Weight | StageTime) -> dict[str, Any]:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(figure).items()}


def _gains(mixed: Mixed) -> dict[str, float]:
    return {"gain": round(mixed.gain, 2), "cpu_gain": round(mixed.cpu_gain, 2)}


if __name__ == "__main__":  # for machines without the command line's packages
    sys.exit(main())
