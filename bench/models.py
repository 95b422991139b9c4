"""`abhinaya bench models`: speed of the voters by batch size and length of the segments.

    abhinaya bench models                                     reduced sizes, on any machine
    abhinaya bench models --scale real --voters S1            WavLM-large: two CPU cores are enough
    abhinaya bench models --scale real --voters S1,S2,T2,ST1,S2+ST1+T2 --dtype bfloat16

Weights are random, so nothing is downloaded. S2+ST1+T2 runs the three one after the other on the
same segments; S2 and ST1 share one run of the encoders. T1 runs on a server and is not measured.

The last table compares sixteen segments of 0.5 to 2 s in one batch with one at a time. Padding is
the share of wasted work: a batch is padded to its longest segment, and SALMONN's audio to Whisper's
30 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from abhinaya.bench.random_voters import RandomVoter, RandomVoters, waves
from abhinaya.models.command_line import Parser
from abhinaya.models.inference import Place, place

VOTERS: Final = ("S1", "S2", "T2", "ST1", "S2+ST1+T2")
BATCHES: Final = (1, 4, 16, 64)
LENGTHS_S: Final = (1.0, 3.0, 5.0, 10.0)
Figure = tuple[str, dict[str, Any]]
MIXED_S: Final = tuple(float(s) for s in np.linspace(0.5, 2.0, 16))


def measure(voter: RandomVoter, asked: argparse.Namespace, where: Place) -> Iterator[Figure]:
    """Measure a voter at every length and batch size, and with mixed lengths.

    Times are of a whole batch. Yields `speed` and the figures, or `mixed` and the best times.
    """
    for length_s in asked.lengths:
        for batch in asked.batches:
            _time(voter, [length_s] * batch, [0, batch], where)  # one-time costs
            seeds = [[n, batch] for n in range(1, asked.repeats + 1)]
            times = [_time(voter, [length_s] * batch, seed, where) for seed in seeds]
            p50, p95 = (float(value) for value in np.percentile(times, [50, 95]))
            figures = {"p50_ms": 1000 * p50, "p95_ms": 1000 * p95, "segments_a_second": batch / p50}
            yield "speed", {"voter": voter.name, "length_s": length_s, "batch": batch, **figures}
    together, apart = [], []
    for seed in range(asked.repeats):
        alone = [_time(voter, [s], [seed, 0, n], where) for n, s in enumerate(MIXED_S)]
        apart.append(sum(alone))
        together.append(_time(voter, MIXED_S, [seed, 0, len(MIXED_S)], where))
    yield (
        "mixed",
        {
            "voter": voter.name,
            "together_ms": 1000 * min(together),
            "one_by_one_ms": 1000 * min(apart),
            "padding": padding_share(voter, MIXED_S),
            "padding_alone": float(np.mean([padding_share(voter, [s]) for s in MIXED_S])),
        },
    )


def padding_share(voter: RandomVoter, lengths_s: Sequence[float]) -> float:
    """Return the share of padding in a batch, 0 to 1."""
    window_s = voter.window_s or max(lengths_s)
    return 1 - sum(lengths_s) / (window_s * len(lengths_s))


def _time(
    voter: RandomVoter, lengths_s: Sequence[float], seed: Sequence[int], where: Place
) -> float:
    """Return the seconds that a batch takes, including its work on the GPU."""
    # The noise is new for each voter, because the shared encoders cache features.
    batch = waves(lengths_s, [zlib.crc32(voter.name.encode()), *seed])
    with torch.inference_mode():
        begun = time.perf_counter()
        voter.run(batch)  # the result is on the CPU, so the GPU has finished
        return time.perf_counter() - begun


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write JSON with --json."""
    asked = _parser().parse_args(argv)
    where = place(asked.device, asked.dtype)
    voters = RandomVoters(asked.scale, where, asked.merge, asked.trim)
    figures: list[Figure] = []
    for name in asked.voters:
        for figure in measure(voters.build(name), asked, where):
            figures.append(figure)
            if asked.lines:
                print(json.dumps(dict([figure])), flush=True)
    if not asked.lines:
        _report(figures, asked, where)
    return 0


def _report(figures: Sequence[Figure], asked: argparse.Namespace, where: Place) -> None:
    # Imported here: a GPU machine may lack its packages.
    from abhinaya.bench.report import Report, publish, settings_of, table_of

    speeds, mixed = ([f for kind, f in figures if kind == of] for of in ("speed", "mixed"))
    dtype, threads = str(where.dtype).removeprefix("torch."), torch.get_num_threads()
    settings = settings_of(asked) | {"device": str(where.device), "dtype": dtype}
    tables = [
        table_of(
            f"{asked.scale} sizes, {dtype} on {where.device}, {threads} threads",
            {
                "voter": "{0[voter]}",
                "length": "{0[length_s]:g} s",
                "batch": "{0[batch]}",
                "p50 ms": "{0[p50_ms]:.1f}",
                "p95 ms": "{0[p95_ms]:.1f}",
                "seg/s": "{0[segments_a_second]:.1f}",
            },
            speeds,
        ),
        table_of(
            f"{len(MIXED_S)} segments of mixed lengths, 0.5 to 2 s",
            {
                "voter": "{0[voter]}",
                "together ms": "{0[together_ms]:.1f}",
                "one by one ms": "{0[one_by_one_ms]:.1f}",
                "gain": lambda m: f"{m['one_by_one_ms'] / max(m['together_ms'], 1e-9):.1f} x",
                "padding": "{0[padding]:.0%}",
                "alone": "{0[padding_alone]:.0%}",
            },
            mixed,
        ),
    ]
    publish(Report("models", settings, {"speeds": speeds, "mixed": mixed}), tables, asked.json)


def _parser() -> Parser:
    parser = Parser("abhinaya bench models", __doc__)
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write figures and machine here")
    add("--lines", action="store_true", help="each figure as a line of JSON, no tables")
    add("--scale", choices=("tiny", "real"), default="tiny")
    add("--voters", type=_listed(_voter), default=VOTERS, help="with commas")
    add("--batches", type=_listed(_positive), default=BATCHES)
    add("--lengths", type=_listed(_seconds), default=LENGTHS_S, help="in seconds")
    add("--repeats", type=_positive, default=5)
    add("--device", default="auto")
    add("--dtype", default="auto")
    add("--trim", action="store_true", help="S2, ST1: drop tokens of padding")
    add("--merge", action="store_true", help="add LoRA to the weights")
    return parser


def _listed(one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def read(text: str) -> tuple[Any, ...]:
        return tuple(one(part) for part in text.split(","))

    return read


def _voter(text: str) -> str:
    if not set(text.split("+")) <= {"S1", "S2", "T2", "ST1"}:
        raise argparse.ArgumentTypeError(f"{text!r}: use S1, S2, T2, ST1, or some with +")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    if not 0.2 <= (value := float(text)) <= 30:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0.2 and 30 seconds")
    return value


if __name__ == "__main__":  # for machines without the command line's packages
    sys.exit(main())
